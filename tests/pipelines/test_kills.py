"""Runs killed at any moment: each that follows ends with the results of an undisturbed one."""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar
from unittest.mock import patch

import pyarrow as pa
import pytest
from pyarrow import fs as pafs

from pipelines.config import Config
from pipelines.run import run
from pipelines.runtime import cleaning, lease
from pipelines.runtime.shards import Shard, Written
from pipelines.runtime.stage import Stage, resumable
from pipelines.runtime.workspace import StageRun, Workspace
from tests.pipelines.beside import SETTINGS, STAGES, TASTE, tables, timeless
from tests.pipelines.inline import load, without_ray
from tests.pipelines.inline_tune import inline_search

SEEDS = {"run": 2, "blend": 2, "report": 2, "tune": 2, "compare": 1}
"""So many seeds each."""
KILLS: dict[tuple[str, int], int] = {}
"""Of each seed that was run to its end."""

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


T = TypeVar("T")


def killed_until_done(work: Callable[[], T], seed: int) -> tuple[T, int]:
    """What the work returns in the end, and how often it was killed before."""
    dice, kills = random.Random(seed), 0
    while True:
        try:
            with executed(Executioner(dice)):
                return work(), kills
        except KilledError:
            kills += 1
            assert kills < 500


@pytest.fixture(autouse=True)
def _dead_who_live(monkeypatch) -> Iterator[None]:
    """The dead process is this one, which lives: its leases are seen to stand still."""
    monkeypatch.setattr(lease, "PATIENCE", 0.02)
    monkeypatch.setattr(lease, "RENEWED_EVERY", 60.0)
    # Who takes over waits up to half a second for others that come at once; there are none.
    monkeypatch.setattr(lease, "random", SimpleNamespace(uniform=lambda least, most: 0.0))
    with without_ray():
        yield


@pytest.mark.parametrize("moment", range(4))
def test_a_run_that_is_killed_while_it_clears_up_is_finished(tmp_path, monkeypatch, moment) -> None:
    """Parts that only the work reads go, and the reports that say that they were written."""
    table = pa.table({"x": [1, 2, 3]})

    def work(config: Config, workspace: Workspace, run: StageRun) -> dict[str, int]:
        def write(shard: Shard) -> Written:
            run.write(table, "raw", shard.part)
            return Written(table.num_rows)

        resumable(run, "rows", write, Written)(Shard(0))
        return {"rows": run.workspace.read(run.stage, "raw").num_rows}

    stage = Stage("label", lambda _: (), lambda _: {}, work, staging=("raw",))
    chosen, left, delete = load(tmp_path, tmp_path / "w"), [moment], Workspace.delete

    def mortal(self: Workspace, *parts: str) -> None:
        if left[0] == 0:
            raise KilledError
        left[0] -= 1
        delete(self, *parts)

    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "delete", mortal)
        with pytest.raises(KilledError):
            stage.run(chosen)
    assert stage.run(chosen)["counts"] == {"rows": 3}
    for artifact in ("raw", "reports"):
        assert not list(tmp_path.glob(f"w/label/*/{artifact}"))


def artifacts(place: Path) -> dict[tuple[str, str], pa.Table]:
    workspace = Workspace(str(place))
    return {(s, a): workspace.read(s, a) for s, names in ARTIFACTS.items() for a in names}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS["run"]))
def test_a_run_that_is_killed_again_and_again(small, undisturbed, tmp_path, seed):
    """tests/pipelines/test_resume.py kills whole processes."""
    place = tmp_path / "w"
    manifests, kills = killed_until_done(lambda: run(load(small, place)), seed)
    KILLS["run", seed] = kills
    expected = Workspace(str(undisturbed))
    for stage, manifest in manifests.items():
        assert manifest["key"] == expected.require(stage)["key"], stage
    assert manifests["evaluate"]["counts"] == expected.require("evaluate")["counts"]
    there = artifacts(undisturbed)
    for name, table in artifacts(place).items():
        assert table.equals(there[name]), name
    # A last command finds all of it up to date, and leaves nothing of the dead behind.
    assert run(load(small, place)) == manifests
    assert not list(place.glob("*/*/reports"))
    assert not list(place.glob("ingest/*/raw_*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed"), [(name, seed) for name in STAGES for seed in range(SEEDS[name])]
)
def test_what_stands_beside_a_run_is_killed_again_and_again(
    small, undisturbed, beside, tmp_path, name, seed
):
    """Of a search, Ray Tune's own part is another one here (tests/pipelines/inline_tune.py).

    tests/pipelines/test_tune.py kills Ray Tune's.
    """
    stage = STAGES[name]
    place = Path(shutil.copytree(undisturbed, tmp_path / "w"))
    chosen = load(small, place, **SETTINGS[name])
    with inline_search():
        manifest, kills = killed_until_done(lambda: stage.run(chosen), seed)
        KILLS[name, seed] = kills
        expected = Workspace(str(beside)).require(name)
        assert manifest["key"] == expected["key"]
        assert timeless(manifest["counts"]) == timeless(expected["counts"])
        assert {tuple(pair) for pair in manifest["uses"]} == {tuple(p) for p in expected["uses"]}
        found, there = (tables(Workspace(str(w)), name) for w in (place, beside))
        assert found.keys() == there.keys()
        for file, content in found.items():
            assert content == there[file], file
        # A last command finds it up to date, and removes nothing that it is made from.
        assert stage.run(chosen) == manifest
        for result in cleaning.unneeded(Workspace(str(place))):
            cleaning.remove(Workspace(str(place)), result)
        assert stage.run(chosen) == manifest
    for used, key in manifest["uses"]:
        assert Workspace(str(place), {used: key}).manifest(used) is not None


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["factors", "ranking"])
def test_a_training_on_taste_is_killed_again_and_again(small, undisturbed, tmp_path, objective):
    whole, place = (Path(shutil.copytree(undisturbed, tmp_path / name)) for name in ("a", "b"))
    more = {**TASTE, "train__objective": objective}
    expected = run(load(small, whole, **more))
    manifests, kills = killed_until_done(lambda: run(load(small, place, **more)), seed=5)
    assert kills > 0
    assert manifests["evaluate"]["counts"] == expected["evaluate"]["counts"]
    for name in ("song_vectors", "user_vectors"):
        found, there = (Workspace(str(w)).read("train", name) for w in (place, whole))
        assert found.equals(there), name
    assert run(load(small, place, **more)) == manifests
    assert not list(place.glob("train/*/reports")) + list(place.glob("train/*/factors"))


@pytest.mark.slow
def test_they_were_killed_two_hundred_times() -> None:
    if len(KILLS) < sum(SEEDS.values()):
        pytest.skip("of all seeds together")
    for name in SEEDS:
        assert sum(kills for (of, _), kills in KILLS.items() if of == name) > 0, name
    assert sum(KILLS.values()) >= 200, KILLS
