"""A song is found, and shown with those like it."""

from __future__ import annotations

import json
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.pipelines.serve.page.browsing import (
    HOSTILE,
    NEEDED,
    SECONDS,
    go,
    listed,
    named,
    press,
    texts,
    until,
)

pytestmark = NEEDED

Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys


def test_a_song_is_found_by_keyboard_and_its_neighbours_say_why(page, app) -> None:
    wanted = named(app, 5)
    words = f"{wanted['artist']} {wanted['title']}"
    press(page, words)
    until(page, "return document.querySelectorAll('[role=option]').length > 0")
    field = "document.querySelector('[role=combobox]')"
    assert page.execute_script(f"return {field}.getAttribute('aria-expanded')") == "true"
    press(page, Keys.ARROW_DOWN)
    active = page.execute_script(f"return {field}.getAttribute('aria-activedescendant')")
    selected = page.execute_script("return document.querySelector('[aria-selected=true]').id")
    assert active == selected
    assert wanted["title"] in texts(page, "[aria-selected=true]")[0]
    press(page, Keys.ENTER)
    until(page, "return document.querySelectorAll('li.song').length")
    assert texts(page, "h1") == [wanted["title"]]
    query = urlencode({"song_id": wanted["song_id"], "top": 20})
    with urlopen(f"{app.state.url}/v1/similar?{query}", timeout=SECONDS) as answer:
        expected = json.load(answer)["songs"]
    assert listed(page) == [song["song_id"] for song in expected]

    until(page, "return !document.querySelector('main').hasAttribute('aria-busy')")
    for _ in range(60):  # by the keyboard alone to the first reason
        press(page, Keys.TAB)
        if "why-button" in page.switch_to.active_element.get_attribute("class"):
            break
    press(page, Keys.ENTER)
    assert page.switch_to.active_element.get_attribute("aria-expanded") == "true"
    headings = texts(page, ".why:not([hidden]) h4")
    assert headings == ["Modalities", "Signals", "Kinds"]
    assert any("class" in text for text in texts(page, ".why:not([hidden]) .name"))


def test_escape_closes_the_suggestions(page) -> None:
    press(page, "a")
    until(page, "return document.querySelectorAll('[role=option]').length > 0")
    press(page, Keys.ESCAPE)
    assert not page.find_element("css selector", "[role=listbox]").is_displayed()


def test_enter_takes_nothing_that_was_found_for_earlier_letters(page) -> None:
    press(page, "a")
    until(page, "return document.querySelectorAll('[role=option]').length > 0")
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
    press(page, "b", Keys.ENTER, "c")
    until(page, "return window.late === 1")  # the letters of the end alone are searched for
    assert page.execute_script("return location.hash") == ""


def test_markup_in_a_title_is_text(page, app) -> None:
    song = named(app, 0)
    assert song["title"] == HOSTILE
    for place in (
        f"song={song['song_id']}",
        f"plays={song['song_id']}*2",
        f"map={song['song_id']}",
    ):
        go(page, app, place)
        text = page.execute_script("return document.querySelector('main').textContent")
        assert HOSTILE in text
        assert page.execute_script("return document.querySelectorAll('main img').length") == 0
    assert page.execute_script("return window.harmed") is None


def test_an_address_of_no_song_is_said(page, app) -> None:
    page.get(f"{app.state.url}/#song=SONOWHERE")
    until(
        page,
        "return document.querySelector('main [role=alert]')?.textContent.includes('SONOWHERE')",
    )
