"""Steps that a GPU records, as far as a CPU can take them: what one by one they come to."""

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


class Graph:
    """A recording that writes down what it is asked for."""

    replays = 0

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.generator = generator

    def replay(self) -> None:
        Graph.replays += 1


@pytest.fixture
def steps(monkeypatch) -> list[int]:
    """Sizes of the batches on which steps were taken one by one, on a machine as with a GPU."""
    monkeypatch.setattr(Graph, "replays", 0)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(RecordedStep, "_aside", lambda self: self.step(self.rows_B))
    return []


def test_a_step_is_recorded_after_some_and_replayed(steps, monkeypatch) -> None:
    class Recording:
        def __init__(self, graph: Graph) -> None: ...

        def __enter__(self) -> None:
            steps.append(0)  # what follows is recorded, and not taken

        def __exit__(self, *error: object) -> None:
            steps.pop()

    monkeypatch.setattr(torch.cuda, "graph", Recording)
    step = RecordedStep(lambda rows: steps.append(len(rows)), 4, torch.Generator(), record=True)
    for size in (4, 4, 2, 4, 4, 4, 2, 4):
        step(torch.arange(size))
    # Three of the size one by one; those of another size always.
    assert [size for size in steps if size][:4] == [4, 4, 2, 4]
    assert Graph.replays == 3
    assert step.taken == 6
    assert torch.equal(step.rows_B, torch.arange(4))


def test_where_none_can_be_recorded_all_are_taken_one_by_one(steps, monkeypatch, caplog) -> None:
    def fail(graph: Graph) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "graph", fail)
    step = RecordedStep(lambda rows: steps.append(len(rows)), 4, torch.Generator(), record=True)
    for _ in range(6):
        step(torch.arange(4))
    assert steps == [4] * 6
    assert "one by one, as none could be recorded: operation not permitted" in caplog.text
    assert "more" not in caplog.text
