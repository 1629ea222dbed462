"""How many typing errors lie between what was typed and a beginning of a word; compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.compiled import compiled

Array = NDArray[Any]

MOST_EDITS = 2


def allowed(letters: int) -> int:
    """Errors that are forgiven in a word of so many letters: 0 up to 3, 1 up to 7, then 2."""
    return 0 if letters < 4 else 1 if letters < 8 else MOST_EDITS


@compiled
def prefix_edits(typed: Array, letters: Array, starts: Array, most: int, found: Array) -> None:
    """Errors between a typed word and the nearest beginning of each word of a vocabulary.

    An error is a letter that is missing, one too many, another one, or two neighbours that have
    changed places, none of which is touched twice (optimal string alignment).

    Parameters
    ----------
    typed
        Its letters, uint32 (m,), m at least 1.
    letters, starts
        Those of all words one after the other, uint32, and where each word begins, int64
        (words + 1,).
    most
        Errors that are looked for.
    found
        Result, uint8 (words,): the errors, `most` + 1 where there are more.
    """
    m = len(typed)
    far = most + 1
    # Rows of the table of distances, by letters of the typed word; columns by letters of a word,
    # of which those further than `most` from the diagonal cost more than that anyway.
    rows = np.empty((3, m + most + 2), np.int64)
    for word in range(len(starts) - 1):
        start = starts[word]
        length = min(starts[word + 1] - start, m + most)
        if length < m - most:
            found[word] = far
            continue
        before, above, row = 0, 1, 2
        for j in range(length + 1):
            rows[above, j] = j
        last, best = 0, 0
        for i in range(1, m + 1):
            low, high = max(1, i - most), min(length, i + most)
            rows[row, low - 1] = i if low == 1 else far
            last, best = best, rows[row, low - 1]
            for j in range(low, high + 1):
                same = typed[i - 1] == letters[start + j - 1]
                least = rows[above, j - 1] + (0 if same else 1)
                if j < i + most:
                    least = min(least, rows[above, j] + 1)
                least = min(least, rows[row, j - 1] + 1)
                if (
                    i > 1
                    and j > 1
                    and typed[i - 1] == letters[start + j - 2]
                    and typed[i - 2] == letters[start + j - 1]
                ):
                    least = min(least, rows[before, j - 2] + 1)
                rows[row, j] = least
                best = min(best, least)
            if best > most and last > most:  # two, as a change of places steps over one
                break
            before, above, row = above, row, before
        found[word] = min(best, far)
