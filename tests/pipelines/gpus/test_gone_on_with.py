"""A result goes on where it was begun: none is of two precisions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import embed, pretrain, recommend, train, tune
from pipelines.runtime import gpus, resources
from pipelines.runtime.stream import Pool, Sink, Source
from pipelines.runtime.workspace import StageRun, Workspace
from pipelines.train import stage as training
from tests.pipelines.conftest import BEFORE_TRAIN, copied
from tests.pipelines.gpus.settling import begun, foreseen, last_line, settled
from tests.pipelines.inline import load, without_ray


def kept(place: Path) -> list[str]:
    return [each["why"] for each in begun(place).commit({}).get("gpus", [])]


def some_work(place: Path) -> None:
    begun(place).choose("precision", lambda: False)


class _KilledError(Exception):
    pass


def test_a_result_of_which_nothing_is_done_goes_on_anywhere(tmp_path, cluster, caplog) -> None:
    cluster(0)
    settled(tmp_path, "auto")
    begun(tmp_path).keep([], "inputs")
    cluster(4)
    assert foreseen(tmp_path).each == 1
    assert settled(tmp_path, "auto") == 1
    cluster(0)
    assert settled(tmp_path, "auto") == 0
    assert last_line(caplog) == "train: no GPU in the cluster: CPU"
    assert kept(tmp_path) == ["no GPU in the cluster: CPU"]


def test_a_result_begun_on_cpus_goes_on_there(tmp_path, cluster, caplog) -> None:
    cluster(0)
    settled(tmp_path, "auto")
    some_work(tmp_path)
    cluster(4)
    assert foreseen(tmp_path).each == 0
    assert settled(tmp_path, "auto") == 0
    assert last_line(caplog) == (
        "train: as this result was last gone on with (train.num_gpus: 1 goes on on a GPU): CPU"
    )
    assert last_line(caplog) == f"train: {foreseen(tmp_path).why}"
    assert settled(tmp_path, 1) == 1  # who says so, has it so
    assert settled(tmp_path, "auto") == 1
    assert kept(tmp_path) == [
        "no GPU in the cluster: CPU",
        "as this result was last gone on with (train.num_gpus: 1 goes on on a GPU): CPU",
        "1 GPU for a worker (train.num_gpus: 1)",
        "4 GPUs in the cluster, one for a worker",
    ]


def test_a_result_begun_on_gpus_goes_on_where_there_are_none(tmp_path, cluster, caplog) -> None:
    cluster(4)
    settled(tmp_path, "auto")
    some_work(tmp_path)
    settled(tmp_path, "auto")
    cluster(0)
    assert foreseen(tmp_path).why.endswith("where what was begun on a GPU goes on as precisely")
    assert settled(tmp_path, "auto") == 0
    assert last_line(caplog) == (
        "train: no GPU in the cluster: CPU, where what was begun on a GPU goes on as precisely"
    )
    assert len(kept(tmp_path)) == 2  # once for each change


def test_no_result_is_of_two_precisions(small, undisturbed, tmp_path, monkeypatch) -> None:
    """Begun on GPUs, in bfloat16, and killed; on CPUs, which would take float32, it goes on."""
    place = copied(undisturbed, tmp_path / "w", *BEFORE_TRAIN)
    chosen = load(small, place)
    precisions = []

    def killed(self: object, run: object, every: object) -> int:
        precisions.append(self.settings.dtype)  # type: ignore[attr-defined]
        raise _KilledError

    with without_ray():
        with monkeypatch.context() as on_gpus:
            on_gpus.setattr(gpus, "settle", lambda *_: 1.0)
            on_gpus.setattr(training, "halves_for_all", lambda group, device: True)
            on_gpus.setattr(training, "train_to_the_end", killed)
            with pytest.raises(_KilledError):
                train.STAGE.run(chosen)
        manifest = train.STAGE.run(chosen)
    assert precisions == ["bfloat16"]
    assert manifest["choices"] == {"precision": True}
    reading = Workspace(str(place), {"train": manifest["key"]})
    assert reading.read_json("train", *training.DESCRIPTION)["settings"]["dtype"] == "bfloat16"
    assert manifest["identity"] != Workspace(str(undisturbed)).require("train")["identity"]
    assert manifest["key"] == Workspace(str(undisturbed)).require("train")["key"]


def test_workers_get_what_was_settled(small, undisturbed, tmp_path, monkeypatch) -> None:
    """Of all five stages: the work asks for what was settled, whatever the key says."""
    asked: dict[str, set[float]] = {}
    pools: list[tuple[str, float]] = []

    def noted(function: Callable[..., object]) -> Callable[..., object]:
        def call(run: StageRun, *arguments: object, **options: object) -> object:
            if run is not None and options.get("num_gpus"):
                asked.setdefault(run.stage, set()).add(float(str(options["num_gpus"])))
            return function(run, *arguments, **options)

        return call

    from tests.pipelines.inline import each, run_task, streamed
    from tests.pipelines.inline_tune import inline_search

    def noted_stream(
        run: StageRun, groups: list, source: Source, pool: Pool, sink: Sink, **options: object
    ) -> object:
        pools.append((run.stage, pool.num_gpus))
        return streamed(run, groups, source, pool, sink, **options)

    place = copied(undisturbed, tmp_path / "w", "ingest", "split", "label", "fuse")
    chosen = load(small, place, tune__trials=1, tune__space="{label.k: [4]}")
    with without_ray(), inline_search(), monkeypatch.context() as patched:
        for name, function in (
            ("tasks.run_task", run_task),
            ("distributed.run_task", run_task),
            ("tasks.map_tasks", each),
        ):
            patched.setattr(f"pipelines.runtime.{name}", noted(function))
        patched.setattr("pipelines.runtime.stream.stream", noted_stream)
        patched.setattr(resources, "gpus", lambda: 1.0)
        patched.setattr(gpus, "settle", lambda run, use, *_: use.auto if use else 0.0)
        for stage in (pretrain, embed, train, tune, recommend):
            stage.STAGE.run(chosen)
    assert asked == {
        "pretrain": {1.0},
        "embed": {1.0},
        "train": {1.0},
        "tune": {0.25},
        "recommend": {0.25},
    }
    assert set(pools) == {("embed", 1.0)}
