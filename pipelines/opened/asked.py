"""What is asked of :class:`pipelines.opened.batches.Batches`, and the list that it answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.opened.stored import Stored

Choice = Literal["all", "new"]
"""Songs to choose from: all with a vector, or of these the ones that nobody played."""


@dataclass(frozen=True)
class Asked:
    """A list that is asked for.

    Attributes
    ----------
    plays
        {song id: plays}, at least 1 of each.
    top
        Songs of the list, at most.
    user
        The id of a user of the workspace, of whom a blend has learned what no history gives.
    """

    plays: Mapping[str, int]
    top: int
    user: str | None = None
    candidates: Choice = "all"
    exclude_heard: bool = True


@dataclass(frozen=True)
class Listed:
    """The list.

    Attributes
    ----------
    rows
        Songs of the catalogue by number, best first, int64.
    scores
        Float32, like `rows`.
    stored
        What says how well a song matches, and why.
    fallback
        The model knows nothing of the plays: the list is that of most people.
    used, unused, unknown
        Songs played that the user's vector is made of, that the model knows nothing of, and that
        the workspace does not have.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    stored: Stored = field(repr=False)
    fallback: bool = False
    used: int = 0
    unused: int = 0
    unknown: int = 0
