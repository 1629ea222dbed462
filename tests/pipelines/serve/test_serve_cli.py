"""Ray's own `serve` takes the application, and the RayService's config as the manifest has it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.opened import Recommender
from tests.cluster.test_files import documents
from tests.pipelines.deaths import family
from tests.pipelines.serve.conftest import users_plays
from tests.pipelines.serve.replicas import (
    TOKEN,
    Load,
    answered,
    ask,
    free_port,
    healthy,
    replicas,
    until,
)

ROOT = Path(__file__).parents[3]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
SERVE = [sys.executable, "-m", "ray.serve.scripts"]


def _to_be_interrupted() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Node:
    """A Ray of its own, of processes, as `ray start --head` starts one."""

    def __init__(self, scratch: Path) -> None:
        self.http, port, dashboard, agent = (free_port() for _ in range(4))
        self.scratch = scratch
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.environment |= {
            "PYTHONPATH": str(ROOT),
            "FUSIONREC_SERVE_TOKEN": TOKEN,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ADDRESS": f"127.0.0.1:{port}",
            "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{dashboard}",
        }
        options = [f"--port={port}", f"--temp-dir={scratch}/ray", "--num-cpus=4"]
        options += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]
        options += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
        options += ["--object-store-memory=100000000", "--disable-usage-stats"]
        self.head = self.begin(*RAY, "start", "--head", "--block", *options)

    def begin(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.scratch / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                env=self.environment,
                cwd=self.scratch,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Where the tests run in the background of a shell, SIGINT is ignored, and what
                # they start would inherit that: `serve run` could not be ended by it.
                preexec_fn=_to_be_interrupted,
            )

    def serve(self, *arguments: str) -> str:
        """Run a command of `serve`, to its end."""
        done = subprocess.run(
            [*SERVE, *arguments],
            env=self.environment,
            cwd=self.scratch,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def state(self) -> tuple[str, dict[str, int]]:
        """Of the application, and how many replicas are in which state."""
        told = urllib.request.Request(
            f"{self.environment['RAY_DASHBOARD_ADDRESS']}/api/serve/applications/",
            headers={"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"},
        )
        with urllib.request.urlopen(told, timeout=30) as answer:
            app = json.load(answer)["applications"].get("fusionrec", {})
        deployment = app.get("deployments", {}).get("fusionrec", {})  # as long as it is built none
        states = Counter(each["state"] for each in deployment.get("replicas", ()))
        return app.get("status", "none"), dict(states)

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.state() == ("none", {})
        return False

    def replicas(self) -> int:
        return len(replicas(self.head.pid))

    def stop(self) -> None:
        for pid in family(self.head.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.head.wait()


@pytest.fixture
def node() -> Iterator[Node]:
    # Sockets' paths may have 107 characters, which pytest's folders leave too few of.
    scratch = Path(tempfile.mkdtemp(prefix="fr-"))
    started = Node(scratch)
    try:
        until(started.answers, 60)
        yield started
    finally:
        started.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def manifests(workspace: Path, port: int) -> dict[str, Any]:
    """The RayService's config, but for its workspace, and where on this machine it listens."""
    config: dict[str, Any] = yaml.safe_load(
        documents("kuberay/rayservice.yaml")[0]["spec"]["serveConfigV2"]
    )
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    config["applications"][0]["args"]["workspace"] = str(workspace)
    return config


@pytest.mark.slow
def test_ray_s_own_command_serves_a_workspace_and_the_manifest_s_config(places, node) -> None:
    place, port = places["genre"], node.http
    recommender = Recommender.open(place)
    user, plays = next(iter(users_plays(recommender).items()))
    (expected,) = recommender.recommend({"me": plays}, top=5).to_pylist()
    form = {"plays": plays, "top": 5}

    def asked() -> None:
        health = answered(port, "GET", "/v1/health")
        assert health["songs"] == recommender.workspace.require("ingest")["counts"]["songs"]
        assert ask(port, "POST", "/v1/lists", form, token="wrong")[0] == 401
        listed = answered(port, "POST", "/v1/lists", form)["songs"]
        assert [song["song_id"] for song in listed] == expected["song_ids"]
        assert answered(port, "GET", f"/v1/lists?user_id={user}&top=3")["songs"]
        song = expected["song_ids"][0]
        near = recommender.similar(song, 4)["song_id"].to_pylist()
        like = answered(port, "GET", f"/v1/similar?song_id={song}&top=4")["songs"]
        assert [each["song_id"] for each in like] == near
        why = answered(port, "POST", "/v1/why", {"song_id": song, "plays": plays})
        assert why["score"] == pytest.approx(recommender.explain(plays, song).score)
        status, page = ask(port, "GET", "/", token="")
        assert (status, b"<title>fusionrec" in page) == (200, True)

    node.serve("start", f"--http-port={port}", "--http-host=127.0.0.1")
    line = ["pipelines.serve.ray_app:build", f"workspace={place}", "hosts=localhost,127.0.0.1"]
    running = node.begin(*SERVE, "run", *line)
    until(lambda: healthy(port), 90)
    asked()
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 0
    until(lambda: node.replicas() == 0, 30)

    config, file = manifests(place, port), node.scratch / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    node.serve("deploy", str(file))
    until(lambda: node.state() == ("RUNNING", {"RUNNING": 2}), 90)
    asked()
    load = Load(port, form, expected["song_ids"])
    with load.running():
        load.kill_one(node.head.pid)
        lost = len(load.failed())
        config["applications"][0]["args"]["replicas"] = 3
        file.write_text(yaml.safe_dump(config))
        node.serve("deploy", str(file))
        until(lambda: node.state() == ("RUNNING", {"RUNNING": 3}), 90)
        load.more(100)
        assert len(load.failed()) == lost  # of a change of scale nothing is lost
    assert "status: RUNNING" in node.serve("status")
    node.serve("shutdown", "--yes")
    until(lambda: node.replicas() == 0 and not healthy(port), 30)
