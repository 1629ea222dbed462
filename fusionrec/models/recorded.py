"""A training step on a GPU, recorded once and replayed: the launches of its many small kernels.

At 256 songs a batch a step is some hundred kernels of microseconds each, which Python cannot call
as quickly as a GPU runs them. A CUDA graph of them is one call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger("fusionrec")

_BEFORE = 3
"""Steps that are taken one by one before one is recorded, so that all they make once is there."""


class RecordedStep:
    """A step on a batch that is given by its rows; those of other sizes are taken one by one.

    The rows lie in one place, from which the recorded kernels read them. Steps before the recording
    are steps of the training like any other, and recording takes none; so the training is the same
    with and without it.

    Parameters
    ----------
    step
        Takes the rows of a batch, int64 (B,), and learns from it, without waiting for the device.
    size
        B of the batches that are recorded.
    generator
        What the step draws from, on the device.
    record
        False: each step is taken as it comes, which is all a CPU can do.
    """

    def __init__(
        self,
        step: Callable[[Tensor], None],
        size: int,
        generator: torch.Generator,
        *,
        record: bool,
    ) -> None:
        self.step, self.generator, self.record = step, generator, record
        self.rows_B = torch.zeros(size, dtype=torch.int64, device=generator.device)
        self.taken = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, rows_B: Tensor) -> None:
        """Learn from a batch."""
        if len(rows_B) != len(self.rows_B):
            self.step(rows_B)
            return
        self.rows_B.copy_(rows_B)
        if self.record and self.graph is None and self.taken >= _BEFORE:
            self.graph = self._recorded()
        if self.graph is not None:
            self.graph.replay()
        elif self.record:
            self._aside()
        else:
            self.step(self.rows_B)
        self.taken += 1

    def _aside(self) -> None:
        """A step on a stream of its own, as what is to be recorded asks for."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.step(self.rows_B)
        torch.cuda.current_stream().wait_stream(stream)

    def _recorded(self) -> torch.cuda.CUDAGraph | None:
        graph = torch.cuda.CUDAGraph()
        # Each replay draws on from where the generator then is, as a step taken one by one does.
        graph.register_generator_state(self.generator)
        before = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph):
                self.step(self.rows_B)
        except RuntimeError as error:
            # After a failure PyTorch leaves the recording's stream the current one.
            torch.cuda.set_stream(before)
            self.record = False
            # What the step met, and not that its recording could then not be ended.
            reason = str(error.__context__ or error).strip().partition("\n")[0]
            log.warning("train: steps are taken one by one, as none could be recorded: %s", reason)
            return None
        return graph
