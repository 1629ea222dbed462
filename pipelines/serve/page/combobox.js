// A search field with suggestions (the ARIA combobox pattern): arrows choose, Enter takes, Escape closes.

import { el, say, unique } from "./dom.js";

const WAIT = 120; // ms after a key, so that not each letter is a question

/**
 * @param label    what is to be typed
 * @param find     (text, signal) => list of options
 * @param show     option => nodes of a line
 * @param take     called with the option that is chosen
 * @param keep     whether the text stays after one is taken
 */
export function combobox({ label, hint, find, show, text, take, keep = true, large = false }) {
  const list = unique("options");
  const input = el("input", {
    id: unique("search"),
    type: "text",
    role: "combobox",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    placeholder: hint,
    "aria-expanded": "false",
    "aria-controls": list,
    "aria-autocomplete": "list",
  });
  const box = el("ul", { id: list, role: "listbox", "aria-label": label, hidden: true });
  const node = el(
    "div",
    { class: large ? "combo large" : "combo" },
    el("label", { for: input.id }, label),
    input,
    box,
  );
  let options = [];
  let at = -1;
  let timer = 0;
  let asked = null;
  let typed = null; // what the options are of

  function close() {
    clearTimeout(timer);
    asked?.abort();
    box.hidden = true;
    at = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function mark(number) {
    at = number;
    [...box.children].forEach((line, i) => line.setAttribute("aria-selected", String(i === at)));
    if (at < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", box.children[at].id);
    box.children[at].scrollIntoView({ block: "nearest" });
  }

  function choose(option) {
    input.value = keep ? text(option) : "";
    typed = input.value;
    close();
    take(option);
  }

  async function search() {
    asked?.abort();
    asked = new AbortController();
    const words = input.value;
    try {
      options = await find(words, asked.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      [options, typed] = [[], null];
      box.replaceChildren(el("li", { class: "none" }, error.message));
      box.hidden = false;
      mark(-1);
      input.setAttribute("aria-expanded", "false");
      say(error.message);
      return;
    }
    typed = words;
    box.replaceChildren(
      ...(options.length
        ? options.map((option) =>
            el(
              "li",
              {
                id: unique("option"),
                role: "option",
                "aria-selected": "false",
                onmousedown: (event) => event.preventDefault(), // the field keeps the focus
                onclick: () => choose(option),
              },
              show(option),
            ),
          )
        : [el("li", { class: "none" }, words.trim() ? `Nothing is called “${words}”.` : "There is none.")]),
    );
    box.hidden = false;
    input.setAttribute("aria-expanded", String(options.length > 0));
    mark(-1);
    say(`${options.length || "no"} suggestions`);
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    if (input.value.trim()) timer = setTimeout(search, WAIT);
    else close();
  });
  input.addEventListener("focus", () => {
    if (!input.value.trim() && find.open) search();
  });
  input.addEventListener("blur", () => setTimeout(close, 0));
  input.addEventListener("keydown", async (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      if (!input.value.trim() && !find.open) return;
      clearTimeout(timer);
      if (box.hidden || typed !== input.value) await search();
      if (typed === input.value && !box.hidden && options.length) mark((at + step + options.length + (at < 0 && step < 0)) % options.length);
    } else if (event.key === "Enter" && (input.value.trim() || at >= 0)) {
      event.preventDefault();
      clearTimeout(timer);
      if (box.hidden || typed !== input.value) await search();
      // Without what was typed since, or after the field was left, nothing is meant by it.
      if (typed === input.value && !box.hidden && options.length) choose(options[Math.max(at, 0)]);
    } else if (event.key === "Escape") {
      close();
    }
  });
  node.input = input;
  return node;
}
