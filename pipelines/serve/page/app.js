// The page: its views by what stands behind the # of its address.

import { el, whole } from "./dom.js";
import { get } from "./api.js";
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
  const before = main.firstElementChild;
  try {
    // Plays are several ids, each of which is decoded by itself.
    await VIEWS[view](main, view === "plays" ? value : decodeURIComponent(value ?? ""), signal);
    window.scrollTo(0, 0);
  } catch (error) {
    if (signal.aborted) return;
    const text = error instanceof URIError ? "This address is not well-formed." : error.message;
    const problem = el("p", { class: "note wrong", role: "alert" }, text);
    const body = main.querySelector(".result, .body");
    if (body && main.firstElementChild !== before) body.replaceChildren(problem);
    else main.replaceChildren(el("div", { class: "view" }, problem));
  }
  if (signal.aborted) return;
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
get("/v1/health")
  .then((health) => {
    document.getElementById("served").textContent = `${whole(health.songs)} songs, ranked by ${health.model}`;
  })
  .catch(() => {});
show();
