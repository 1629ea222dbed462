"""Top lists of two sets of candidates into those of both together, exactly.

What is among the best K of all candidates is among the best K of the set that it is of: so a list
that was ranked before, and one of candidates that are new, hold all that the list of both can.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.ranking.limited import TopLists


def merged(first: TopLists, second: TopLists, k: int) -> TopLists:
    """Users' lists of `first` and `second` as one, of K at most.

    Parameters
    ----------
    first, second
        Of the same users, shapes (U, K1) and (U, K2), each by descending scores. Of equal scores
        those of `first` come first, as where all its candidates have lower numbers. Their columns
        mean the same in both; none is in both of a user's lists.
    """
    scores = np.hstack([first.scores, second.scores])
    indices = np.hstack([first.indices, second.indices])
    # Stable; NaN, which stands beyond a list's last, comes last. Two runs that are in order are
    # merged, not sorted.
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    counts = np.minimum(first.counts + second.counts, k).astype(np.int32)
    found = TopLists.empty(len(counts), k)
    width = best.shape[1]
    found.scores[:, :width] = np.take_along_axis(scores, best, axis=1)
    found.indices[:, :width] = np.take_along_axis(indices, best, axis=1)
    return TopLists(found.indices, found.scores, counts)


def padded(sizes: NDArray[np.integer[Any]], scores: NDArray[np.float32], k: int) -> TopLists:
    """Lists that lie one after the other, as rows; their columns are the places where they lie.

    Parameters
    ----------
    sizes
        Of each user's list, at most `k`; shape (U,).
    scores
        One list after the other, shape (sum of the sizes,).
    """
    found = TopLists.empty(len(sizes), k)
    listed = np.arange(k) < sizes[:, None]
    found.scores[listed] = scores
    found.indices[listed] = np.arange(len(scores), dtype=np.int32)
    found.counts[:] = sizes
    return found
