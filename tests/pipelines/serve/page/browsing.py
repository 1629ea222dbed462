"""What a person does in a browser, and sees."""

from __future__ import annotations

import shutil
import time
from importlib.util import find_spec
from typing import Any

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
DRIVER = shutil.which("chromedriver") or ""
NEEDED = [
    pytest.mark.skipif(not find_spec("selenium"), reason="selenium is not installed"),
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no Chromium with its chromedriver is installed"
    ),
]
"""Marks of the page's tests."""

HOSTILE = '<img src=x onerror="window.harmed=1"> & <b>bold</b> 🎷'
TOKEN = "a token of this test"
SECONDS = 20
"""For what is waited for; it is there much sooner."""

Driver = Any


def go(page: Driver, app: Any, place: str) -> None:
    """Open a place of the page, and wait until it is there."""
    page.get("about:blank")
    page.get(f"{app.state.url}/#{place}")
    view = place.partition("=")[0] or "song"
    until(page, "return document.querySelector('main')?.dataset.view === arguments[0]", view)


def until(page: Driver, script: str, *arguments: object) -> Any:
    """What a script returns, once it is something."""
    end = time.monotonic() + SECONDS
    while not (found := page.execute_script(script, *arguments)):
        if time.monotonic() > end:
            shown = page.execute_script("return document.body.innerText")
            pytest.fail(f"{script} {arguments} is not so; the page shows:\n{shown[:2000]}")
        time.sleep(0.02)
    return found


def press(page: Driver, *keys: str) -> None:
    page.switch_to.active_element.send_keys(*keys)


def texts(page: Driver, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
    found: list[str] = page.execute_script(script, selector)
    return found


def listed(page: Driver) -> list[str]:
    script = "return [...document.querySelectorAll('li.song')].map((e) => e.dataset.song)"
    found: list[str] = page.execute_script(script)
    return found


def named(app: Any, row: int) -> dict[str, str]:
    (named,) = app.state.engine.snapshot.numbered([row])
    return named
