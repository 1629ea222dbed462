"""What `fusionrec submit` finds out before it uploads: the address, the token, the size."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fusionrec.errors import ConfigError, InputError
from pipelines.cli import jobs, upload
from pipelines.cli import submit as command


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch, tmp_path) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # what is set to it goes with the test
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # leads nowhere


class _Dashboard(BaseHTTPRequestHandler):
    token = ""

    def do_GET(self) -> None:
        asked = self.headers.get("Authorization", "")
        refused = self.token and asked != f"Bearer {self.token}"
        self.send_response((401 if asked == "" else 403) if refused else 200)
        self.end_headers()
        body = b"Unauthorized" if refused else json.dumps({"ray_version": "2.60.0"}).encode()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def dashboard(monkeypatch) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Dashboard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_no_proxy_stands_before_loopback(dashboard) -> None:
    jobs._client(dashboard)
    jobs._client(dashboard.removeprefix("http://"))


def test_the_address_that_is_given_is_used(monkeypatch, dashboard) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert command._of_environment() == jobs.ADDRESS
    jobs._client(dashboard)
    monkeypatch.setenv("RAY_ADDRESS", dashboard)
    assert command._of_environment() == dashboard
    with pytest.raises(ConfigError, match=r"--address ray://head:10001: must be the URL"):
        jobs._client("ray://head:10001")


def test_a_dashboard_that_asks_for_a_token(monkeypatch, dashboard, tmp_path) -> None:
    monkeypatch.setattr(_Dashboard, "token", "right")
    with pytest.raises(InputError, match="asks for its authentication token, and there is none"):
        jobs._client(dashboard)
    file = tmp_path / "home" / ".ray" / "auth_token"
    file.parent.mkdir(parents=True)
    file.write_text("wrong")
    with pytest.raises(InputError, match=r"one in ~/.ray/auth_token is not the cluster's"):
        jobs._client(dashboard)
    file.write_text("right")
    jobs._client(dashboard)


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "checkout"
    for path, megabytes in (
        ("data/a.bin", 300),
        ("data/b.bin", 290),
        ("pipelines/left.bin", 60),
        ("notes.txt", 1),
        ("ignored/c.bin", 900),
        ("excluded/d.bin", 900),
    ):
        file = place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            stream.truncate(megabytes << 20)  # takes no room on the disk
    (place / ".gitignore").write_text("/ignored\n")
    return place


def test_a_folder_that_is_too_large_is_not_sent(folder) -> None:
    excludes = ["/excluded"]
    assert set(map(str, upload.uploaded(folder, excludes))) == {
        *("data/a.bin", "data/b.bin", "pipelines/left.bin", "notes.txt", ".gitignore")
    }
    with pytest.raises(ConfigError) as caught:
        upload.check(folder, excludes, Path("env.yaml"))
    told = str(caught.value)
    assert "651 MB in 5 files would be uploaded, but the cluster takes 100 MB" in told
    assert "the largest are data/a.bin (300 MB), data/b.bin (290 MB), pipelines/left.bin" in told
    assert told.endswith('add "/data" to excludes in env.yaml, or to .rayignore')
    upload.check(folder, [*excludes, "/data"], Path("env.yaml"))
    (folder / ".rayignore").write_text("/data\n")
    upload.check(folder, excludes, Path("env.yaml"))


def test_it_is_measured_before_the_cluster_is_asked(folder) -> None:
    (folder / "pipelines" / "cli").mkdir()
    (folder / "pipelines" / "cli" / "main.py").touch()
    env = folder / "env.yaml"
    env.write_text('excludes: ["/excluded"]')
    with pytest.raises(ConfigError, match="would be uploaded, but the cluster takes 100 MB"):
        jobs.submit(["run"], address="127.0.0.1:1", working_dir=folder, runtime_env_file=env)


def test_what_the_job_needs_is_not_left_out(folder) -> None:
    """Of the packages' folders the files are named, not the folders."""
    with (folder / "pipelines" / "left.bin").open("wb") as stream:
        stream.truncate(150 << 20)
    with pytest.raises(ConfigError, match=r'add "/pipelines/left.bin" to excludes'):
        upload.check(folder, ["/excluded", "/data"], Path("env.yaml"))


def test_the_checkout_itself_can_be_sent() -> None:
    root = Path(__file__).parents[2]
    file = root / jobs.RUNTIME_ENV
    upload.check(root, jobs.runtime_env(root, file, {})["excludes"], file)
