"""Workers in processes of their own, which do not each import PyTorch and all the rest anew."""

from __future__ import annotations

from typing import Any

import torch.multiprocessing as mp

IMPORTED = [
    "pytest",
    "sklearn.utils.class_weight",
    "torch",
    "torch._dynamo",  # as an optimiser does
    "torch.distributed",
    "fusionrec.features.pretraining.loop",
    "fusionrec.models.dlrm",
    "fusionrec.models.to_factors",
    "fusionrec.models.training",
]


def context() -> Any:
    """What starts them: forks of a process that has imported much and done nothing else.

    They share no state with the process of the tests, and nothing with each other.
    """
    found = mp.get_context("forkserver")
    found.set_forkserver_preload(IMPORTED)
    return found
