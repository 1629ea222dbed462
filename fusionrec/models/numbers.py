"""Random numbers of a dropout on a CPU: SplitMix64 of a counter, so that each can be made alone.

A generator that must be asked in order costs a CPU six times as much, and its numbers would have
to be written and read again.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
from numpy.typing import NDArray

from fusionrec import probes
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


def fill(seed: np.uint64, rows: NDArray[np.int64], out: Words) -> None:
    """Write the words of some rows of a batch, out of shape (rows, words of a row).

    By compiled code, or by NumPy where that does not work: the same words.
    """
    (_filled if compiled_numbers().works else _filled_plainly)(seed, rows, out)


@cache
def compiled_numbers() -> probes.Finding:
    """Whether compiled code gives on this processor the words that NumPy gives; tried once."""

    def trial() -> str:
        if numba.config.DISABLE_JIT:
            return "numba compiles nothing (NUMBA_DISABLE_JIT)"
        rows = np.array([3, 0, 2**33])
        found, expected = np.empty((2, len(rows), 5), np.int64)
        for seed in (np.uint64(7), np.uint64(2**64 - 1)):
            _filled(seed, rows, found)
            _filled_plainly(seed, rows, expected)
            if not np.array_equal(found, expected):
                return "its words are not those of NumPy"
        return ""

    finding = probes.attempt(trial)
    return probes.report(
        "training", finding, "compiled random numbers", "NumPy's random numbers, slower"
    )


def _filled_plainly(seed: np.uint64, rows: NDArray[np.int64], out: Words) -> None:
    width = out.shape[1]
    with np.errstate(over="ignore"):  # all is modulo 2^64
        places = (rows[:, None] * width + np.arange(width)).astype(np.uint64)
        z = seed + (places + np.uint64(1)) * _STEP
        z = (z ^ (z >> _30)) * _FIRST
        z = (z ^ (z >> _27)) * _SECOND
        out[:] = (z ^ (z >> _31)).view(np.int64)


@compiled
def _filled(seed: np.uint64, rows: NDArray[np.int64], out: Words) -> None:
    width = out.shape[1]
    for i in range(len(rows)):
        first = np.uint64(rows[i] * width)
        for j in range(width):
            out[i, j] = np.int64(word(seed, first + np.uint64(j)))
