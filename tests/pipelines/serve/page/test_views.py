"""The other views, on a phone too; one that fails; and the token."""

from __future__ import annotations

import pytest

from tests.pipelines.serve.page.browsing import NEEDED, TOKEN, go, named, until

pytestmark = NEEDED


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
