// The catalogue as a map: points to pan, zoom and pick, with what lies beside them.

import { el, percent, say, whole } from "./dom.js";
import { bytes, get, post } from "./api.js";
import { called, classes, sign } from "./genres.js";
import { Grid } from "./grid.js";
import { legend } from "./legend.js";
import { drawMarks } from "./marks.js";
import { painter } from "./paint.js";
import { songSearch } from "./song.js";

const NEAR = 10; // pixels around the pointer in which a point is meant
const LEAST_ZOOM = 0.5;
const MOST_ZOOM = 400;
const LIKE = 12; // neighbours of a song that are marked

let kept = null;

/** About the map, and its points; asked for once a result. */
async function load(signal) {
  const about = await get("/v1/map", {}, signal);
  if (kept?.about.result === about.result) return kept;
  const { buffer, result } = await bytes("/v1/map/points", signal);
  const n = buffer.byteLength / 13; // two float32, a uint32 and a uint8 each
  const places = new Float32Array(buffer, 0, 2 * n);
  kept = {
    about: { ...about, result },
    n,
    places,
    songs: new Uint32Array(buffer, 8 * n, n),
    of: new Uint8Array(buffer, 12 * n, n),
    grid: new Grid(places),
    ends: ends(places),
  };
  return kept;
}

function ends(places) {
  const found = { left: Infinity, right: -Infinity, bottom: Infinity, top: -Infinity };
  for (let i = 0; i < places.length; i += 2) {
    found.left = Math.min(found.left, places[i]);
    found.right = Math.max(found.right, places[i]);
    found.bottom = Math.min(found.bottom, places[i + 1]);
    found.top = Math.max(found.top, places[i + 1]);
  }
  return places.length ? found : { left: -1, right: 1, bottom: -1, top: 1 };
}

/** Draw the view; `id` is a song to be marked, with those like it. What it returns draws it anew, as it lies. */
export async function mapView(main, id, signal) {
  let shown = await drawn(main, id, signal, null);
  return async () => {
    shown = await drawn(main, id, signal, shown);
  };
}

/** Draw it, in place of one that was drawn `before`, whose search, view and choices stay. */
async function drawn(main, id, ofView, before) {
  const [{ classes: list, says }, points] = await Promise.all([classes(ofView), load(ofView)]);
  const own = new AbortController();
  const signal = AbortSignal.any([ofView, own.signal]);
  const { about } = points;
  const canvas = el("canvas", {
    tabindex: "0",
    role: "application",
    "aria-label": `Map of ${whole(about.points)} songs. Arrows move, plus and minus zoom, Enter opens the song nearest to the middle, 0 shows all.`,
  });
  const marks = el("canvas", { class: "marks", "aria-hidden": "true" });
  const tip = el("div", { class: "tip", hidden: true });
  const card = el("div", { class: "card", "aria-live": "polite" });
  const stage = el("div", { class: "stage" }, canvas, marks, tip);
  const hidden = before?.hidden ?? new Set(); // classes off the map
  const lit = before?.lit ?? new Set(); // classes that stand out, the others grey
  const paint = painter(canvas, points);
  const view = before?.view ?? { x: 0, y: 0, zoom: 1 };
  let marked = [];
  let chosen = -1;
  let ringed = null; // where what is chosen lies
  let due = false;
  let frames = 0;

  const size = () => ({ w: stage.clientWidth, h: stage.clientHeight });
  const scale = () => (Math.min(size().w, size().h) / 2) * view.zoom;
  const toScreen = (x, y) => [size().w / 2 + (x - view.x) * scale(), size().h / 2 - (y - view.y) * scale()];
  const toPlace = (px, py) => [view.x + (px - size().w / 2) / scale(), view.y - (py - size().h / 2) / scale()];

  /** One frame for all that happens until it is drawn. */
  function draw() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      if (signal.aborted) return;
      const { w, h } = size();
      const dpr = Math.min(window.devicePixelRatio || 1, 2);
      for (const each of [canvas, marks]) {
        if (each.width !== Math.round(w * dpr) || each.height !== Math.round(h * dpr)) {
          each.width = Math.round(w * dpr);
          each.height = Math.round(h * dpr);
        }
      }
      paint.draw(view, scale(), dpr, hidden, lit);
      over(dpr);
      canvas.dataset.frames = String(++frames);
    });
  }

  function over(dpr) {
    const style = getComputedStyle(stage);
    const rings = marked.map((each, i) => {
      const [x, y] = toScreen(each.x, each.y);
      return { x, y, r: i ? 7 : 11, title: each.title };
    });
    if (ringed) {
      const [x, y] = toScreen(ringed.x, ringed.y);
      rings.push({ x, y, r: 9 });
    }
    drawMarks(marks.getContext("2d"), rings, {
      ...size(),
      dpr,
      font: style.fontFamily,
      ink: style.getPropertyValue("--ink"),
      paper: style.getPropertyValue("--paper"),
      cross: document.activeElement === canvas,
    });
  }

  function zoom(by, px = size().w / 2, py = size().h / 2) {
    const [x, y] = toPlace(px, py);
    view.zoom = Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, view.zoom * by));
    const [nx, ny] = toPlace(px, py);
    view.x += x - nx;
    view.y += y - ny;
    draw();
  }

  const near = (px, py, pixels = NEAR) => {
    const [x, y] = toPlace(px, py);
    return points.grid.nearest(x, y, pixels / scale(), (i) => !hidden.has(points.of[i]) && (!lit.size || lit.has(points.of[i])));
  };

  // --- songs of points

  const names = new Map();
  const nameOf = (i) => {
    if (!names.has(i)) {
      const asked = get("/v1/map/song", { number: points.songs[i], result: about.result }, signal).then((found) => found.song);
      asked.catch(() => names.delete(i));
      names.set(i, asked);
    }
    return names.get(i);
  };

  async function open(i) {
    chosen = i;
    ringed = { x: points.places[2 * i], y: points.places[2 * i + 1] };
    draw();
    try {
      const song = await nameOf(i);
      if (chosen === i) about_(song, points.of[i]);
    } catch (error) {
      if (error.name !== "AbortError") card.replaceChildren(el("p", { class: "note wrong" }, error.message));
    }
  }

  function about_(song, number) {
    const key = encodeURIComponent(song.song_id);
    card.replaceChildren(
      el("p", { class: "title" }, song.title),
      el("p", { class: "artist" }, song.artist),
      number < list.length && el("p", { class: "most" }, sign(number), called(list, number)),
      el("p", { class: "acts" }, el("a", { class: "button", href: `#song=${key}` }, "Songs like it"), el("a", { class: "button", href: `#map=${key}` }, "Mark those like it")),
    );
    card.dataset.song = song.song_id;
  }

  let hovering = 0;
  let meant = -1; // the point under the pointer: a name that comes late is not shown
  function hover(px, py) {
    clearTimeout(hovering);
    const i = near(px, py);
    meant = i;
    canvas.classList.toggle("over", i >= 0);
    if (i < 0) {
      tip.hidden = true;
      return;
    }
    hovering = setTimeout(async () => {
      const song = await nameOf(i).catch(() => null);
      if (!song || signal.aborted || meant !== i) return;
      const number = points.of[i];
      tip.replaceChildren(
        el("b", {}, song.title),
        el("span", { class: "artist" }, song.artist),
        number < list.length && el("span", { class: "most" }, sign(number), called(list, number)),
      );
      tip.hidden = false;
      const [x, y] = toScreen(points.places[2 * i], points.places[2 * i + 1]);
      tip.style.left = `${Math.min(x + 12, size().w - tip.offsetWidth - 4)}px`;
      tip.style.top = `${Math.max(4, y - tip.offsetHeight - 8)}px`;
    }, 60);
  }

  // --- pointers: one pans, two zoom

  const down = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (down.size === 1) moved = 0;
    else moved = Infinity;
  });
  canvas.addEventListener("pointermove", (event) => {
    const at = [event.offsetX, event.offsetY];
    const before = down.get(event.pointerId);
    if (!before) return hover(...at);
    clearTimeout(hovering);
    meant = -1;
    tip.hidden = true;
    if (down.size === 1) {
      view.x -= (at[0] - before[0]) / scale();
      view.y += (at[1] - before[1]) / scale();
      moved += Math.hypot(at[0] - before[0], at[1] - before[1]);
    } else if (down.size === 2) {
      const [other] = [...down].filter(([pointer]) => pointer !== event.pointerId).map(([, place]) => place);
      const gap = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1;
      zoom(gap(at) / gap(before), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
    }
    down.set(event.pointerId, at);
    draw();
  });
  const up = (event) => {
    if (!down.delete(event.pointerId) || moved > 4 || event.type !== "pointerup") return;
    const i = near(event.offsetX, event.offsetY);
    if (i >= 0) open(i);
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => {
    clearTimeout(hovering);
    meant = -1;
    tip.hidden = true;
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      zoom(2 ** (-event.deltaY / 300), event.offsetX, event.offsetY);
    },
    { passive: false },
  );

  /** All points, as large as they fit. */
  const all = () => {
    const { w, h } = size();
    const { left, right, bottom, top } = points.ends;
    const fits = Math.min(w / Math.max(right - left, 0.02), h / Math.max(top - bottom, 0.02));
    Object.assign(view, { x: (left + right) / 2, y: (bottom + top) / 2, zoom: (0.92 * fits * 2) / Math.min(w, h) });
    draw();
  };
  canvas.addEventListener("keydown", (event) => {
    const step = 40 / scale();
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key]) {
      view.x += moves[event.key][0];
      view.y += moves[event.key][1];
      draw();
    } else if (event.key === "+" || event.key === "=") zoom(1.4);
    else if (event.key === "-") zoom(1 / 1.4);
    else if (event.key === "0") all();
    else if (event.key === "Enter") {
      const i = near(size().w / 2, size().h / 2, 80);
      if (i >= 0) open(i);
    } else return;
    event.preventDefault();
  });
  for (const name of ["focus", "blur"]) canvas.addEventListener(name, draw);

  // --- what is beside it

  const search =
    before?.search ??
    songSearch({
      label: "Find on the map",
      take: (song) => (location.hash = `map=${encodeURIComponent(song.song_id)}`),
    });
  const classesOnIt = legend({ list, of: points.of, hidden, lit, changed: draw });
  const sampled = about.points < about.songs;
  const left = about.catalogue - about.songs;
  const active = document.activeElement;
  before?.end();
  main.replaceChildren(
    el(
      "div",
      { class: "view map" },
      el("h1", { class: "hidden" }, "Map"),
      stage,
      el(
        "aside",
        {},
        search,
        el(
          "p",
          { class: "zooms" },
          el("button", { "aria-label": "Zoom in", onclick: () => zoom(1.6) }, "+"),
          el("button", { "aria-label": "Zoom out", onclick: () => zoom(1 / 1.6) }, "−"),
          el("button", { onclick: all }, "All"),
        ),
        card,
        list.length > 0 && el("p", { class: "note" }, "Press a class to see it in colour and the others in grey; without its tick it is off the map."),
        classesOnIt,
        says && el("p", { class: "note" }, says),
        el(
          "p",
          { class: "note" },
          `${sampled ? `${whole(about.points)} of ${whole(about.songs)} songs, drawn at random, the same each time` : `${whole(about.points)} songs`}`,
          left > 0 ? `; ${whole(left)} have no features and no place.` : ".",
          ` Songs that lie near are alike in the two directions in which ${about.projected} differ most (PCA: ${percent(about.explained[0] + about.explained[1])} of the variance).`,
        ),
      ),
    ),
  );
  new ResizeObserver(draw).observe(stage);
  signal.addEventListener("abort", () => paint.end(), { once: true });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw, { signal });
  canvas.dataset.points = String(points.n);
  canvas.dataset.by = paint.by;
  document.title = "Map · fusionrec";
  if (search.contains(active)) active.focus({ preventScroll: true }); // it was moved with what is typed
  if (before) draw();
  else all();
  if (id) await mark();
  const picked = before?.card.dataset.song;
  if (picked && picked !== card.dataset.song) await pick(picked);
  return { search, view, hidden, lit, card, end: () => own.abort() };

  /** What was picked on the map before, where it lies by now. */
  async function pick(song_id) {
    const query = { song_ids: [song_id] };
    const [song, { places }] = await Promise.all([get("/v1/song", { song_id }, signal), post("/v1/map/places", query, signal)]);
    if (places[0]) ringed = places[0];
    about_(song, places[0]?.genre ?? 255);
    draw();
  }

  /** Mark a song and those like it, and show the part of the map where they are. */
  async function mark() {
    const found = await get("/v1/similar", { song_id: id, top: LIKE }, signal).catch((error) => {
      if (error.name === "AbortError") throw error;
      return null;
    });
    const song = found?.like ?? (await get("/v1/song", { song_id: id }, signal));
    const songs = [song, ...(found?.songs ?? [])];
    const { places } = await post("/v1/map/places", { song_ids: songs.map((each) => each.song_id) }, signal);
    marked = songs.map((each, i) => ({ ...each, ...places[i] })).filter((each) => Number.isFinite(each.x));
    if (!before) search.input.value = song.title;
    if (!places[0]) {
      card.replaceChildren(el("p", { class: "note" }, `${song.title}: the model knows no features of it, so that it has no place.`));
      return;
    }
    about_(song, places[0].genre ?? 255);
    if (before) return draw();
    view.x = places[0].x;
    view.y = places[0].y;
    const reach = Math.max(...marked.map((each) => Math.hypot(each.x - view.x, each.y - view.y)), 0.02);
    view.zoom = Math.min(20, Math.max(0.9, 0.8 / reach));
    say(`${song.title} is in the middle of the map, with ${marked.length - 1} songs like it marked`);
    draw();
  }
}
