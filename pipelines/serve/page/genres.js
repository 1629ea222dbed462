// Classes of songs: their colours, shapes and names, and mixtures of them.

import { el, percent, svg } from "./dom.js";
import { get } from "./api.js";

export const COLOURS = 8;
export const SHAPES = 6;
const PAIRS = 24; // of colour and shape, before both begin again: from there on the shapes are moved by one
const SOLID = 48; // classes with all of a shape filled; as many more have its rim alone

// In a square of 16: circle, square, triangle, diamond, plus, triangle downwards.
const PATHS = [
  "M8 2a6 6 0 1 0 0 12a6 6 0 1 0 0-12z",
  "M2.8 2.8h10.4v10.4H2.8z",
  "M8 1.6l6.8 12.2H1.2z",
  "M8 .8L15.2 8L8 15.2L.8 8z",
  "M5.8 1.6h4.4v4.2h4.2v4.4h-4.2v4.2H5.8v-4.2H1.6V5.8h4.2z",
  "M8 14.4L1.2 2.2h13.6z",
];

/** The classes of what is served by now: [{number, tags, songs}], and why there are none. */
export const classes = (signal) => get("/v1/classes", {}, signal);

export const colour = (number) => `c${number % COLOURS}`;
export const shape = (number) => (number + Math.floor(number / PAIRS)) % SHAPES;
export const hollow = (number) => Math.floor(number / SOLID) % 2 === 1;
export const path = (number) => PATHS[shape(number)];

/** The sign of a class. */
export function sign(number) {
  return svg("svg", { class: `sign ${colour(number)}${hollow(number) ? " hollow" : ""}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: path(number) }));
}

/** What a class is called. */
export function called(list, number) {
  const tags = list[number]?.tags ?? [];
  return tags.length ? tags.join(", ") : `class ${number}`;
}

const ordered = (mixture) =>
  mixture.map((share, number) => ({ share, number })).sort((a, b) => b.share - a.share || a.number - b.number);

const LEAST = 0.02; // of a strip; the smaller ones are its rest

/** A mixture as one line: a bar of parts, and what most of it is. */
export function strip(list, mixture) {
  if (!mixture) return el("span", { class: "mix none" }, "no mixture");
  const parts = ordered(mixture).filter((part, i) => !i || part.share >= LEAST); // of many classes even the first may be small
  const words = parts.map((part) => `${called(list, part.number)} ${percent(part.share)}`).join("; ");
  return el(
    "span",
    { class: "mix" },
    el(
      "span",
      { class: "strip", role: "img", "aria-label": `Genres: ${words}`, title: words },
      parts.map((part) => el("i", { class: colour(part.number), vars: { "flex-grow": part.share } })),
      el("i", { class: "rest", vars: { "flex-grow": Math.max(0, 1 - parts.reduce((sum, part) => sum + part.share, 0)) } }),
    ),
    el("span", { class: "most", "aria-hidden": "true" }, sign(parts[0].number), el("span", {}, called(list, parts[0].number))),
  );
}

/** A mixture as a small chart, a line a class; a whole line is all of it. */
export function chart(list, mixture, most = 6) {
  const parts = ordered(mixture).slice(0, most).filter((part, i) => !i || part.share >= 0.005);
  const rest = 1 - parts.reduce((sum, part) => sum + part.share, 0);
  return el(
    "ul",
    { class: "chart" },
    parts.map((part) =>
      el(
        "li",
        {},
        sign(part.number),
        el("span", { class: "name" }, called(list, part.number)),
        el("span", { class: "num" }, percent(part.share)),
        el("span", { class: "bar" }, el("i", { class: colour(part.number), vars: { width: `${100 * part.share}%` } })),
      ),
    ),
    rest >= 0.005 && el("li", {}, el("span", { class: "sign" }), el("span", { class: "name quiet" }, "others"), el("span", { class: "num" }, percent(rest))),
  );
}
