// A newer result of the workspace: it is said, and what is shown is drawn anew, without what is typed or open being lost.

import { el, say, whole } from "./dom.js";
import { get } from "./api.js";

const LOOK = 10_000; // ms between looks
const WAIT = 300; // ms, while suggestions are open or a view is being loaded

const label = (node) => [node.tagName, node.getAttribute("aria-label") ?? node.getAttribute("href") ?? node.textContent].join(" ");

/** What is open and has the focus, and where it is scrolled to; returns what makes it so again. */
export function kept(main) {
  const focus = main.contains(document.activeElement) ? document.activeElement : null;
  const focused = focus && label(focus);
  const open = new Set([...main.querySelectorAll("[aria-expanded=true]:not([role=combobox])")].map(label));
  const details = new Map([...main.querySelectorAll("summary")].map((each) => [each.textContent, each.parentElement.open]));
  const { scrollX, scrollY } = window;
  return () => {
    for (const each of main.querySelectorAll("[aria-expanded=false]:not([role=combobox])")) if (open.has(label(each))) each.click();
    for (const each of main.querySelectorAll("summary")) each.parentElement.open = details.get(each.textContent) ?? each.parentElement.open;
    if (focus && document.activeElement !== focus) {
      const same = focus.isConnected ? focus : [...main.querySelectorAll(focus.tagName)].find((each) => label(each) === focused);
      (same ?? main).focus({ preventScroll: true });
    }
    window.scrollTo(scrollX, scrollY);
  };
}

/**
 * Look for newer results as long as the page is open.
 *
 * @param main     where a view is
 * @param again    what draws the view anew, if it can: () => async function or null
 */
export function watch(main, again) {
  const served = document.getElementById("served");
  const newer = document.getElementById("newer");
  let shown = null; // results and when they were read

  function head({ songs, model, result, loaded }) {
    const when = new Date(1000 * loaded).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
    served.textContent = `${whole(songs)} songs, ranked by ${model} · result ${result.slice(0, 8)}, read ${when}`;
    served.title = `Result ${result}`;
  }

  const busy = () => main.hasAttribute("aria-busy") || main.querySelector("[role=combobox][aria-expanded=true]");

  async function refresh() {
    while (busy()) await new Promise((resolve) => setTimeout(resolve, WAIT));
    const draw = again();
    if (!draw) return;
    const restore = kept(main);
    await draw();
    if (again() === draw) restore();
  }

  async function tell() {
    const note = (text, ...more) => {
      newer.replaceChildren(el("span", { role: "status" }, text), ...more, el("button", { onclick: () => (newer.hidden = true) }, "Close"));
      newer.hidden = false;
      say(text);
    };
    note("There is a newer result: reading it.");
    try {
      await refresh();
      note("There was a newer result: it is shown now.");
    } catch (error) {
      if (error.name === "AbortError") return tell(); // another view was opened meanwhile
      note(`There is a newer result; what is shown is of the one before. ${error.message}`, el("button", { onclick: tell }, "Try again"));
    }
  }

  async function look() {
    const health = await get("/v1/health").catch(() => null);
    if (!health) return;
    const of = JSON.stringify(health.results);
    // Replicas of the service take a result over one after the other: one that has not yet read it earlier.
    if (shown && (of === shown.of || health.loaded < shown.loaded)) return;
    const first = !shown;
    shown = { of, loaded: health.loaded };
    head(health);
    if (!first) await tell();
  }

  look();
  setInterval(() => document.hidden || look(), LOOK);
  document.addEventListener("visibilitychange", () => document.hidden || look());
  window.addEventListener("focus", look);
}
