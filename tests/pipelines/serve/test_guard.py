"""Who may ask, how much and how long."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from pipelines.serve.app import create_app
from pipelines.serve.guard import Guard
from pipelines.serve.metrics import Metrics
from pipelines.serve.settings import LOOPBACK, Settings
from tests.pipelines.serve.conftest import client_of

TOKEN = "a secret of the tests"


@pytest.fixture(scope="module")
def place(places) -> str:
    return str(places["genre"])


def test_a_token_is_asked_for(place) -> None:
    with client_of(Settings(place, token=TOKEN, poll_seconds=0)) as client:
        for path in ("/v1/search?q=a", "/metrics", "/v1/openapi.json", "/v1/nothing"):
            for header in (None, "Bearer wrong", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer é"):
                headers = {} if header is None else {"authorization": header.encode()}
                found = client.get(path, headers=headers)
                assert found.status_code == 401, (path, header)
                assert found.headers["www-authenticate"] == "Bearer"
                assert TOKEN not in found.text
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/v1/search?q=a", headers=headers).status_code == 200
        described = client.get("/v1/openapi.json", headers=headers).json()
        assert described["security"] == [{"token": []}]
        assert client.get("/v1/health").status_code == 200  # for a load balancer


def test_settings_do_not_show_the_token() -> None:
    settings = Settings("w", token=TOKEN)
    assert TOKEN not in repr(settings)
    assert TOKEN not in json.dumps(settings.as_json())
    assert Settings.of_json(json.loads(json.dumps(settings.as_json())), TOKEN) == settings


def test_a_page_cannot_reach_it_by_a_name_of_its_own(place) -> None:
    with client_of(Settings(place, hosts=LOOPBACK, poll_seconds=0)) as client:
        for host, status in (
            ("evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("", 421),
            ("localhost:8000", 200),
            ("[::1]:8000", 200),
            ("LOCALHOST", 200),
        ):
            assert client.get("/v1/health", headers={"host": host}).status_code == status, host


def test_no_other_origin_is_let_in(place) -> None:
    with client_of(Settings(place, poll_seconds=0)) as client:
        origin = {"origin": "https://evil.example", "access-control-request-method": "POST"}
        for found in (
            client.options("/v1/lists", headers=origin),
            client.get("/v1/health", headers=origin),
        ):
            assert not [name for name in found.headers if name.startswith("access-control")]
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["cache-control"] == "no-store"


def test_what_is_too_long_is_refused(place) -> None:
    limits = {"body_bytes": 2000, "query_bytes": 300, "most_plays": 20, "most_songs": 25}
    with client_of(Settings(place, poll_seconds=0, **limits)) as client:
        long = {"plays": {f"song {n}": 1 for n in range(300)}}
        assert client.post("/v1/lists", json=long).status_code == 413
        parts = (b"x" * 500 for _ in range(50))  # without a length
        assert client.post("/v1/lists", content=parts).status_code == 413
        assert client.get("/v1/search", params={"q": "x" * 299}).status_code == 414
        many = {"plays": {f"s{n}": 1 for n in range(21)}}
        found = client.post("/v1/lists", json=many)
        assert found.status_code == 422
        assert found.json()["detail"] == "body.plays: is 21: at most 20"
        assert client.get("/v1/search?q=a&top=26").status_code == 422
        described = client.get("/v1/openapi.json").json()["components"]["schemas"]["ListForm"]
        assert described["properties"]["top"]["maximum"] == 25
        assert described["properties"]["plays"]["maxProperties"] == 20


async def asked_slowly(app: Any, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What an application sends to a request whose body stops in the midst."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/lists",
        "query_string": b"",
        "headers": [],
    }
    given = iter(messages)

    async def receive() -> dict[str, Any]:
        for message in given:
            return message
        await asyncio.sleep(60)
        raise AssertionError("nobody waits so long")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([{"type": "http.request", "body": b"{", "more_body": True}], 408),
        ([{"type": "http.request", "body": b"{}", "more_body": False}], 503),
        ([{"type": "http.disconnect"}], None),
    ],
)
def test_nothing_is_waited_for_without_end(messages, status) -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.sleep(60)

    guard = Guard(slow, Settings("w", seconds=0.05), Metrics(), frozenset())
    sent = asyncio.run(asked_slowly(guard, messages))
    assert [m["status"] for m in sent if m["type"] == "http.response.start"] == (
        [] if status is None else [status]
    )


def test_a_failure_is_a_problem_without_its_traceback(caplog) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("a secret path")

    guard = Guard(broken, Settings("w"), Metrics(), frozenset())
    body = {"type": "http.request", "body": b"", "more_body": False}
    start, answer = asyncio.run(asked_slowly(guard, [body]))
    assert start["status"] == 500
    assert b"secret" not in answer["body"]
    assert "a secret path" in caplog.text


NOTHING_NEW = """
import sys, time
import fusionrec, pipelines.cli.main
extra = {"fastapi", "starlette", "uvicorn", "uvloop", "httptools", "prometheus_client"}
print(sorted(extra & set(sys.modules)), any(name.startswith("ray") for name in sys.modules))
"""

WITHOUT = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("fastapi", "uvicorn"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in ("fastapi", "uvicorn") else found(name)
from pipelines.cli.main import main
main(["serve", "--workspace", "nowhere"])
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_command_imports_nothing_of_it() -> None:
    assert run(NOTHING_NEW).stdout.split("\n")[0] == "[] False"


def test_without_the_extra_it_says_how_to_install_it() -> None:
    done = run(WITHOUT)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "fusionrec: serve: needs fastapi, uvicorn, which the extra `serve` brings: pip install -c "
        "constraints.txt '.[serve]'"
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "0.0.0.0"], "set FUSIONREC_SERVE_TOKEN"),
        (["--replicas", "2"], "are of --engine ray"),
        (["--engine", "ray", "--replicas", "3", "--most-replicas", "2"], "is below --replicas 3"),
        ([], "nowhere"),  # a workspace that is not there
    ],
)
def test_what_the_command_refuses(options, says, tmp_path, monkeypatch, capsys) -> None:
    from pipelines.cli.main import main

    monkeypatch.delenv("FUSIONREC_SERVE_TOKEN", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--workspace", str(tmp_path / "nowhere"), *options])
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert says in said[-1]
    assert len(said) == 1


def test_the_description_is_made_without_a_workspace() -> None:
    described = create_app(Settings("nowhere")).openapi()
    assert {"/v1/lists", "/v1/similar", "/v1/search", "/v1/why"} <= set(described["paths"])
