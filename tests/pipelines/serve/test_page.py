"""The page in a real browser: what a person types, sees and clicks."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
import pyarrow as pa
import pytest
import uvicorn

from fusionrec.search.index import SearchIndex
from pipelines.serve.app import create_app
from pipelines.serve.settings import LOOPBACK, Settings
from pipelines.serve.shown import Pages
from pipelines.serve.song_map import SongMap

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
DRIVER = shutil.which("chromedriver") or ""
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium with its chromedriver is installed"
)

HOSTILE = '<img src=x onerror="window.harmed=1"> & <b>bold</b> 🎷'
TOKEN = "a token of this test"
SECONDS = 20
"""For what is waited for; it is there much sooner."""

Driver = Any
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys


@pytest.fixture(scope="module")
def app(places) -> Iterator[Any]:
    """The service of a small workspace, one of whose songs has a title that is markup."""
    yield from _serve(Settings(str(places["genre"]), hosts=LOOPBACK, poll_seconds=0))


@pytest.fixture(scope="module")
def closed(places) -> Iterator[Any]:
    """The same with a token."""
    yield from _serve(Settings(str(places["genre"]), token=TOKEN, poll_seconds=0))


def _serve(settings: Settings) -> Iterator[Any]:
    app = create_app(settings)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    assert server.started
    app.state.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    _rename_the_first(app)
    yield app
    server.should_exit = True
    thread.join(SECONDS)
    assert not thread.is_alive()


def _rename_the_first(app: Any) -> None:
    snapshot = app.state.engine.snapshot
    texts = snapshot.names._texts
    texts["title"] = pa.array([HOSTILE, *texts["title"].to_pylist()[1:]])
    vars(snapshot.names).pop("_shown", None)  # made of them
    snapshot.search = SearchIndex.of(snapshot.names.searched, snapshot.batches.listeners)


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Driver]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--enable-unsafe-swiftshader",  # WebGL without a graphics card
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--window-size=1280,800",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.ChromeService(DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(SECONDS)
    yield driver
    driver.quit()


@pytest.fixture
def page(app, browser) -> Iterator[Driver]:
    """A browser that has the page open; at the end, nothing has been asked for elsewhere."""
    browser.get("about:blank")
    browser.get_log("performance")
    browser.get_log("browser")
    _go(browser, app, "")
    yield browser
    asked = [
        message["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    ]
    assert asked
    away = [url for url in asked if not url.startswith((f"{app.state.url}/", "about:", "data:"))]
    assert away == []
    wrong = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    assert [each for each in wrong if "404" not in each] == []


def _go(page: Driver, app: Any, place: str) -> None:
    """Open a place of the page, and wait until it is there."""
    page.get("about:blank")
    page.get(f"{app.state.url}/#{place}")
    view = place.partition("=")[0] or "song"
    _until(page, "return document.querySelector('main')?.dataset.view === arguments[0]", view)


def _until(page: Driver, script: str, *arguments: object) -> Any:
    """What a script returns, once it is something."""
    end = time.monotonic() + SECONDS
    while not (found := page.execute_script(script, *arguments)):
        if time.monotonic() > end:
            shown = page.execute_script("return document.body.innerText")
            pytest.fail(f"{script} {arguments} is not so; the page shows:\n{shown[:2000]}")
        time.sleep(0.02)
    return found


def _type(page: Driver, *keys: str) -> None:
    page.switch_to.active_element.send_keys(*keys)


def _all(page: Driver, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
    found: list[str] = page.execute_script(script, selector)
    return found


def _listed(page: Driver) -> list[str]:
    script = "return [...document.querySelectorAll('li.song')].map((e) => e.dataset.song)"
    found: list[str] = page.execute_script(script)
    return found


def _named(app: Any, row: int) -> dict[str, str]:
    (named,) = app.state.engine.snapshot.numbered([row])
    return named


def test_a_song_is_found_by_keyboard_and_its_neighbours_say_why(page, app) -> None:
    wanted = _named(app, 5)
    words = f"{wanted['artist']} {wanted['title']}"
    _type(page, words)
    _until(page, "return document.querySelectorAll('[role=option]').length > 0")
    field = "document.querySelector('[role=combobox]')"
    assert page.execute_script(f"return {field}.getAttribute('aria-expanded')") == "true"
    _type(page, Keys.ARROW_DOWN)
    active = page.execute_script(f"return {field}.getAttribute('aria-activedescendant')")
    selected = page.execute_script("return document.querySelector('[aria-selected=true]').id")
    assert active == selected
    assert wanted["title"] in _all(page, "[aria-selected=true]")[0]
    _type(page, Keys.ENTER)
    _until(page, "return document.querySelectorAll('li.song').length")
    assert _all(page, "h1") == [wanted["title"]]
    query = urlencode({"song_id": wanted["song_id"], "top": 20})
    with urlopen(f"{app.state.url}/v1/similar?{query}", timeout=SECONDS) as answer:
        expected = json.load(answer)["songs"]
    assert _listed(page) == [song["song_id"] for song in expected]

    _until(page, "return !document.querySelector('main').hasAttribute('aria-busy')")
    for _ in range(60):  # by the keyboard alone to the first reason
        _type(page, Keys.TAB)
        if "why-button" in page.switch_to.active_element.get_attribute("class"):
            break
    _type(page, Keys.ENTER)
    assert page.switch_to.active_element.get_attribute("aria-expanded") == "true"
    headings = _all(page, ".why:not([hidden]) h4")
    assert headings == ["Modalities", "Signals", "Kinds"]
    assert any("class" in text for text in _all(page, ".why:not([hidden]) .name"))


def test_escape_closes_the_suggestions(page) -> None:
    _type(page, "a")
    _until(page, "return document.querySelectorAll('[role=option]').length > 0")
    _type(page, Keys.ESCAPE)
    assert not page.find_element("css selector", "[role=listbox]").is_displayed()


def test_a_listener_is_built_of_songs_and_the_list_changes(page, app) -> None:
    _go(page, app, "listener")
    field = page.find_elements("css selector", "[role=combobox]")[1]
    lists = []
    for row in (7, 30):
        song = _named(app, row)
        field.send_keys(f"{song['artist']} {song['title']}")
        _until(page, "return document.querySelectorAll('[role=option]').length > 0")
        field.send_keys(Keys.ENTER)
        _until(
            page,
            "return document.querySelectorAll('.chip').length === arguments[0]",
            len(lists) + 1,
        )
        before = lists[-1] if lists else []
        _until(
            page,
            "const ids = [...document.querySelectorAll('li.song')].map((e) => e.dataset.song);"
            "return ids.length && JSON.stringify(ids) !== JSON.stringify(arguments[0])",
            before,
        )
        lists.append(_listed(page))
        assert song["song_id"] not in lists[-1]
    assert lists[0] != lists[1]
    address = page.execute_script("return location.hash")
    assert _all(page, ".about .chart .num")  # what the listener is mixed of
    _go(page, app, "run")
    _go(page, app, address[1:])  # an address is enough to see it again
    assert _listed(page) == lists[1]
    page.find_element("css selector", ".chip .away").click()
    _until(page, "return document.querySelectorAll('.chip').length === 1")


def test_the_keyboard_stays_at_a_listener_s_songs(page, app) -> None:
    first, second = (_named(app, row)["song_id"] for row in (7, 30))
    _go(page, app, f"plays={first}*1,{second}*1")
    label = "return document.activeElement.ariaLabel"
    _all_buttons = "document.querySelectorAll('.chip button')"
    page.execute_script(f"{_all_buttons}[1].focus()")
    more = page.execute_script(label)
    _type(page, Keys.ENTER)
    _until(page, "return location.hash.includes(arguments[0])", f"{first}*2")
    assert page.execute_script(label) == more
    page.execute_script(f"{_all_buttons}[2].focus()")
    _type(page, Keys.ENTER)
    _until(page, "return document.querySelectorAll('.chip').length === 1")
    assert _named(app, 30)["title"] in page.execute_script(label)
    for _ in range(3):  # the last chip goes: on with the search
        _type(page, Keys.TAB)
        if "away" in page.switch_to.active_element.get_attribute("class"):
            break
    page.execute_script(f"{_all_buttons}[2].focus()")
    _type(page, Keys.ENTER)
    _until(page, "return document.querySelectorAll('.chip').length === 0")
    assert page.switch_to.active_element.get_attribute("role") == "combobox"


def test_a_song_that_the_catalogue_does_not_have_is_on_its_listener(page, app) -> None:
    known = _named(app, 7)["song_id"]
    _go(page, app, f"plays=SONOWHERE*2,{known}*1")
    assert _all(page, ".chip a") == ["(SONOWHERE)", _named(app, 7)["title"]]
    text = page.execute_script("return document.querySelector('.about').innerText")
    assert "Of 1 of the songs the model knows nothing" in text


def test_enter_takes_nothing_that_was_found_for_earlier_letters(page) -> None:
    _type(page, "a")
    _until(page, "return document.querySelectorAll('[role=option]').length > 0")
    page.execute_script(
        """
        const asked = window.fetch;
        window.late = 0;
        window.fetch = (path, options) => new Promise((resolve, reject) => {
          const late = setTimeout(() => (window.late++, resolve(asked(path, options))), 400);
          options.signal?.addEventListener("abort", () => {
            clearTimeout(late);
            reject(new DOMException("", "AbortError"));
          });
        });
        """
    )
    _type(page, "b", Keys.ENTER, "c")
    _until(page, "return window.late === 1")  # the letters of the end alone are searched for
    assert page.execute_script("return location.hash") == ""


def test_a_mixture_of_many_classes_is_drawn_to_scale(page) -> None:
    drawn = page.execute_async_script(
        """
        const done = arguments[0];
        import('/page/genres.js').then(({ strip, chart }) => {
          const even = Array(64).fill(1 / 64);
          const widths = [...chart([], [0.5, 0.1, ...Array(8).fill(0.05)]).querySelectorAll('li')]
            .map((line) => [line.textContent, line.querySelector('.bar i')?.style.width]);
          done([strip([], even).querySelectorAll('.strip i').length, widths]);
        });
        """
    )
    assert drawn[0] == 2  # the most probable one, and the rest
    lines = [("class 0", 50), ("class 1", 10), *((f"class {n}", 5) for n in range(2, 6))]
    assert drawn[1] == [
        *([f"{name}{share} %", f"{share}%"] for name, share in lines),
        ["others20 %", None],
    ]


def test_a_user_has_the_stored_list_and_its_shares(page, app) -> None:
    _go(page, app, "listener")
    page.find_element("css selector", "[role=combobox]").click()
    _until(page, "return document.querySelectorAll('[role=option]').length > 0")
    _type(page, Keys.ARROW_DOWN, Keys.ENTER)
    _until(page, "return document.querySelectorAll('li.song').length")
    (user,) = _all(page, "h1.user")
    expected = app.state.engine.snapshot.user_list(user, 20)
    rows = app.state.engine.snapshot.numbered(expected.rows)
    assert _listed(page) == [song["song_id"] for song in rows]
    strips = "return [...document.querySelectorAll('li.song .strip')].map((e) => e.ariaLabel)"
    said = page.execute_script(strips)
    assert len(said) == 2 * len(rows)  # genres and modalities of each
    assert all(text.startswith(("Genres: ", "Shares of modalities: ")) for text in said)


def test_markup_in_a_title_is_text(page, app) -> None:
    song = _named(app, 0)
    assert song["title"] == HOSTILE
    for place in (
        f"song={song['song_id']}",
        f"plays={song['song_id']}*2",
        f"map={song['song_id']}",
    ):
        _go(page, app, place)
        text = page.execute_script("return document.querySelector('main').textContent")
        assert HOSTILE in text
        assert page.execute_script("return document.querySelectorAll('main img').length") == 0
    assert page.execute_script("return window.harmed") is None


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
    _go(page, app, "map")
    _until(page, "return document.querySelector('.stage canvas').dataset.frames")
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
    song = _named(app, int(points.rows[lonely]))
    _until(
        page,
        "return document.querySelector('.card').dataset.song === arguments[0]",
        song["song_id"],
    )

    for box_of in page.find_elements("css selector", ".legend input"):
        box_of.click()  # without any class there is nothing to see
    _until(page, "return Number(document.querySelector('.stage canvas').dataset.frames) > 2")
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
        _go(page, app, "map")
        canvas = "document.querySelector('.stage canvas')"
        _until(page, f"return {canvas}.dataset.frames")
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
        _go(page, app, "map")
        _until(page, "return document.querySelector('.stage canvas').dataset.frames")
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


@pytest.mark.parametrize("view", ["song", "listener", "map", "comparison", "run"])
def test_a_phone_scrolls_only_up_and_down(page, app, view) -> None:
    size = {"width": 380, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        song = _named(app, 3)["song_id"]
        _go(page, app, f"song={song}" if view == "song" else view)
        wide = page.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide == [380, 380]
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_run_says_what_was_left_out_and_what_is_not_there_how_to_make_it(page, app) -> None:
    _go(page, app, "run")
    text = page.execute_script("return document.querySelector('main').innerText")
    for words in ("not an HDF5 file", "song id not in the corpus", "mAP@"):
        assert words in text
    _go(page, app, "comparison")
    text = page.execute_script("return document.querySelector('main').innerText")
    assert "fusionrec compare" in text
    assert "fusionrec ladder" in text


def test_a_view_that_fails_says_so_in_its_own_place(page, app) -> None:
    page.execute_script("window.fetch = () => Promise.reject(new TypeError())")
    page.execute_script("location.hash = 'run'")
    _until(page, "return document.querySelector('main').dataset.view === 'run'")
    text = page.execute_script("return document.querySelector('main').innerText")
    assert text == "The service does not answer: is it still running?"


def test_an_address_of_no_song_is_said(page, app) -> None:
    page.get(f"{app.state.url}/#song=SONOWHERE")
    _until(
        page,
        "return document.querySelector('main [role=alert]')?.textContent.includes('SONOWHERE')",
    )


def test_a_token_is_asked_for_and_kept_for_the_tab(closed, browser) -> None:
    browser.get("about:blank")
    browser.get(f"{closed.state.url}/#run")
    dialog = "return document.getElementById('token').open"
    for given in ("wrong", "no header – has this", TOKEN):
        _until(browser, dialog)
        assert browser.find_element("id", "token-wrong").is_displayed() is (given != "wrong")
        browser.find_element("id", "token-text").send_keys(given)
        browser.find_element("css selector", "#token button").click()
    _until(browser, "return document.querySelector('main').dataset.view === 'run'")
    assert not browser.execute_script(dialog)
    browser.refresh()
    _until(browser, "return document.querySelector('main').dataset.view === 'run'")
    assert browser.execute_script("return localStorage.length") == 0
