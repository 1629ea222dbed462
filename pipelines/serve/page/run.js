// What the run read, what it left out and why, and how its lists were judged.

import { el, figure, percent, whole } from "./dom.js";
import { get } from "./api.js";

const ACTIONS = {
  dropped: "damaged: the row is lost",
  nulled: "a value is damaged or unknown: the row stays without it",
  unmatched: "well-formed, of something that the catalogue does not have",
  excluded: "well-formed, left out by rule",
};

const READ = {
  songs: "songs",
  songs_with_lyrics: "songs with lyrics",
  tracks_with_mbtags: "tracks with MusicBrainz tags",
  tracks_with_terms: "tracks with terms",
  users: "users",
  plays: "plays of these songs",
  other_plays: "plays of other songs",
};

const shown = (value) => {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return value ?? "–";
  return Number.isInteger(value) ? whole(value) : value.toPrecision(4);
};

function big(text, label, more) {
  return el("div", { class: "big" }, el("b", {}, text), el("span", {}, label), more && el("span", { class: "quiet" }, more));
}

function judged(of) {
  const interval = (pair) => (pair?.length === 2 ? `${figure(pair[0], 3)} to ${figure(pair[1], 3)}` : null);
  return el(
    "section",
    {},
    el("h2", {}, "How its lists were judged"),
    el(
      "div",
      { class: "bigs" },
      big(figure(of.map, 3), `mAP@${of.top}`, interval(of.map_interval)),
      big(of.lift === null ? "–" : `${figure(of.lift, 1)}×`, "chance", figure(of.random_map, 3)),
      big(figure(of.auc, 3), "AUC", interval(of.auc_interval)),
      of.test_accuracy !== null && of.test_accuracy !== undefined && big(percent(of.test_accuracy), "of test songs in their class", of.majority_share === null ? null : `the commonest class: ${percent(of.majority_share)}`),
      big(whole(of.users), "users", `${figure(of.relevant, 1)} relevant of ${whole(of.candidates)} songs`),
    ),
  );
}

/** Draw the view; what it returns draws it anew. */
export async function runView(main, signal) {
  const found = await get("/v1/report", {}, signal);
  const ingest = found.stages.find((each) => each.stage === "ingest")?.counts ?? {};
  const read = Object.entries(READ).filter(([name]) => ingest[name] !== undefined);
  document.title = "Run · fusionrec";
  const left = found.users_left_out;
  main.replaceChildren(
    el(
      "div",
      { class: "view" },
      el("h1", {}, "The run that is served"),
      el("p", { class: "quiet" }, `Lists by the model ${found.model}; result `, el("code", {}, found.result)),
      read.length > 0 && el("section", {}, el("h2", {}, "What was read"), el("div", { class: "bigs" }, read.map(([name, label]) => big(shown(ingest[name]), label)))),
      el(
        "section",
        {},
        el("h2", {}, "What was left out, and why"),
        found.rejects.length
          ? el(
              "div",
              { class: "scroll", tabindex: "0", role: "region", "aria-label": "What was left out" },
              el(
                "table",
                {},
                el("caption", {}, "Rows and values that ingest left out"),
                el("thead", {}, el("tr", {}, ["Reason", "What became of it"].map((text) => el("th", { scope: "col" }, text)), el("th", { scope: "col", class: "num" }, "How many"), el("th", { scope: "col" }, "For example"))),
                el(
                  "tbody",
                  {},
                  found.rejects.map((row) =>
                    el(
                      "tr",
                      {},
                      el("th", { scope: "row" }, row.reason),
                      el("td", { class: "quiet" }, ACTIONS[row.action] ?? row.action),
                      el("td", { class: "num strong" }, whole(row.count)),
                      el("td", { class: "examples" }, row.examples.map((each) => el("span", { class: "block", title: each.source ?? "" }, el("code", {}, each.item ?? ""), each.detail ? ` ${each.detail}` : ""))),
                    ),
                  ),
                ),
              ),
            )
          : el("p", { class: "note" }, "Nothing: every row of the source was read."),
        left.length > 0 && [el("h3", {}, "Users without a list in the evaluation"), el("ul", { class: "plain" }, left.map((each) => el("li", {}, el("b", {}, whole(each.users)), ` ${each.reason}`)))],
      ),
      found.evaluation ? judged(found.evaluation) : el("section", { class: "missing" }, el("h2", {}, "Not judged yet"), el("p", {}, "This result has no evaluation:"), el("pre", {}, el("code", {}, "fusionrec evaluate --config YOUR.yaml"))),
      el(
        "section",
        {},
        el("h2", {}, "What each stage counted"),
        el(
          "div",
          { class: "stages" },
          found.stages.map((each) =>
            el(
              "details",
              {},
              el("summary", {}, each.stage),
              el("dl", {}, Object.entries(each.counts).map(([name, value]) => el("div", {}, el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, shown(value))))),
            ),
          ),
        ),
      ),
    ),
  );
  return () => runView(main, signal);
}
