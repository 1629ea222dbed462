// A list of songs, each with its genres, how well it matches and what its score is made of.

import { el, percent, signed, unique } from "./dom.js";
import { post } from "./api.js";
import { strip } from "./genres.js";

// A modality keeps its colour through a list.
const ORDER = [4, 0, 2, 1, 3, 5, 7, 6];

/** Parts by their size, whatever their sign: [{name, part, share}]. */
function parts(of) {
  const all = Object.entries(of);
  const size = all.reduce((sum, [, part]) => sum + Math.abs(part), 0) || 1;
  return all
    .map(([name, part]) => ({ name, part, share: Math.abs(part) / size }))
    .sort((a, b) => b.share - a.share);
}

function hue(names, name) {
  return `c${ORDER[names.indexOf(name) % ORDER.length]}`;
}

function shares(names, of) {
  const found = parts(of).filter((each) => each.share >= 0.005);
  found.sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name));
  const words = found.map((each) => `${each.name} ${each.part < 0 ? "against, " : ""}${percent(each.share)}`).join("; ");
  return el(
    "span",
    { class: "strip", role: "img", "aria-label": `Shares of modalities: ${words}`, title: words },
    found.map((each) =>
      el("i", { class: `${hue(names, each.name)}${each.part < 0 ? " minus" : ""}`, vars: { "flex-grow": each.share } }),
    ),
  );
}

function bars(title, of, names) {
  const found = parts(of).filter((each) => each.share >= 0.005);
  return el(
    "section",
    {},
    el("h4", {}, title),
    el(
      "ul",
      { class: "bars" },
      found.map((each) =>
        el(
          "li",
          {},
          el("span", { class: "name" }, each.name),
          el(
            "span",
            { class: "bar" },
            el("i", { class: `${names ? hue(names, each.name) : "plain"}${each.part < 0 ? " minus" : ""}`, vars: { width: `${100 * each.share}%` } }),
          ),
          el("span", { class: "num", title: `${signed(each.part)} of the score` }, `${each.part < 0 ? "−" : ""}${percent(each.share)}`),
        ),
      ),
    ),
  );
}

/** A line of a list: a song, which leads to its own view, and what is said of it. */
export const songLine = (song, says) =>
  el(
    "li",
    {},
    el(
      "span",
      { class: "name" },
      el("a", { href: `#song=${encodeURIComponent(song.song_id)}` }, song.title),
      " ",
      el("span", { class: "artist quiet" }, song.artist),
    ),
    el("span", { class: "num" }, says),
  );

function heard(songs) {
  const most = songs.filter((song) => song.share !== 0);
  if (!most.length) return null;
  return el(
    "section",
    {},
    el("h4", {}, "Songs played that add most"),
    el(
      "ul",
      { class: "heard" },
      most.map((song) => songLine(song, signed(song.share, 3))),
    ),
  );
}

const why = (reason, names) => [
  bars("Modalities", reason.modalities, names),
  bars("Signals", reason.signals),
  el("div", {}, bars("Kinds", reason.kinds), heard(reason.songs)),
];

/**
 * A list.
 *
 * @param found     the service's answer, with `songs` and what `match` says
 * @param of        whom it is for: {user_id}, {plays} or {like}
 * @param genres    the classes
 * @param actions   song => nodes beside a song
 */
export async function songList(found, of, genres, signal, actions = () => null) {
  const ids = found.songs.map((song) => song.song_id);
  if (!ids.length) return el("p", { class: "note" }, "The list is empty: no song is left to be listed.");
  const whyOf = found.fallback ? Promise.resolve({ reasons: ids.map(() => null) }) : post("/v1/reasons", { song_ids: ids, ...of }, signal);
  const [mixed, reasons] = await Promise.all([post("/v1/mixtures", { song_ids: ids }, signal), whyOf]);
  const names = [...new Set(reasons.reasons.flatMap((each) => (each ? Object.keys(each.modalities) : [])))];
  const rows = found.songs.map((song, i) => {
    const reason = reasons.reasons[i];
    const id = unique("why");
    const detail = el("div", { id, class: "why", hidden: true });
    const button = el(
      "button",
      {
        class: "why-button",
        "aria-expanded": "false",
        "aria-controls": id,
        "aria-label": `Why ${song.title}`,
        onclick: () => {
          if (!detail.childNodes.length) detail.append(...why(reason, names));
          detail.hidden = !detail.hidden;
          button.setAttribute("aria-expanded", String(!detail.hidden));
        },
      },
      "Why",
    );
    return el(
      "li",
      { class: "song", "data-song": song.song_id },
      el("span", { class: "rank" }, String(song.rank)),
      el(
        "span",
        { class: "called" },
        el("a", { class: "title", href: `#song=${encodeURIComponent(song.song_id)}` }, song.title),
        el("span", { class: "artist" }, song.artist),
      ),
      strip(genres, mixed.songs[i]),
      reason ? shares(names, reason.modalities) : el("span", { class: "strip empty" }),
      el(
        "span",
        { class: "match", title: `match ${song.match.toFixed(3)}, score ${song.score.toPrecision(5)}` },
        el("span", { class: "hidden" }, "match "),
        song.match.toFixed(2),
        el("i", { vars: { "--share": song.match } }),
      ),
      el("span", { class: "does" }, reason && button, actions(song)),
      detail,
    );
  });
  return el(
    "div",
    { class: "list" },
    el(
      "p",
      { class: "head", "aria-hidden": "true" },
      el("span", { class: "rank" }),
      el("span", {}, "Song"),
      el("span", {}, "Genres"),
      el(
        "span",
        { class: "keys" },
        el("b", {}, "Score, by modality"),
        names.map((name) => el("span", {}, el("i", { class: `dot ${hue(names, name)}` }), name)),
      ),
      el("span", { class: "match" }, "Match"),
      el("span", { class: "does" }),
    ),
    el("ol", {}, rows),
    el("p", { class: "note" }, el("b", {}, "Match: "), `${found.match}.`),
    mixed.says && el("p", { class: "note" }, mixed.says),
  );
}
