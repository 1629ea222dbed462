"""Random numbers of a dropout on a CPU: SplitMix64 of a counter, so that each can be made alone.

A generator that must be asked in order costs a CPU six times as much, and its numbers would have
to be written and read again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusionrec.compiled import compiled

Words = NDArray[np.int64]

NUMBERS = 4
"""Of 16 bits, in a word."""

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


def words_of(columns: int) -> int:
    """Words of a row of so many numbers."""
    return -(-columns // NUMBERS)


@compiled
def word(seed: np.uint64, place: np.uint64) -> np.uint64:
    """The word at a place: SplitMix64's number `place` from the seed on."""
    z = seed + (place + np.uint64(1)) * _STEP
    z = (z ^ (z >> _30)) * _FIRST
    z = (z ^ (z >> _27)) * _SECOND
    return z ^ (z >> _31)


@compiled
def fill(seed: np.uint64, rows: NDArray[np.int64], out: Words) -> None:
    """Write the words of some rows of a batch, out of shape (rows, words of a row)."""
    width = out.shape[1]
    for i in range(len(rows)):
        first = np.uint64(rows[i] * width)
        for j in range(width):
            out[i, j] = np.int64(word(seed, first + np.uint64(j)))
