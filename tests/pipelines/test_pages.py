"""The blocks of the README and of the guide run, in the order in which a reader meets them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.runtime.workspace import Workspace
from tests.docs.blocks import ROOT, blocks, pages, script

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


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in pages() if any(b.is_run for b in blocks(p))])
def test_a_pages_blocks_run(place, page) -> None:
    program = place / "page.py"
    program.write_text(script(page, filled(place / "demo" / "workspace")))
    done = subprocess.run(
        [sys.executable, program],
        cwd=place,
        env={
            **os.environ,
            "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{place / 'examples'}",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
