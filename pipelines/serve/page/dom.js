// Elements. What comes from data is only ever text: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An element with attributes, listeners (`onclick`), custom properties (`vars`) and children. */
export const el = (tag, props, ...children) => filled(document.createElement(tag), props, children);

/** The same of SVG. */
export const svg = (tag, props, ...children) => filled(document.createElementNS(SVG, tag), props, children);

/** Tell who listens to a screen reader. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

let last = 0;
export const unique = (stem) => `${stem}-${++last}`;

export const whole = (n) => Math.round(n).toLocaleString("en");
export const percent = (share) => `${Math.round(100 * share)} %`;
export const figure = (x, digits = 4) => (x === null || x === undefined ? "–" : x.toFixed(digits));
export const signed = (x, digits = 4) =>
  x === null || x === undefined ? "–" : `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(digits)}`;
