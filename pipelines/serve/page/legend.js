// The classes on the map: each is taken off it by its box, and stands out from the others by its button.

import { el, say, whole } from "./dom.js";
import { called, sign } from "./genres.js";

/**
 * The legend.
 *
 * @param list      the classes
 * @param of        class of each point, 255 for none
 * @param hidden    classes that are off the map, which this changes
 * @param lit       classes that stand out, the others grey, which this changes; none: all are in colour
 * @param changed   called when either has changed
 */
export function legend({ list, of, hidden, lit, changed }) {
  const counts = new Array(256).fill(0);
  for (const each of of) counts[each] += 1;
  const label = (number) => (number < list.length ? called(list, number) : "no class");

  function show() {
    for (const line of node.children) {
      const number = Number(line.dataset.number);
      line.querySelector("input").checked = !hidden.has(number);
      line.querySelector("button").setAttribute("aria-pressed", String(lit.has(number)));
      line.classList.toggle("grey", lit.size > 0 && !lit.has(number));
    }
  }

  function change() {
    show();
    changed();
    say(lit.size ? `In colour: ${[...lit].map(label).join("; ")}` : "All classes are in colour");
  }

  function choose(number) {
    if (!lit.delete(number)) {
      lit.add(number);
      hidden.delete(number);
    }
    change();
  }

  const line = (number) =>
    el(
      "li",
      { "data-number": number },
      el("input", {
        type: "checkbox",
        "aria-label": `On the map: ${label(number)}`,
        onchange: (event) => {
          if (event.target.checked) hidden.delete(number);
          else hidden.add(number);
          changed();
        },
      }),
      el(
        "button",
        { onclick: () => choose(number) },
        number < list.length ? sign(number) : el("i", { class: "dot none" }),
        el("span", { class: "name" }, label(number)),
        el("span", { class: "num" }, whole(counts[number])),
      ),
    );
  const node = el(
    "ul",
    {
      class: "legend",
      "aria-label": "Classes",
      onkeydown: (event) => {
        if (event.key !== "Escape" || !lit.size) return;
        lit.clear();
        change();
      },
    },
    [...counts.keys()].filter((number) => counts[number]).map(line),
  );
  for (const each of lit) if (!counts[each]) lit.delete(each); // of an earlier result
  show();
  return node;
}
