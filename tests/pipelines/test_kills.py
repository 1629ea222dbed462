"""Runs killed at any moment: each that follows ends with the results of an undisturbed one."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from pyarrow import fs as pafs

from pipelines.run import run
from pipelines.runtime import lease
from pipelines.runtime.workspace import Workspace
from tests.pipelines.inline import load, without_ray

ARTIFACTS = {
    "ingest": ("songs", "lyrics", "plays", "users", "rejects", "vocabulary", "other_lyrics"),
    "split": ("split",),
    "label": ("labels", "label_vectors", "centroids"),
    "embed": ("metadata", "lyrics"),
    "fuse": ("fused",),
    "train": ("song_vectors",),
    "recommend": ("recommendations",),
    "evaluate": ("metrics",),
}


class KilledError(BaseException):
    """Not an Exception: nothing that handles errors may survive it."""


class Executioner:
    """Kills at a change of the workspace: before it, in its midst, or right after it.

    From then on nothing of the dead process changes the workspace, as if by SIGKILL.
    """

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        # Mostly soon, at times late, so that work that cannot be resumed ends in the end.
        self.left = 1 + int(dice.expovariate(1 / 15))
        self.dead = False

    def moment(self) -> str:
        """When to die at the change that begins now; "" if not at this one."""
        if self.dead:
            raise KilledError
        self.left -= 1
        return "" if self.left > 0 else self.dice.choice(["before", "amid", "after"])

    def kill(self) -> None:
        self.dead = True
        raise KilledError


@contextmanager
def executed(executioner: Executioner) -> Iterator[None]:
    replacing, delete, delete_file = Workspace._replacing, Workspace.delete, Workspace.remove_file

    @contextmanager
    def mortal_replacing(self: Workspace, target: str) -> Iterator[object]:
        moment = executioner.moment()
        if moment == "before":
            executioner.kill()
        if moment == "amid":  # what was written so far stays under its temporary name
            folder, _, name = target.rpartition("/")
            self.fs.create_dir(folder, recursive=True)
            with self.fs.open_output_stream(f"{folder}/.tmp-dead-{name}") as stream:
                stream.write(b"half")
            executioner.kill()
        with replacing(self, target) as stream:
            yield stream
        if moment:
            executioner.kill()

    def mortal_delete(self: Workspace, *parts: str) -> None:
        if not self.exists(*parts):
            return
        moment = executioner.moment()
        if moment == "before":
            executioner.kill()
        if moment == "amid":
            found = self.fs.get_file_info(pafs.FileSelector(self.path(*parts), recursive=True))
            files = sorted(info.path for info in found if info.type == pafs.FileType.File)
            for path in files[: len(files) // 2]:
                self.fs.delete_file(path)
            executioner.kill()
        delete(self, *parts)
        if moment:
            executioner.kill()

    def mortal_delete_file(self: Workspace, path: str) -> None:
        if executioner.moment():
            executioner.kill()
        delete_file(self, path)

    with (
        patch.object(Workspace, "_replacing", mortal_replacing),
        patch.object(Workspace, "delete", mortal_delete),
        patch.object(Workspace, "remove_file", mortal_delete_file),
    ):
        yield


def artifacts(place: Path) -> dict[tuple[str, str], pa.Table]:
    workspace = Workspace(str(place))
    return {(s, a): workspace.read(s, a) for s, names in ARTIFACTS.items() for a in names}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_run_that_is_killed_again_and_again(small, undisturbed, tmp_path, seed, monkeypatch):
    """Each seed is some sixty kills; tests/pipelines/test_resume.py kills whole processes."""
    # The dead process is this one, which lives: its leases are seen to stand still.
    monkeypatch.setattr(lease, "PATIENCE", 0.02)
    monkeypatch.setattr(lease, "RENEWED_EVERY", 60.0)
    dice = random.Random(seed)
    place = tmp_path / "w"
    kills = 0
    with without_ray():
        while True:
            try:
                with executed(Executioner(dice)):
                    manifests = run(load(small, place))
                break
            except KilledError:
                kills += 1
                assert kills < 500
    assert kills >= 10
    expected = Workspace(str(undisturbed))
    for stage, manifest in manifests.items():
        assert manifest["key"] == expected.require(stage)["key"], stage
    assert manifests["evaluate"]["counts"] == expected.require("evaluate")["counts"]
    there = artifacts(undisturbed)
    for name, table in artifacts(place).items():
        assert table.equals(there[name]), name
    # A last command finds all of it up to date, and leaves nothing of the dead behind.
    with without_ray():
        assert run(load(small, place)) == manifests
    assert not list(place.glob("*/*/reports"))
    assert not list(place.glob("ingest/*/raw_*"))
