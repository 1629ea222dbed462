// The page: its views by what stands behind the # of its address.

import { el, say } from "./dom.js";
import { making } from "./api.js";
import { watch } from "./newer.js";
import { songView } from "./song.js";
import { listenerView } from "./listener.js";
import { mapView } from "./map.js";
import { resultsView } from "./results.js";
import { runView } from "./run.js";

const main = document.getElementById("main");
let shown = new AbortController();

const VIEWS = {
  song: songView,
  listener: (place, _, signal) => listenerView(place, {}, signal),
  user: (place, user, signal) => listenerView(place, { user }, signal),
  plays: (place, plays, signal) => listenerView(place, { plays }, signal),
  map: mapView,
  comparison: (place, _, signal) => resultsView(place, signal),
  run: (place, _, signal) => runView(place, signal),
};
/** How a view draws itself anew, in its place: what is typed stays. */
let again = null;
const TAB = { user: "listener", plays: "listener" };

async function show() {
  shown.abort();
  shown = new AbortController();
  const { signal } = shown;
  const [, name, value] = /^#?([a-z]*)=?(.*)$/s.exec(location.hash) ?? [];
  const view = Object.hasOwn(VIEWS, name) ? name : "song";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === (TAB[view] ?? view)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = "fusionrec";
  main.setAttribute("aria-busy", "true");
  main.dataset.view = "";
  again = null;
  const before = main.firstElementChild;
  /** Instead of what the view is to show. */
  const instead = (node) => {
    const body = main.querySelector(".result, .body");
    if (body && main.firstElementChild !== before) body.replaceChildren(node);
    else main.replaceChildren(el("div", { class: "view instead" }, node));
  };
  making.show = (text) => {
    if (signal.aborted || !main.hasAttribute("aria-busy")) return; // else there is something to see meanwhile
    if (main.querySelector(".making")?.dataset.of !== text) {
      instead(el("p", { class: "lead making", "data-of": text }, `${text[0].toUpperCase()}${text.slice(1).replace(": come again", "")}. It is shown when it is there.`));
      say(text.replace(": come again", ""));
    }
  };
  let drawn = null;
  try {
    // Plays are several ids, each of which is decoded by itself.
    drawn = await VIEWS[view](main, view === "plays" ? value : decodeURIComponent(value ?? ""), signal);
    if (!signal.aborted) window.scrollTo(0, 0);
  } catch (error) {
    if (signal.aborted) return;
    drawn = show; // all of it: there is nothing to keep
    const text = error instanceof URIError ? "This address is not well-formed." : error.message;
    instead(el("p", { class: "note wrong", role: "alert" }, text));
  }
  if (signal.aborted) return;
  again = drawn;
  main.removeAttribute("aria-busy");
  main.dataset.view = view;
  // What had the focus may be gone: the next Tab is to go into the view.
  if (document.activeElement === document.body) main.focus({ preventScroll: true });
}

window.addEventListener("hashchange", show);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
show();
watch(main, () => again);
