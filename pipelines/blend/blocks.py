"""Matrix factorisation by blocks of users and songs, a task each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from fusionrec.baselines.factorisation import half_step
from pipelines.runtime import tasks
from pipelines.runtime.workspace import StageRun


class InTasks:
    """Half-steps as tasks: the blocks stay in the object store, the other side's factors go there.

    The task that asks for them gives up its CPU while it waits.
    """

    def __init__(self, run: StageRun | None) -> None:
        self.run = run

    def blocks(self, confidences: Sequence[csr_matrix]) -> Sequence[Any]:
        """References to the blocks."""
        return [tasks.share(block) for block in confidences]

    def solve(
        self, blocks: Sequence[Any], others: np.ndarray, regularisation: float
    ) -> Iterable[np.ndarray]:
        """Each block's factors."""
        shared = tasks.share(others)
        return tasks.gather(
            [tasks.submit(self.run, half_step, block, shared, regularisation) for block in blocks]
        )
