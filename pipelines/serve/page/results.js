// The comparison of methods and the ladder: tables whose intervals are drawn beside the numbers.

import { el, figure, signed, svg, whole } from "./dom.js";
import { get } from "./api.js";

const WIDE = 260;
const HIGH = 26;
const PAD = 14;

/** A scale from values to pixels, and its round ticks. */
function scaled(values) {
  const low = Math.min(0, ...values);
  const high = Math.max(...values, low + 1e-9);
  const step = [1, 2, 5, 10].map((m) => m * 10 ** Math.floor(Math.log10((high - low) / 4))).find((s) => (high - low) / s <= 5);
  const top = Math.ceil(high / step - 1e-9) * step;
  const base = Math.floor(low / step + 1e-9) * step;
  const ticks = [];
  for (let t = base; t <= top + step / 2; t += step) ticks.push(t);
  return { x: (value) => PAD + ((value - base) / (top - base)) * (WIDE - 2 * PAD), ticks, digits: Math.max(0, -Math.floor(Math.log10(step))) };
}

function interval({ scale, value, low, high, kind, level }) {
  const y = HIGH / 2;
  const marks = scale.ticks.map((t) => svg("line", { class: "tick", x1: scale.x(t), x2: scale.x(t), y1: 0, y2: HIGH }));
  const at = scale.x(value);
  const shape =
    kind === "square"
      ? svg("rect", { class: "dot square", x: at - 4.2, y: y - 4.2, width: 8.4, height: 8.4 })
      : svg("circle", { class: `dot ${kind ?? ""}`, cx: at, cy: y, r: 4.6 });
  return svg(
    "svg",
    { class: "interval", viewBox: `0 0 ${WIDE} ${HIGH}`, "aria-hidden": "true" },
    marks,
    level !== undefined && level !== null ? svg("line", { class: "level", x1: scale.x(level), x2: scale.x(level), y1: 0, y2: HIGH }) : null,
    Number.isFinite(low) && svg("path", { class: `whisker ${kind ?? ""}`, d: `M${scale.x(low)} ${y}H${scale.x(high)}M${scale.x(low)} ${y - 4}v8M${scale.x(high)} ${y - 4}v8` }),
    shape,
  );
}

function axis(scale) {
  return svg(
    "svg",
    { class: "interval axis", viewBox: `0 0 ${WIDE} 18`, "aria-hidden": "true" },
    scale.ticks.map((t) => svg("text", { x: scale.x(t), y: 13, "text-anchor": "middle" }, t.toFixed(scale.digits))),
  );
}

const range = (low, high, digits = 4) => (low === null ? "–" : `${figure(low, digits)} to ${figure(high, digits)}`);

function table(caption, head, rows) {
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, head.map(([text, kind]) => el("th", { scope: "col", class: kind }, text)))),
      el("tbody", {}, rows),
    ),
  );
}

const seeds = (row) => (row.spread === null ? String(row.seeds ?? 1) : `${row.seeds} ± ${figure(row.spread)}`);

function compared(split) {
  const ok = split.rows.filter((row) => Number.isFinite(row.average_precision));
  const scale = scaled(ok.flatMap((row) => [row.average_precision, row.high ?? 0]));
  const rows = split.rows.map((row) =>
    el(
      "tr",
      { class: row.reference ? "reference" : row.name === split.against ? "against" : "" },
      el("th", { scope: "row" }, row.name, row.reference && el("span", { class: "tag" }, "sees the answers"), row.name === split.against && el("span", { class: "tag" }, "compared with")),
      el("td", { class: "num strong" }, figure(row.average_precision)),
      el("td", { class: "drawn" }, Number.isFinite(row.average_precision) && interval({ scale, value: row.average_precision, low: row.low, high: row.high, kind: row.reference ? "hollow" : "", level: split.random_level })),
      el("td", { class: "num" }, range(row.low, row.high)),
      el("td", { class: "num" }, seeds(row)),
      el("td", { class: "num" }, row.lift === null ? "–" : `${row.lift.toFixed(2)}×`),
      el("td", { class: "num" }, figure(row.auc, 3)),
      el("td", { class: "num" }, figure(row.recall, 3)),
      el("td", { class: "num" }, figure(row.ndcg, 3)),
      el("td", { class: "num" }, row.difference ? `${signed(row.difference.difference)}` : "–", row.difference && el("span", { class: "quiet" }, ` ${signed(row.difference.low)} to ${signed(row.difference.high)}`)),
      el("td", { class: "num" }, row.difference ? figure(row.difference.p, 3) : "–"),
      el("td", { class: "num" }, row.published ? [figure(row.published.value, 5), el("span", { class: "quiet block" }, row.published.by)] : "–"),
    ),
  );
  const left = Object.entries(split.users_left_out).filter(([, n]) => n > 0);
  return el(
    "section",
    {},
    el("h2", {}, `Split by ${split.by}`),
    el("p", { class: "quiet" }, `${whole(split.rankings)} rankings of ${whole(split.users)} users, ${figure(split.candidates, 1)} candidates each, of which ${figure(split.relevant, 2)} are relevant, on average. The dashed line is what chance reaches (${figure(split.random_level)}). Folds tested: ${split.folds.join(", ")}${split.cuts > 1 ? `, of ${split.cuts} cuts of the songs` : ""}.`),
    table(
      `Methods compared, split by ${split.by}`,
      [["Method", ""], ["mAP@500", "num"], ["", "drawn"], ["95 % interval", "num"], ["Seeds ± sd", "num"], ["Over chance", "num"], ["AUC", "num"], ["Recall", "num"], ["NDCG", "num"], [`Difference to ${split.against}`, "num"], ["p (Holm)", "num"], ["Published", "num"]],
      [...rows, el("tr", { class: "scale" }, el("td", { colspan: "2" }), el("td", { class: "drawn" }, axis(scale)), el("td", { colspan: "9" }))],
    ),
    split.external.length > 0 && el("ul", { class: "plain external" }, split.external.map((text) => el("li", {}, text))),
    Object.keys(split.failed).length > 0 && [el("h3", {}, "Not computed"), el("ul", { class: "plain" }, Object.entries(split.failed).map(([name, why]) => el("li", {}, el("b", {}, name), ` ${why}`)))],
    Object.keys(split.ceilings).length > 0 &&
      el("p", { class: "note" }, "Ceiling, the mAP of knowing every song's class and how each user likes each class: ", Object.entries(split.ceilings).map(([k, of]) => `${k} classes ${figure(of)}`).join("; "), "."),
    left.length > 0 && el("p", { class: "note" }, "Users left out, summed over folds: ", left.map(([why, n]) => `${why} ${whole(n)}`).join("; "), "."),
  );
}

function laddered(split) {
  const scale = scaled(split.rungs.flatMap((rung) => [rung.average_precision, rung.high ?? 0]));
  const rows = split.rungs.map((rung) =>
    el(
      "tr",
      { class: rung.beside ? "reference" : "" },
      el("td", { class: "num" }, String(rung.rung)),
      el("th", { scope: "row" }, rung.change, el("span", { class: "quiet block" }, rung.name), rung.beside && el("span", { class: "tag" }, "beside the ladder")),
      el("td", {}, rung.context === "none" ? "content" : rung.context),
      el("td", { class: "num strong" }, figure(rung.average_precision)),
      el("td", { class: "drawn" }, interval({ scale, value: rung.average_precision, low: rung.low, high: rung.high, kind: rung.context === "none" ? (rung.beside ? "hollow" : "") : "square" })),
      el("td", { class: "num" }, range(rung.low, rung.high)),
      el("td", { class: "num" }, rung.ratio === null ? "–" : `${rung.ratio.toFixed(2)}×`),
      el("td", { class: "num" }, signed(rung.difference), rung.difference !== null && el("span", { class: "quiet" }, ` ${signed(rung.difference_low)} to ${signed(rung.difference_high)}`)),
      el("td", { class: "num" }, figure(rung.p_holm, 3)),
    ),
  );
  return el(
    "section",
    {},
    el("h2", {}, `Ladder, split by ${split.by}`),
    el("p", { class: "quiet" }, "Each rung changes one thing of the rung before it; the difference is paired over the same users and songs. A rung in italics is beside the ladder: none is compared with it. A square knows what others say of the artist, a circle hears the songs alone."),
    table(
      `The ladder, split by ${split.by}`,
      [["", "num"], ["Change", ""], ["Knows", ""], ["mAP@500", "num"], ["", "drawn"], ["95 % interval", "num"], ["Times the first", "num"], ["Difference", "num"], ["p (Holm)", "num"]],
      [...rows, el("tr", { class: "scale" }, el("td", { colspan: "4" }), el("td", { class: "drawn" }, axis(scale)), el("td", { colspan: "4" }))],
    ),
  );
}

const missing = (what, command, does) =>
  el(
    "section",
    { class: "missing" },
    el("h2", {}, what),
    el("p", {}, does),
    el("pre", {}, el("code", {}, `${command} --config YOUR.yaml`)),
  );

/** Draw the view; what it returns draws it anew. */
export async function resultsView(main, signal) {
  const [comparison, ladder] = await Promise.all([get("/v1/comparison", {}, signal), get("/v1/ladder", {}, signal)]);
  document.title = "Comparison · fusionrec";
  const out = Object.entries(ladder.left_out);
  main.replaceChildren(
    el(
      "div",
      { class: "view" },
      el("h1", {}, "Methods compared"),
      el("p", { class: "quiet" }, "Protocol oord: plays of test songs are hidden from every model, and all test songs are ranked. Intervals are of a bootstrap over users and over songs (or artists, by the split) at once. Published figures are of other songs and users, and can not be compared in size."),
      comparison.make ? missing("No comparison yet", comparison.make, "This workspace has none. The command runs every method on the same folds and users, and this page shows the table when it is done:") : comparison.splits.map(compared),
      ladder.make ? missing("No ladder yet", ladder.make, "From the paper's method to the best one, one change a rung. To make it:") : ladder.splits.map(laddered),
      out.length > 0 && [el("h3", {}, "Rungs left out"), el("ul", { class: "plain" }, out.map(([name, why]) => el("li", {}, el("b", {}, name), ` ${why}`)))],
    ),
  );
  return () => resultsView(main, signal);
}
