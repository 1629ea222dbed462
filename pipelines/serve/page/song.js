// A song, and the songs like it.

import { el, say } from "./dom.js";
import { get, post } from "./api.js";
import { combobox } from "./combobox.js";
import { chart, classes } from "./genres.js";
import { songList } from "./lists.js";
import { add } from "./listener.js";

const SHOWN = 20;

/** A field that finds songs. */
export function songSearch(options) {
  return combobox({
    hint: "Title or artist",
    find: async (text, signal) => (await get("/v1/search", { q: text, top: 8 }, signal)).songs,
    show: (song) => [el("span", { class: "title" }, song.title), el("span", { class: "artist" }, song.artist)],
    text: (song) => song.title,
    ...options,
  });
}

/** Draw the view of a song; of none, the search alone. What it returns draws the song anew. */
export async function songView(main, id, signal) {
  const search = songSearch({
    label: "A song or an artist",
    large: true,
    take: (song) => (location.hash = `song=${encodeURIComponent(song.song_id)}`),
  });
  const body = el("div", { class: "body" });
  main.replaceChildren(el("div", { class: "view" }, search, body));
  if (!id) {
    body.append(
      el("p", { class: "lead" }, "Type a few letters: the songs that the model holds for most alike appear, each with its genres and with what its score is made of."),
    );
    search.input.focus();
    return null;
  }
  const fill = () => show(body, id, signal);
  await fill();
  return fill;
}

async function show(body, id, signal) {
  const [list, found, mixed] = await Promise.all([
    classes(signal),
    get("/v1/similar", { song_id: id, top: SHOWN }, signal).catch((error) => ({ error })),
    post("/v1/mixtures", { song_ids: [id] }, signal),
  ]);
  if (found.error?.name === "AbortError") throw found.error;
  const song = found.like ?? (await get("/v1/song", { song_id: id }, signal));
  document.title = `${song.title} · fusionrec`;
  const mixture = mixed.songs[0];
  const key = encodeURIComponent(id);
  const plus = el("button", { onclick: () => { add(song); location.hash = "listener"; } }, "Play it to a listener");
  body.replaceChildren(
    el(
      "div",
      { class: "split" },
      el(
        "section",
        { class: "about", "aria-label": "The song" },
        el("h1", {}, song.title),
        el("p", { class: "by" }, song.artist),
        song.release && el("p", { class: "quiet" }, song.release),
        mixture ? chart(list.classes, mixture) : el("p", { class: "note" }, mixed.says ?? "Of this song the model knows no features."),
        el("p", { class: "acts" }, plus, el("a", { class: "button", href: `#map=${key}` }, "Show it on the map")),
      ),
      el(
        "section",
        { "aria-labelledby": "like" },
        el("h2", { id: "like" }, "Songs like it"),
        found.error ? el("p", { class: "note" }, found.error.message) : await songList(found, { like: id }, list.classes, signal),
      ),
    ),
  );
  say(`${song.title} by ${song.artist}: ${found.songs?.length ?? 0} songs like it`);
}
