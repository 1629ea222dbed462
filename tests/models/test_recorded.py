"""Steps that a GPU records, as far as a CPU can take them: what one by one they come to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from fusionrec.models.network import FusionNetwork
from fusionrec.models.recorded import RecordedStep
from fusionrec.models.training import Training
from tests.models.test_training import DOUBLE, blobs, feed, weights_of

OPTIONS = replace(DOUBLE, norm_group=16, schedule="cosine", weight_decay=0.01)


def training(*, by_rows: bool) -> Training:
    made = Training(feed(blobs(), OPTIONS), OPTIONS)
    if by_rows:
        made._recorded = made._recorder(anywhere=True)
    return made


def assert_close(one: FusionNetwork, other: FusionNetwork) -> None:
    """A recorded step has its learning rate in float32."""
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_steps_on_rows_in_one_place_learn_the_same() -> None:
    """210 songs in batches of 64: three of the recorded size, and a last one of 18."""
    one, other = training(by_rows=False), training(by_rows=True)
    for made in (one, other):
        made.run()
    assert other._recorded.taken == 3 * OPTIONS.epochs
    for mine, theirs in zip(one.curve, other.curve, strict=True):
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-6)
        assert mine.validation_accuracy == theirs.validation_accuracy
    assert_close(one.result(), other.result())


def test_a_restored_training_steps_on_the_restored_moments() -> None:
    whole, begun, restored = (training(by_rows=by_rows) for by_rows in (False, True, True))
    whole.run()
    for _ in range(2):
        begun.run_epoch()
    restored.restore(begun.save())
    assert restored._recorded is None, "on a CPU there is nothing to record"
    restored._recorded = restored._recorder(anywhere=True)
    restored.run()
    assert_close(whole.result(), restored.result())


class Device:
    """A machine as with a GPU: what is recorded is the rows' place, and a replay reads them there.

    Attributes
    ----------
    taken, replayed
        Rows of the steps taken one by one, and of those replayed.
    recording
        Whether what a step does is recorded, and not done.
    stream
        The current one.
    """

    def __init__(self) -> None:
        self.taken: list[list[int]] = []
        self.replayed: list[list[int]] = []
        self.recorded: torch.Tensor | None = None
        self.recording = False
        self.stream = "own"

    def step(self, rows_B: torch.Tensor) -> None:
        if self.recording:
            self.recorded = rows_B
        else:
            self.taken.append(rows_B.tolist())

    @contextmanager
    def graph(self, graph: object) -> Iterator[None]:
        """As PyTorch's, which after a failure ends with another one, before it is on its stream."""
        self.recording, self.stream = True, "aside"
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError("operation failed due to a previous error") from error
        finally:
            self.recording = False
        self.stream = "own"

    def register_generator_state(self, generator: torch.Generator) -> None: ...

    def replay(self) -> None:
        assert self.recorded is not None
        self.replayed.append(self.recorded.tolist())


@pytest.fixture
def machine(monkeypatch) -> Device:
    made = Device()
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: made)
    monkeypatch.setattr(torch.cuda, "graph", made.graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: made.stream)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: setattr(made, "stream", stream))
    monkeypatch.setattr(RecordedStep, "_aside", lambda self: self.step(self.rows_B))
    return made


def batches(*sizes: int) -> list[torch.Tensor]:
    """Rows that are other ones in each batch."""
    return [torch.arange(size) + 10 * number for number, size in enumerate(sizes)]


def test_a_step_is_recorded_after_some_and_replayed_on_each_batchs_rows(machine) -> None:
    step = RecordedStep(machine.step, 4, torch.Generator(), record=True)
    given = batches(4, 4, 2, 4, 4, 4, 2, 4)
    for rows_B in given:
        step(rows_B)
    # Three of the size one by one; those of another size always.
    assert machine.taken == [given[i].tolist() for i in (0, 1, 2, 3, 6)]
    assert machine.replayed == [given[i].tolist() for i in (4, 5, 7)]
    assert step.taken == 6


@pytest.mark.parametrize("inside", [True, False])
def test_where_none_can_be_recorded_all_are_taken_one_by_one(
    machine, monkeypatch, caplog, inside
) -> None:
    """By the step, in the middle of the recording, or by the recording itself."""

    def fail(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    def fails_inside(rows_B: torch.Tensor) -> None:
        if machine.recording:
            fail()
        machine.step(rows_B)

    if not inside:
        monkeypatch.setattr(torch.cuda, "graph", fail)
    step = RecordedStep(fails_inside, 4, torch.Generator(), record=True)
    given = batches(4, 4, 4, 4, 4, 4)
    for rows_B in given:
        step(rows_B)
    assert machine.taken == [rows_B.tolist() for rows_B in given]
    assert not machine.replayed
    assert step.graph is None
    assert machine.stream == "own"
    assert "one by one, as none could be recorded: operation not permitted" in caplog.text
    assert "more" not in caplog.text
