"""A cold song by the other songs of its artist, weighed by how alike they are (attention)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fusionrec.signals import basis, taste
from fusionrec.signals.content import KERNELS
from fusionrec.signals.kernels import Kernel, Sum
from fusionrec.signals.signal import Factors, Fold


def by_attention(fold: Fold) -> Factors:
    """F(s) = n / (n + shrinkage) sum_t softmax_t(sharpness K(s, t)) y_t.

    Over the n songs t of the same artist that were played, without s; K is the mean of all
    kernels of content, y_t and the users are those of matrix factorisation. Zeros for a song
    whose artist has no such song.
    """
    users, songs = taste.smoothed(fold)
    kernel = fold.once("kernel of attention", lambda: content_kernel(fold))
    return Factors(attended(fold, kernel, songs), users)


def by_songs(fold: Fold) -> Factors:
    """The same attention to songs themselves: the share of it that falls on a user's history."""
    kernel = fold.once("kernel of attention", lambda: content_kernel(fold))
    Phi = basis.single(fold, "artist")
    return Factors.of_histories(fold.histories, "binary", Phi, attended(fold, kernel, Phi))


def content_kernel(fold: Fold) -> Kernel:
    """The mean of the kernels of content that are not the same for all songs of an artist."""
    kernels = [basis.kernel(fold, name) for name in KERNELS if name not in ("artist", "names")]
    known = [kernel for kernel in kernels if kernel.present.any()]
    return Sum(known or kernels, [1 / max(len(known), 1)] * len(known or kernels))


def attended(fold: Fold, kernel: Kernel, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Attention of each song to the values, (n, d), of the played songs of its artist."""
    artists, played = fold.songs.artists, fold.histories.listeners > 0
    found = np.zeros_like(values)
    order = np.argsort(artists, kind="stable")
    order = order[artists[order] >= 0]
    bounds = np.flatnonzero(np.diff(artists[order], prepend=-1, append=-1))
    for start, stop in pairwise(bounds):
        group = order[start:stop]
        others = group[played[group]]
        if not len(others):
            continue
        same = group[:, None] == others[None]
        weights = np.exp(fold.settings.sharpness * kernel.block(group, others))
        weights[same] = 0.0
        total = weights.sum(axis=1)
        n = (~same).sum(axis=1)
        scale = np.divide(
            n / (n + fold.settings.shrinkage), total, out=np.zeros(len(group)), where=total > 0
        )
        found[group] = (weights * scale[:, None]) @ values[others]
    return found
