"""The map of all songs: what is drawn, and what a pointer finds."""

from __future__ import annotations

import time

import numpy as np

from pipelines.serve.shown import Pages
from pipelines.serve.song_map import SongMap
from tests.pipelines.serve.page.browsing import NEEDED, SECONDS, Driver, go, named, until

pytestmark = NEEDED


def _drawn(page: Driver) -> int:
    """Pixels of the map that are not its ground."""
    return page.execute_script(
        """
        const from = document.querySelector('.stage canvas');
        const to = document.createElement('canvas');
        [to.width, to.height] = [from.width, from.height];
        const c = to.getContext('2d');
        c.drawImage(from, 0, 0);
        const data = new Uint32Array(c.getImageData(0, 0, to.width, to.height).data.buffer);
        return data.reduce((n, pixel) => n + (pixel !== data[0]), 0);
        """
    )


def _pointer(page: Driver, kind: str, x: float, y: float) -> None:
    page.execute_cdp_cmd(
        "Input.dispatchMouseEvent",
        {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1},
    )


def test_the_map_is_drawn_and_a_click_picks_the_song_there(page, app) -> None:
    go(page, app, "map")
    until(page, "return document.querySelector('.stage canvas').dataset.frames")
    pages: Pages = app.state.pages
    shown = pages.shown
    assert shown is not None
    points = shown.map
    assert (
        page.execute_script("return document.querySelector('.stage canvas').dataset.by") == "webgl"
    )
    some = _drawn(page)
    assert some > 20 * len(points.rows)

    # The point that is farthest from all others is where the fitted map says.
    gaps = np.linalg.norm(points.places[:, None] - points.places[None], axis=2)
    lonely = int((gaps + 9 * np.eye(len(gaps))).min(axis=1).argmax())
    left, bottom = points.places.min(axis=0)
    right, top = points.places.max(axis=0)
    box = page.execute_script(
        "const b = document.querySelector('.stage canvas').getBoundingClientRect();"
        "return [b.left, b.top, b.width, b.height]"
    )
    scale = 0.92 * min(box[2] / (right - left), box[3] / (top - bottom))
    x = box[0] + box[2] / 2 + (points.places[lonely, 0] - (left + right) / 2) * scale
    y = box[1] + box[3] / 2 - (points.places[lonely, 1] - (bottom + top) / 2) * scale
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        _pointer(page, kind, float(x), float(y))
    song = named(app, int(points.rows[lonely]))
    until(
        page,
        "return document.querySelector('.card').dataset.song === arguments[0]",
        song["song_id"],
    )

    for box_of in page.find_elements("css selector", ".legend input"):
        box_of.click()  # without any class there is nothing to see
    until(page, "return Number(document.querySelector('.stage canvas').dataset.frames) > 2")
    end = time.monotonic() + SECONDS
    while _drawn(page) and time.monotonic() < end:
        time.sleep(0.05)
    assert _drawn(page) == 0


def test_a_map_of_100_000_songs_draws_once_a_frame_while_it_is_panned(page, app) -> None:
    shown = app.state.pages.shown
    assert shown is not None
    real = shown.map
    n = 100_000
    rng = np.random.default_rng(0)
    shown.map = SongMap(
        np.arange(n, dtype=np.uint32),
        rng.uniform(-1, 1, (n, 2)).astype(np.float32),
        rng.integers(0, 8, n).astype(np.uint8),
        real.explained,
        n,
        real.mean,
        real.axes,
    )
    try:
        page.get("about:blank")
        go(page, app, "map")
        canvas = "document.querySelector('.stage canvas')"
        until(page, f"return {canvas}.dataset.frames")
        assert page.execute_script(f"return {canvas}.dataset.points") == str(n)
        assert _drawn(page) > 100_000
        moves, frames, shown_frames = page.execute_async_script(
            """
            const done = arguments[0];
            const canvas = document.querySelector('.stage canvas');
            canvas.setPointerCapture = () => {};
            const point = (type, x) => canvas.dispatchEvent(new PointerEvent(type, {
              pointerId: 7, clientX: 400 + x, clientY: 300, bubbles: true }));
            const before = Number(canvas.dataset.frames);
            let moves = 0, shown = 0;
            point('pointerdown', 0);
            const step = () => {
              if (++shown > 30) {
                point('pointerup', 500);
                return done([moves, Number(canvas.dataset.frames) - before, shown]);
              }
              for (let i = 0; i < 8; i++) point('pointermove', ++moves); // a fast mouse
              requestAnimationFrame(step);
            };
            requestAnimationFrame(step);
            """
        )
        assert moves == 240
        assert 28 <= frames <= shown_frames  # each frame of the screen, and no more
        looked = page.execute_async_script(
            """
            const done = arguments[0];
            const points = fetch('/v1/map/points').then((r) => r.arrayBuffer());
            Promise.all([import('/page/grid.js'), points])
              .then(([{ Grid }, buffer]) => {
                const places = new Float32Array(buffer, 0, 200000);
                const grid = new Grid(places);
                let wrong = 0, most = 0;
                for (let q = 0; q < 20; q++) {
                  const [x, y] = [Math.sin(q), Math.cos(3 * q)];
                  let looked = 0, best = -1, least = 0.03 ** 2;
                  const found = grid.nearest(x, y, 0.03, () => (looked++, true));
                  for (let i = 0; i < 100000; i++) {
                    const d = (places[2 * i] - x) ** 2 + (places[2 * i + 1] - y) ** 2;
                    if (d <= least) { best = i; least = d; }
                  }
                  wrong += found !== best;
                  most = Math.max(most, looked);
                }
                done([wrong, most]);
              });
            """
        )
        assert looked[0] == 0  # as by looking at all of them
        assert looked[1] < 500
    finally:
        shown.map = real


def test_shapes_on_the_map_are_those_of_the_legend(page, app) -> None:
    shown, n = app.state.pages.shown, 6
    assert shown is not None
    real = shown.map
    places = np.stack([np.linspace(-0.05, 0.05, n), np.zeros(n)], axis=1).astype(np.float32)
    of, rows = np.arange(n, dtype=np.uint8), np.arange(n, dtype=np.uint32)
    shown.map = SongMap(rows, places, of, real.explained, n, real.mean, real.axes)
    try:
        go(page, app, "map")
        until(page, "return document.querySelector('.stage canvas').dataset.frames")
        likeness = page.execute_async_script(
            """
            const done = arguments[0];
            import('/page/genres.js').then(({ path }) => {
              const from = document.querySelector('.stage canvas');
              const [w, h] = [from.width, from.height];
              const scale = 0.92 * Math.min(w / 0.1, h / 0.02);
              const mask = (paint) => {
                const canvas = document.createElement('canvas');
                canvas.width = canvas.height = 20;
                const c = canvas.getContext('2d');
                paint(c);
                const { data } = c.getImageData(0, 0, 20, 20);
                const gaps = [...Array(400).keys()].map((at) =>
                  [0, 1, 2, 3].reduce((sum, k) => sum + Math.abs(data[4 * at + k] - data[k]), 0));
                return gaps.map((gap) => gap > 0.5 * Math.max(...gaps));
              };
              const drawn = [...Array(6).keys()].map((i) => mask((c) => {
                const x = w / 2 + (i / 5 - 0.5) * 0.1 * scale;
                c.drawImage(from, x - 10, h / 2 - 10, 20, 20, 0, 0, 20, 20);
              }));
              const meant = [...Array(6).keys()].map((i) => mask((c) => {
                c.translate(2, 2);
                c.fill(new Path2D(path(i)));
              }));
              const both = (a, b) => a.filter((on, i) => on && b[i]).length;
              const either = (a, b) => a.filter((on, i) => on || b[i]).length;
              done(drawn.map((a) => meant.map((b) => both(a, b) / either(a, b))));
            });
            """
        )
        assert np.argmax(likeness, axis=1).tolist() == [*range(n)], likeness
        assert np.diag(likeness).min() > 0.6
    finally:
        shown.map = real
