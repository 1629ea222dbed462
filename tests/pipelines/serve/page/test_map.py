"""The map of all songs: what is drawn, and what a pointer finds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from pipelines.serve import song_map
from pipelines.serve.shown import Pages
from pipelines.serve.song_map import SongMap
from tests.pipelines.serve.page.browsing import NEEDED, SECONDS, Driver, go, named, press, until

pytestmark = NEEDED

Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys


_DATA = """
        const from = document.querySelector('.stage canvas');
        const to = document.createElement('canvas');
        [to.width, to.height] = [from.width, from.height];
        const c = to.getContext('2d');
        c.drawImage(from, 0, 0);
        const { data } = c.getImageData(0, 0, to.width, to.height);
"""


def _drawn(page: Driver) -> int:
    """Pixels of the map that are not its ground."""
    return page.execute_script(
        _DATA
        + """
        const pixels = new Uint32Array(data.buffer);
        return pixels.reduce((n, pixel) => n + (pixel !== pixels[0]), 0);
        """
    )


def _pointer(page: Driver, kind: str, x: float, y: float) -> None:
    page.execute_cdp_cmd(
        "Input.dispatchMouseEvent",
        {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1},
    )


COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def _of_colours(page: Driver) -> list[int]:
    """Pixels of the map in about the colours of the first classes."""
    return page.execute_script(
        _DATA
        + """
        return arguments[0].map((hex) => {
          const wanted = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
          let n = 0;
          for (let i = 0; i < data.length; i += 4)
            n += wanted.every((w, k) => Math.abs(data[i + k] - w) < 40);
          return n;
        });
        """,
        COLOURS,
    )


def _until(what: Callable[[], bool]) -> None:
    """Wait for what takes some frames."""
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def _map_of(app: Any, places: np.ndarray, classes: np.ndarray) -> Iterator[None]:
    """The map has these points meanwhile."""
    shown, n = app.state.pages.shown, len(places)
    real, rows = shown.map, np.arange(n, dtype=np.uint32)
    points = places.astype(np.float32), classes.astype(np.uint8)
    shown.map = SongMap(rows, *points, real.explained, n, real.mean, real.axes)
    try:
        yield
    finally:
        shown.map = real


@contextmanager
def _painted(page: Driver, by: str) -> Iterator[None]:
    """Without WebGL, if the canvas alone is to paint."""
    if by == "webgl":
        yield
        return
    source = """
        const real = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
          return kind === "webgl2" ? null : real.call(this, kind, ...more);
        };
    """
    script = page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
    try:
        yield
    finally:
        page.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


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
    n = 100_000
    rng = np.random.default_rng(0)
    with _map_of(app, rng.uniform(-1, 1, (n, 2)), rng.integers(0, 8, n)):
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


@pytest.mark.parametrize("by", ["webgl", "canvas"])
def test_shapes_on_the_map_are_those_of_the_legend(page, app, by) -> None:
    places = np.stack([np.linspace(-0.05, 0.05, 6), np.zeros(6)], axis=1)
    with _painted(page, by), _map_of(app, places, np.arange(6)):
        go(page, app, "map")
        until(page, "return document.querySelector('.stage canvas').dataset.frames")
        assert (
            page.execute_script("return document.querySelector('.stage canvas').dataset.by") == by
        )
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
        assert np.argmax(likeness, axis=1).tolist() == [*range(6)], likeness
        assert np.diag(likeness).min() > 0.6


@pytest.mark.parametrize("by", ["webgl", "canvas"])
def test_a_chosen_class_is_in_colour_and_the_others_in_grey(page, app, by) -> None:
    rng = np.random.default_rng(0)
    with _painted(page, by), _map_of(app, rng.uniform(-1, 1, (400, 2)), rng.integers(0, 4, 400)):
        go(page, app, "map")
        until(page, "return document.querySelector('.stage canvas').dataset.frames")
        pressed = (
            "return [...document.querySelectorAll('.legend button')].map((e) => e.ariaPressed)"
        )
        assert page.execute_script(pressed) == ["false"] * 4
        before = np.array(_of_colours(page))
        assert before.min() > 300
        page.execute_script("document.querySelector('.legend input').focus()")
        for _ in range(3):  # from the first class's box to the second one's button
            press(page, Keys.TAB)
        press(page, Keys.ENTER)
        assert page.execute_script(pressed) == ["false", "true", "false", "false"]
        assert "In colour: " in page.execute_script(
            "return document.getElementById('said').textContent"
        )
        # Where a coloured point lies on a grey one, some pixels of its edge are of another colour.
        _until(lambda: bool((np.array(_of_colours(page)) < 0.1 * before)[[0, 2, 3]].all()))
        assert _of_colours(page)[1] > 0.9 * before[1]
        some = _drawn(page)
        press(page, Keys.ESCAPE)
        assert page.execute_script(pressed) == ["false"] * 4
        _until(lambda: min(_of_colours(page)) > 300)
        assert _drawn(page) == pytest.approx(some, rel=0.1)  # none was away


def test_classes_beyond_the_colours_have_signs_of_their_own(page) -> None:
    signs = page.execute_async_script(
        """
        const done = arguments[0];
        import('/page/genres.js').then(({ sign }) => done([...Array(96).keys()].map((i) =>
          sign(i).getAttribute('class') + ' ' + sign(i).firstChild.getAttribute('d'))));
        """
    )
    assert len(set(signs)) == 96


def test_a_map_that_is_being_made_is_said_and_then_shown(page, app, monkeypatch) -> None:
    go_on = threading.Event()

    def slowly(*of):
        assert go_on.wait(60)
        return real(*of)

    real = song_map.two_directions
    monkeypatch.setattr(song_map, "two_directions", slowly)
    monkeypatch.setattr(app.state.pages, "_patience", 0.2)
    app.state.pages.shown = None
    try:
        page.get("about:blank")
        page.get(f"{app.state.url}/#map")
        until(page, "return document.querySelector('main')?.innerText.includes('is being made')")
        assert page.execute_script("return document.querySelector('main [role=alert]')") is None
        page.execute_script("location.hash = 'listener'")  # nobody has to wait for it
        until(page, "return document.querySelector('main').dataset.view === 'listener'")
        page.execute_script("location.hash = 'map'")
        until(page, "return document.querySelector('main').innerText.includes('is being made')")
    finally:
        go_on.set()
    until(page, "return document.querySelector('.stage canvas')?.dataset.frames")
