"""Vectors as the ranking reads them: checked, and by panels that fit its compiled code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.errors import DataError
from fusionrec.ranking.bounds import Codes
from fusionrec.ranking.vector_code import PANEL


@dataclass(frozen=True)
class PackedSongs:
    """Song vectors as :func:`rank_users` reads them; made once, used for any number of users.

    Attributes
    ----------
    rows
        Shape (N, d), float32.
    panels
        The same numbers by panels of songs, (panels, d, songs of a panel), zeros beyond N.
    largest
        Shape (d,), float64: the largest absolute value of each dimension.
    codes
        A byte a number, for lists of few users: :func:`fusionrec.ranking.on_cpu.coded` adds them.
    """

    rows: NDArray[np.float32]
    panels: NDArray[np.float32]
    largest: NDArray[np.float64]
    codes: Codes | None = None

    @staticmethod
    def of(F: NDArray[np.floating[Any]]) -> PackedSongs:
        """Pack F of shape (N, d).

        Raises
        ------
        DataError
            A value is NaN or infinite.
        """
        rows = np.ascontiguousarray(F, dtype=np.float32)
        check_finite(rows, "song column")
        largest = np.abs(rows).max(axis=0, initial=0).astype(np.float64)
        return PackedSongs(rows, panels_of(rows, PANEL), largest)


def panels_of(rows: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Rows (n, d) as (panels, d, width), each panel beginning a cache line; zeros beyond n."""
    n, d = rows.shape
    panels = -(-n // width)
    size = panels * d * width
    memory = np.zeros(size + 16, np.float32)
    offset = (-memory.ctypes.data % 64) // 4
    packed = memory[offset : offset + size].reshape(panels, d, width)
    whole = n // width
    packed[:whole] = rows[: whole * width].reshape(whole, width, d).transpose(0, 2, 1)
    if whole < panels:
        packed[whole, :, : n - whole * width] = rows[whole * width :].T
    return packed


def check_finite(rows: NDArray[np.float32], what: str) -> None:
    if not np.isfinite(rows).all():
        row, dimension = np.argwhere(~np.isfinite(rows))[0]
        raise DataError(
            f"ranking: {what} {row} has {rows[row, dimension]} in dimension {dimension}: "
            "look for NaN or infinite values in its vector"
        )


def check_range(V: NDArray[np.float32], packed: PackedSongs) -> None:
    """No partial sum may leave float32's range."""
    limit = float(np.finfo(np.float32).max)
    bound = np.abs(V).max(axis=0).astype(np.float64) @ packed.largest
    if bound <= limit:
        return
    # Rare: look closer, first by user, then by song.
    for user in np.flatnonzero(np.abs(V).astype(np.float64) @ packed.largest > limit):
        sizes = np.abs(packed.rows).astype(np.float64) @ np.abs(V[user]).astype(np.float64)
        if sizes.max() > limit:
            raise DataError(
                f"ranking: the score of user row {user} and song column {sizes.argmax()} may "
                "become infinite: look for huge values in their vectors"
            )
