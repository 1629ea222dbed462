"""The blocks of the README and of the guide run, in the order in which a reader meets them."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import pytest

from pipelines.runtime.workspace import Workspace
from tests.docs.blocks import ELSEWHERE, ROOT, blocks, pages, replaced, script

BESIDE = ("pipelines", "examples", "benchmarks", "cluster")
"""Folders of the repository that commands name files of."""


@pytest.fixture
def place(small, beside, tmp_path) -> Path:
    """What a reader has after `make demo`, small."""
    demo = tmp_path / "demo"
    shutil.copytree(small, demo / "corpus")
    shutil.copytree(beside, demo / "workspace")
    for name in BESIDE:
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "bin").mkdir()
    for name, command in {"fusionrec": "-m pipelines.cli", "python": ""}.items():
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        program.chmod(0o755)
    return tmp_path


def filled(workspace: Path) -> dict[str, str]:
    """What a reader fills in: a user, and a song that goes by its name, of a workspace."""
    finished = Workspace(str(workspace))
    songs = finished.read("ingest", "songs", ["song_id", "artist_name", "title"]).to_pylist()
    names = [f"{song['artist_name']} - {song['title']}" for song in songs]
    vectors = set(finished.read("train", "song_vectors", ["song_id"])["song_id"].to_pylist())
    song, name = next(
        (song["song_id"], name)
        for song, name in zip(songs, names, strict=True)
        if names.count(name) == 1 and '"' not in name and song["song_id"] in vectors
    )
    user = finished.read("recommend", "recommendations", ["user_id"])["user_id"][0].as_py()
    return {"USER_ID": user, "SONG_ID": song, "artist - title": name}


def environment(place: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{place / 'examples'}",
    }


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in pages() if any(b.is_run for b in blocks(p))])
def test_a_pages_blocks_run(place, page) -> None:
    program = place / "page.py"
    program.write_text(script(page, filled(place / "demo" / "workspace")))
    done = subprocess.run(
        [sys.executable, program],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


SERVICE = "docs/service.md"
SHOWN = "http://127.0.0.1:8000"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_what_the_guide_asks_the_service_is_answered(place) -> None:
    """Each request has an answer with the fields that the page shows below it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = filled(place / "demo" / "workspace") | {SHOWN: f"http://127.0.0.1:{port}"}
    shown = blocks(SERVICE)
    asked = [
        (block, answer)
        for block, answer in pairwise(shown)
        if block.reason == f"{ELSEWHERE}tests/pipelines/test_pages.py"
    ]
    assert asked
    serve = [place / "bin" / "fusionrec", "serve", "--workspace", "demo/workspace"]
    serving = subprocess.Popen([*serve, "--port", str(port)], cwd=place, env=environment(place))
    try:
        _wait_for(port, serving)
        for block, answer in asked:
            told = subprocess.run(
                ["bash", "-e", "-c", replaced(block.text, given)],
                cwd=place,
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
            assert answer.language == "json", answer.name
            assert fields(json.loads(told)) >= fields(json.loads(answer.text)), block.name
    finally:
        serving.terminate()
        serving.wait(30)


def _wait_for(port: int, serving: subprocess.Popen[bytes]) -> None:
    while serving.poll() is None:
        try:
            urlopen(f"http://127.0.0.1:{port}/v1/health", timeout=10).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the service ended with {serving.returncode}")


def fields(answer: object, name: str = "") -> set[str]:
    """The dotted names of all fields of an answer; those of a list's items are one."""
    if isinstance(answer, dict):
        inner = [fields(value, f"{name}.{key}") for key, value in answer.items()]
        return {f"{name}.{key}" for key in answer}.union(*inner)
    if isinstance(answer, list):
        return set().union(*(fields(item, f"{name}[]") for item in answer))
    return set()
