"""What a blend tells of users that it was not fitted on, by what its stage wrote.

`strangers` has what is read as a whole, and `song_factors` a row a song, of which those are read
that were played. Whoever is one of the blend's own users is known as it has learned it; everybody
else, and users none of whose plays it was to see, by the plays that are at hand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fusionrec.signals.histories import Histories
from fusionrec.signals.strangers import Rows, Strangers
from pipelines.runtime.rows import read_arrays, read_matrix, write_matrix
from pipelines.runtime.workspace import StageRun, Workspace

log = logging.getLogger("fusionrec")

Floats = NDArray[np.float32]

_ARRAYS = ("strangers", "arrays.safetensors")
_FACTORS = "song_factors"


def write_strangers(run: StageRun, strangers: Strangers) -> None:
    """Write what makes them; what of the factorisation's settings it needs is in `blend.json`."""
    if not len(strangers.nobody):
        return  # of a blend of sums over songs alone
    arrays = {"matrix": strangers.matrix, "listeners": strangers.listeners}
    if len(strangers.gram):
        arrays["gram"] = strangers.gram
        write_matrix(run, strangers.factors[np.arange(len(strangers.listeners))], _FACTORS)
    run.write_arrays({name: np.ascontiguousarray(of) for name, of in arrays.items()}, *_ARRAYS)


@dataclass(frozen=True)
class _StoredFactors:
    """Songs' factors, of which some rows are read."""

    workspace: Workspace

    def __getitem__(self, numbers: NDArray[np.int64], /) -> Floats:
        return read_matrix(self.workspace, "blend", _FACTORS, numbers)


@dataclass(frozen=True)
class StoredStrangers:
    """What a workspace's blend makes strangers of, read when one comes.

    Attributes
    ----------
    nobody
        What is told of who has no plays, float32 (E,).
    whole
        All songs' factors are read at once, and kept, for whoever asks again and again.
    """

    workspace: Workspace
    nobody: Floats
    whole: bool = False

    def told(self, histories: Callable[[], Histories], stored: Floats) -> Floats:
        """What no history gives of users, float32 (U, E).

        Parameters
        ----------
        histories
            Makes what each of them played, of the blend's songs in its order; songs behind them do
            not count. Called if there is a stranger.
        stored
            What the blend has of each of them, shape (U, E); a nobody's of who is none of its own.
        """
        strange = np.flatnonzero((stored == self.nobody).all(axis=1))
        if not len(strange) or self._strangers is None:
            return stored
        found = stored.copy()
        found[strange] = self._strangers.told(Histories(histories().counts[strange]))
        return found

    @property
    def learned(self) -> NDArray[np.bool_]:
        """The blend's songs of which plays tell something of a stranger, (songs,)."""
        found = self._strangers
        if found is None or not found.matrix[1:].any():
            return np.zeros(0, bool)
        return found.learned

    @cached_property
    def _strangers(self) -> Strangers | None:
        if not len(self.nobody):
            return None
        if not self.workspace.exists("blend", *_ARRAYS):
            log.warning(
                "%s: its blend is of an earlier version: users that it was not fitted on have the "
                "popularity and factors of one without plays; run again, and they have their own",
                self.workspace.uri,
            )
            return None
        arrays = read_arrays(self.workspace, "blend", *_ARRAYS)
        settings = self.workspace.read_json("blend", "blend.json")["settings"]
        factors: Rows = _StoredFactors(self.workspace)
        gram = arrays.get("gram", np.zeros((0, 0), np.float32))
        if self.whole and len(gram):
            factors = factors[np.arange(len(arrays["listeners"]))]
        return Strangers(
            arrays["matrix"],
            self.nobody,
            arrays["listeners"],
            factors,
            gram,
            settings["alpha"],
            settings["epsilon"],
            settings["regularisation"],
        )
