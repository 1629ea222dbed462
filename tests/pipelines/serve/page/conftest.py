"""The service of a small workspace, and a browser that has its page open."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
import uvicorn

from fusionrec.search.index import SearchIndex
from pipelines.serve.app import create_app
from pipelines.serve.settings import LOOPBACK, Settings
from tests.pipelines.serve.page.browsing import (
    CHROMIUM,
    DRIVER,
    HOSTILE,
    SECONDS,
    TOKEN,
    Driver,
    go,
)


@pytest.fixture(scope="package")
def app(places) -> Iterator[Any]:
    """The service of a small workspace, one of whose songs has a title that is markup."""
    yield from _serve(Settings(str(places["genre"]), hosts=LOOPBACK, poll_seconds=0))


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def browser(tmp_path_factory) -> Iterator[Driver]:
    from selenium import webdriver  # without which the tests are skipped

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
    go(browser, app, "")
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
    assert [each for each in wrong if "404" not in each and "503" not in each] == []
