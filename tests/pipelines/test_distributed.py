"""Work on several workers: what becomes of it when one of them fails."""

import pytest

from fusionrec.errors import DataError, StageError
from fusionrec.models.collective import Collective
from pipelines.runtime import distributed
from pipelines.runtime.stage import Counts
from pipelines.runtime.workspace import StageRun, Workspace

BAD = DataError("song 7 has no features")
WAITED = StageError("train: worker 1 has failed; worker 0 waited for it")


class Memory:
    """Of the workers of a node, with what they have told each other."""

    failed = False

    def fail(self) -> None:
        self.failed = True


def _raises(error: Exception | None, worker: distributed.Worker) -> Counts:
    if error is not None:
        raise error
    return {"rank": worker.collective.rank}


def of(run: StageRun, error: Exception | None) -> distributed._Packed[Exception | None]:
    return distributed._Packed(_raises, error, run, gpu=False, threads=1, call="this")


def work(run: StageRun, rank: int, error: Exception | None) -> bool:
    """Do one worker's work; whether it has told the others that it failed."""
    memory = Memory()
    collective = Collective(rank, 2, memory)  # type: ignore[arg-type]
    try:
        distributed._work(of(run, error), collective, {}, on_this_node=2)
    finally:
        told = memory.failed
    return told


@pytest.fixture
def run(tmp_path) -> StageRun:
    found = Workspace(str(tmp_path)).begin("train", {})
    assert found is not None
    return found


@pytest.mark.parametrize("rank", [0, 1])
def test_bad_data_that_one_worker_finds_are_told_to_the_others(run, rank: int) -> None:
    assert work(run, rank, BAD)  # and raises nothing, which Ray Train would try again
    assert of(run, None).fault() == str(BAD)
    # The one that waited for it has no fault of its own.
    assert work(run, 1 - rank, WAITED)
    assert of(run, None).fault() == str(BAD)


def test_another_failure_is_told_and_raised(run) -> None:
    memory = Memory()
    collective = Collective(1, 2, memory)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="broken"):
        distributed._work(of(run, ValueError("broken")), collective, {}, on_this_node=2)
    assert memory.failed
    assert of(run, None).fault() is None
    with pytest.raises(StageError, match="worker 1 has failed"):
        work(run, 0, WAITED)


def test_work_without_fault_is_told_to_nobody(run) -> None:
    assert not work(run, 1, None)
    assert not work(run, 0, None)
    assert run.read_json(distributed._RESULT) == {"rank": 0}


def test_a_fault_of_an_earlier_call_is_not_this_ones(run) -> None:
    run.write_json({"call": "earlier", "error": str(BAD)}, distributed._FAULT)
    with pytest.raises(StageError, match="worker 1 has failed"):
        work(run, 0, WAITED)


def test_the_caller_gets_what_a_worker_found_wrong(run, monkeypatch) -> None:
    def here(_run, work, packed, streams, **_) -> None:
        work(packed, streams)

    monkeypatch.setattr(distributed, "run_task", here)
    monkeypatch.setattr(distributed.resources, "require", lambda *_, **__: None)

    def call(error: Exception | None) -> Counts:
        return distributed.run(
            _raises, error, run, workers=0, num_gpus=0.0, patience=1.0, threads=1
        )

    with pytest.raises(DataError, match="song 7 has no features"):
        call(BAD)
    assert call(None) == {"rank": 0}


@pytest.mark.parametrize("error", [BAD, ValueError("broken")])
def test_it_gets_it_also_where_the_training_ended_otherwise(run, monkeypatch, error) -> None:
    def ended(packed, *_) -> None:
        if isinstance(error, DataError):
            run.write_json({"call": packed.call, "error": str(error)}, distributed._FAULT)
        raise WAITED

    monkeypatch.setattr(distributed, "_distributed", ended)
    monkeypatch.setattr(distributed.resources, "require", lambda *_, **__: None)
    expected = DataError if error is BAD else StageError
    with pytest.raises(expected):
        distributed.run(_raises, error, run, workers=2, num_gpus=0.0, patience=1.0, threads=1)
