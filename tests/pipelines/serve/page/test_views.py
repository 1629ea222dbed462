"""The other views, on a phone too; one that fails; and the token."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

from pipelines.serve import reports
from pipelines.serve.snapshot import Snapshot
from tests.pipelines.serve.page.browsing import NEEDED, TOKEN, go, named, until

pytestmark = NEEDED

Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys


@pytest.mark.parametrize("view", ["song", "listener", "map", "comparison", "run"])
def test_a_phone_scrolls_only_up_and_down(page, app, view) -> None:
    size = {"width": 380, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        song = named(app, 3)["song_id"]
        go(page, app, f"song={song}" if view == "song" else view)
        wide = page.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide == [380, 380]
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_run_says_what_was_left_out_and_what_is_not_there_how_to_make_it(page, app) -> None:
    go(page, app, "run")
    text = page.execute_script("return document.querySelector('main').innerText")
    for words in ("not an HDF5 file", "song id not in the corpus", "mAP@"):
        assert words in text
    go(page, app, "comparison")
    text = page.execute_script("return document.querySelector('main').innerText")
    assert "fusionrec compare" in text
    assert "fusionrec ladder" in text


def test_a_comparison_is_shown_with_what_its_table_says(page, app, monkeypatch) -> None:
    row = {"method": "given", "reference": False, "lift": 2.0, "auc": None, "recall": 0.4321}
    row |= {"ndcg": 0.3, "low": 0.1, "high": 0.3, "difference": None, "published": None}
    rows = [
        {**row, "name": "theirs", "average_precision": 0.2, "seeds": 1, "spread": None},
        {**row, "name": "fusion", "average_precision": 0.25, "seeds": 3, "spread": 0.0123},
    ]
    split = {"by": "song", "against": "fusion", "random_level": 0.05, "rankings": 7, "users": 6}
    split |= {"folds": [0, 1], "cuts": 2, "candidates": 30.0, "relevant": 2.5, "failed": {}}
    split |= {"users_left_out": {}, "ceilings": {"6": 0.4}, "external": ["Made elsewhere: 5 lists"]}
    made = {"make": None, "splits": [{**split, "rows": rows}]}
    monkeypatch.setattr(reports, "comparison", lambda _: made)
    go(page, app, "comparison")
    text = page.execute_script("return document.querySelector('main').innerText")
    for words in ("Seeds ± sd", "3 ± 0.0123", "Recall", "0.432", "Made elsewhere: 5 lists"):
        assert words in text
    assert "Folds tested: 0, 1, of 2 cuts of the songs" in text
    assert "6 classes 0.4000" in text


def test_a_newer_result_is_shown_without_what_was_typed_being_lost(page, app, monkeypatch) -> None:
    engine = app.state.engine
    song = named(app, 3)
    go(page, app, f"song={song['song_id']}")
    field = page.find_element("css selector", "[role=combobox]")
    field.send_keys("half a nam", Keys.ESCAPE)
    page.find_elements("css selector", ".why-button")[1].click()
    page.execute_script("arguments[0].focus()", field)
    before = page.execute_script("return document.getElementById('served').textContent")
    page.execute_script("window.before = document.querySelector('li.song')")
    newer = Snapshot(engine._settings.workspace, engine._settings.model, 4.0)
    newer.keys = {**newer.keys, "train": "another"}
    vars(newer)["result"] = "0123456789abcdef"
    monkeypatch.setattr(engine, "_snapshot", newer)
    page.execute_script("window.dispatchEvent(new Event('focus'))")  # as whoever comes back
    note = "return document.getElementById('newer').innerText"
    until(page, f"{note}.includes('it is shown now')")
    after = page.execute_script("return document.getElementById('served').textContent")
    assert "01234567" in after
    assert after != before
    assert page.execute_script("return window.before.isConnected") is False
    assert page.execute_script("return arguments[0].isConnected", field) is True
    assert field.get_attribute("value") == "half a nam"
    assert page.execute_script("return document.activeElement === arguments[0]", field)
    opened = "return [...document.querySelectorAll('.why-button')].map((e) => e.ariaExpanded)"
    assert page.execute_script(opened)[:3] == ["false", "true", "false"]
    page.find_element("css selector", "#newer button").click()
    assert not page.find_element("id", "newer").is_displayed()
    # The earlier one is made the current one again.
    back = Snapshot(engine._settings.workspace, engine._settings.model, 4.0)
    monkeypatch.setattr(engine, "_snapshot", back)
    page.execute_script("window.dispatchEvent(new Event('focus'))")
    shown = "!document.getElementById('newer').hidden"
    until(page, f"{note}.includes('it is shown now') && {shown}")
    again = page.execute_script("return document.getElementById('served').textContent")
    assert back.result[:8] in again
    # A replica that has not taken it over yet is no news.
    monkeypatch.setattr(engine, "_snapshot", newer)
    page.find_element("css selector", "#newer button").click()
    page.execute_script("window.dispatchEvent(new Event('focus'))")
    time.sleep(1)
    assert not page.find_element("id", "newer").is_displayed()


def test_the_map_of_a_newer_result_lies_as_it_was_turned(page, app, monkeypatch) -> None:
    engine = app.state.engine
    go(page, app, "map")
    page.execute_script("window.before = document.querySelector('.stage canvas')")
    page.find_element("css selector", ".legend button").click()
    field = page.find_element("css selector", "[role=combobox]")
    field.send_keys("half a nam", Keys.ESCAPE)
    newer = Snapshot(engine._settings.workspace, engine._settings.model, 4.0)
    newer.keys = {**newer.keys, "train": "a third"}
    vars(newer)["result"] = "fedcba9876543210"
    monkeypatch.setattr(engine, "_snapshot", newer)
    page.execute_script("window.dispatchEvent(new Event('focus'))")
    until(page, "return document.getElementById('newer').innerText.includes('it is shown now')")
    assert page.execute_script("return window.before.isConnected") is False
    until(page, "return document.querySelector('.stage canvas').dataset.frames")
    assert field.get_attribute("value") == "half a nam"
    assert page.execute_script("return document.activeElement === arguments[0]", field)
    pressed = page.find_element("css selector", ".legend button").get_attribute("aria-pressed")
    assert pressed == "true"


@pytest.mark.parametrize("width", [380, 1280])
def test_titles_of_any_length_and_direction_stay_in_their_places(page, app, width) -> None:
    song = named(app, 3)
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    names = app.state.engine.snapshot.names
    real = names._shown
    long = [pa.array(["x" * 300, "\u202egnorw"] * (len(real) // 2 + 1))[: len(real)]] * 3
    vars(names)["_shown"] = pa.table([real["song_id"], *long], real.column_names)
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for place in (f"song={song['song_id']}", f"plays={song['song_id']}*2", "map"):
            go(page, app, place)
            if place == "map":
                page.find_element("css selector", "[role=combobox]").send_keys(song["title"])
                until(page, "return document.querySelectorAll('[role=option]').length > 0")
            assert page.execute_script("return document.documentElement.scrollWidth") <= width
            over = page.execute_script(
                "return [...document.querySelectorAll('.title, .artist, h1, .chip, .combo ul')]"
                ".filter((e) => e.getBoundingClientRect().right > innerWidth).length"
            )
            assert over == 0
        isolated = page.execute_script(
            "return getComputedStyle(document.querySelector('.title')).unicodeBidi"
        )
        assert isolated == "isolate"
    finally:
        vars(names)["_shown"] = real
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_view_that_fails_says_so_in_its_own_place(page, app) -> None:
    page.execute_script("window.fetch = () => Promise.reject(new TypeError())")
    page.execute_script("location.hash = 'run'")
    until(page, "return document.querySelector('main').dataset.view === 'run'")
    text = page.execute_script("return document.querySelector('main').innerText")
    assert text == "The service does not answer: is it still running?"


def test_a_token_is_asked_for_and_kept_for_the_tab(closed, browser) -> None:
    browser.get("about:blank")
    browser.get(f"{closed.state.url}/#run")
    dialog = "return document.getElementById('token').open"
    for given in ("wrong", "no header – has this", TOKEN):
        until(browser, dialog)
        assert browser.find_element("id", "token-wrong").is_displayed() is (given != "wrong")
        browser.find_element("id", "token-text").send_keys(given)
        browser.find_element("css selector", "#token button").click()
    until(browser, "return document.querySelector('main').dataset.view === 'run'")
    assert not browser.execute_script(dialog)
    browser.refresh()
    until(browser, "return document.querySelector('main').dataset.view === 'run'")
    assert browser.execute_script("return localStorage.length") == 0
