// A user of the workspace, or one who is built from a few songs.

import { el, say, whole } from "./dom.js";
import { get, post } from "./api.js";
import { combobox } from "./combobox.js";
import { chart, classes } from "./genres.js";
import { songLine, songList } from "./lists.js";
import { songSearch } from "./song.js";

const SHOWN = 20;
const MOST = 40; // songs of a listener who is built: they are in the address

/** Songs of the listener who is built: {song_id: {song_id, title, artist, plays}}. */
const built = new Map();

/** Play a song to the listener who is built. */
export function add(song) {
  const known = built.get(song.song_id);
  if (!known && built.size >= MOST) return;
  built.set(song.song_id, { ...song, plays: (known?.plays ?? 0) + 1 });
}

const address = () => {
  const songs = [...built.values()].map((song) => `${encodeURIComponent(song.song_id)}*${song.plays}`);
  return songs.length ? `plays=${songs.join(",")}` : "listener";
};

/** What a song is called; one that the catalogue does not have, and users may have played, its id. */
const named = (id, signal) =>
  get("/v1/song", { song_id: id }, signal).catch((error) => {
    if (error.status === 404) return { song_id: id, title: `(${id})`, artist: "" };
    throw error;
  });

async function read(text, signal) {
  const wanted = text.split(",").filter(Boolean).slice(0, MOST).map((each) => {
    const at = each.lastIndexOf("*");
    const plays = Math.min(9999, Math.max(1, Number.parseInt(each.slice(at + 1), 10) || 1));
    return { id: decodeURIComponent(at < 0 ? each : each.slice(0, at)), plays };
  });
  const songs = await Promise.all(wanted.map(({ id }) => built.get(id) ?? named(id, signal)));
  built.clear();
  wanted.forEach(({ id, plays }, i) => built.set(id, { ...songs[i], plays }));
}

/** Draw the view: of a user (`user`), of plays (`plays`), or of who is being built. What it returns draws the list anew. */
export async function listenerView(main, { user, plays }, signal) {
  if (plays) await read(plays, signal);
  else if (!user && built.size) {
    history.replaceState(null, "", `#${address()}`);
  }
  const users = (text, signal_) => get("/v1/users", { q: text, top: 8 }, signal_).then((found) => found.users);
  users.open = true;
  const pick = combobox({
    label: "A user of the workspace",
    hint: "User id",
    find: users,
    show: (id) => el("span", {}, id),
    text: (id) => id,
    take: (id) => (location.hash = `user=${encodeURIComponent(id)}`),
  });
  if (user) pick.input.value = user;
  const result = el("div", { class: "result" });
  const chips = el("ul", { class: "chips", "aria-label": "Songs played" });
  const more = songSearch({
    label: "Or build one: play a song",
    keep: false,
    take: (song) => {
      if (user) built.clear();
      add(song);
      if (user) location.hash = address();
      else changed();
    },
  });
  main.replaceChildren(el("div", { class: "view" }, el("div", { class: "pickers" }, pick, more), chips, result));
  let asked = null;

  function draw() {
    chips.replaceChildren(
      ...[...built.values()].map((song) =>
        el(
          "li",
          { class: "chip" },
          el("a", { href: `#song=${encodeURIComponent(song.song_id)}` }, song.title),
          el("span", { class: "artist" }, song.artist),
          el(
            "span",
            { class: "steps" },
            el("button", { "aria-label": `One play less of ${song.title}`, onclick: () => step(song, -1) }, "−"),
            el("span", { class: "num", title: "plays" }, String(song.plays)),
            el("button", { "aria-label": `One play more of ${song.title}`, onclick: () => step(song, 1) }, "+"),
            el("button", { class: "away", "aria-label": `Without ${song.title}`, onclick: () => step(song, -Infinity) }, "×"),
          ),
        ),
      ),
    );
  }

  function step(song, by) {
    const plays_ = Math.min(9999, song.plays + by);
    if (plays_ < 1) built.delete(song.song_id);
    else built.set(song.song_id, { ...song, plays: plays_ });
    const at = [...chips.querySelectorAll("button")].indexOf(document.activeElement);
    changed();
    // The keyboard stays where it was, or goes on from the nearest chip that is left.
    const buttons = chips.querySelectorAll("button");
    if (at >= 0) (buttons[Math.min(at, buttons.length - 1)] ?? more.input).focus();
  }

  /** The list of now; that of before is not waited for. */
  function listNow() {
    asked?.abort();
    asked = new AbortController();
    return listBuilt(result, AbortSignal.any([signal, asked.signal]));
  }

  async function changed() {
    history.replaceState(null, "", `#${address()}`);
    draw();
    try {
      await listNow();
    } catch (error) {
      if (error.name !== "AbortError") result.replaceChildren(el("p", { class: "note wrong", role: "alert" }, error.message));
    }
  }

  const fill = () =>
    user
      ? listUser(result, user, signal)
      : listNow().catch((error) => {
          if (signal.aborted || error.name !== "AbortError") throw error; // else a newer one is asked for
        });
  if (!user) draw();
  await fill();
  return fill;
}

const plus = (song) =>
  el(
    "button",
    {
      "aria-label": `Play ${song.title} too`,
      title: "Play it to this listener",
      onclick: () => {
        add(song);
        location.hash = address();
      },
    },
    "+",
  );

async function listBuilt(result, signal) {
  if (!built.size) {
    document.title = "Listeners · fusionrec";
    result.replaceChildren(
      el("p", { class: "lead" }, "Pick a user, or play a few songs to nobody in particular, and see what the list becomes with each of them."),
    );
    return;
  }
  const plays = Object.fromEntries([...built.values()].map((song) => [song.song_id, song.plays]));
  const [list, found, mixed] = await Promise.all([
    classes(signal),
    post("/v1/lists", { plays, top: SHOWN }, signal),
    post("/v1/mixtures", { plays }, signal),
  ]);
  const lines = await songList(found, { plays }, list.classes, signal, plus);
  document.title = "A listener · fusionrec";
  const unused = found.unused + found.unknown;
  show(result, "This listener", mixed, list.classes, lines, [
    found.fallback
      ? el("p", { class: "note" }, "The model knows nothing of these songs: this is the list of most people.")
      : unused > 0 && el("p", { class: "note" }, `Of ${whole(unused)} of the songs the model knows nothing.`),
    built.size >= MOST && el("p", { class: "note" }, `These are ${MOST} songs, as many as an address holds: take one away to play another.`),
  ]);
  say(`The list has changed: first is ${found.songs[0]?.title ?? "nothing"}`);
}

async function listUser(result, user, signal) {
  const [list, found, mixed, played] = await Promise.all([
    classes(signal),
    get("/v1/lists", { user_id: user, top: SHOWN }, signal),
    post("/v1/mixtures", { user_id: user }, signal),
    get("/v1/history", { user_id: user, top: 12 }, signal),
  ]);
  const lines = await songList(found, { user_id: user }, list.classes, signal);
  document.title = `${user} · fusionrec`;
  const from = el(
    "button",
    {
      onclick: () => {
        built.clear();
        for (const song of played.played) built.set(song.song_id, song);
        location.hash = address();
      },
    },
    "Build on these songs",
  );
  show(result, user, mixed, list.classes, lines, [
    el(
      "details",
      { open: matchMedia("(min-width: 52rem)").matches },
      el("summary", {}, `Most played, of ${whole(played.songs)} songs`),
      el(
        "ul",
        { class: "heard" },
        played.played.map((song) => songLine(song, `${whole(song.plays)}×`)),
      ),
    ),
    played.played.length > 0 && el("p", { class: "acts" }, from),
  ]);
  say(`The list of ${user}`);
}

function show(result, name, mixed, genres, lines, more) {
  result.replaceChildren(
    el(
      "div",
      { class: "split" },
      el(
        "section",
        { class: "about", "aria-label": "The listener" },
        el("h1", { class: "user" }, name),
        el("h3", {}, "Genres of what was played"),
        mixed.user ? chart(genres, mixed.user) : el("p", { class: "note" }, mixed.says ?? "Of none of these songs the genres are known."),
        more,
      ),
      el("section", { "aria-labelledby": "for" }, el("h2", { id: "for" }, "Recommended"), lines),
    ),
  );
}
