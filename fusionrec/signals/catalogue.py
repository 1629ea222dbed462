"""A cold song by the other songs of its artist, weighed by how alike they are (attention)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array, diags_array

from fusionrec.signals import basis, content, taste
from fusionrec.signals.kernels import Sum
from fusionrec.signals.signal import Factors, Fold
from fusionrec.signals.songs import Songs


def by_attention(fold: Fold) -> Factors:
    """F(s) = n / (n + shrinkage) sum_t softmax_t(sharpness K(s, t)) y_t.

    Over the n songs t of the same artist that were played, without s; K is the mean of all
    kernels of content, y_t and the users are those of matrix factorisation. Zeros for a song
    whose artist has no such song.
    """
    users, songs = taste.smoothed(fold)
    return Factors(np.asarray(attention(fold) @ songs, np.float32), users)


def by_songs(fold: Fold) -> Factors:
    """The same attention to songs themselves: as much of it as falls on a user's history.

    score(u, s) = sum_t y_ut sum_r K(t, r) a(s, r), with a the attention of s to song r of its
    artist, K the kernel of the same artist, and y_ut 1 where u played t.
    """
    Phi = basis.single(fold, "artist")
    return Factors.of_histories(fold.histories, "binary", Phi, attention(fold) @ Phi)


def attention(fold: Fold) -> csr_array:
    """Attention of each song to the played songs of its artist, sparse (n, n)."""
    return fold.once("attention", lambda: _attention(fold))


def _attention(fold: Fold) -> csr_array:
    alike = fold.songs.once("songs of the same artist", lambda: same_artist(fold.songs))
    rows = np.repeat(np.arange(len(fold.songs)), np.diff(alike.indptr))
    played = fold.histories.listeners[alike.indices] > 0
    rows, columns = rows[played], alike.indices[played]
    weights = np.exp(fold.settings.sharpness * alike.data[played])
    found = csr_array((weights, (rows, columns)), shape=alike.shape)
    n = np.bincount(rows, minlength=len(fold.songs))
    total = np.bincount(rows, weights, minlength=len(fold.songs))
    scale = np.divide(n, (n + fold.settings.shrinkage) * total, out=np.zeros(len(n)), where=n > 0)
    return csr_array(diags_array(scale) @ found).astype(np.float32)


def same_artist(songs: Songs) -> csr_array:
    """Mean similarity by content of the pairs of songs of one artist, sparse (n, n).

    Without a song and itself, and without the kernels that are the same for all songs of an
    artist. It grows with the squares of the artists' catalogues, of which the largest have some
    hundred songs.
    """
    names = [name for name in content.names(songs) if name not in ("artist", "names")]
    kernels = [content.kernel(songs, name) for name in names]
    known = [kernel for kernel in kernels if kernel.present.any()] or kernels
    total = Sum(known, [1 / len(known)] * len(known))
    order = np.argsort(songs.artists, kind="stable")
    order = order[songs.artists[order] >= 0]
    rows, columns, values = [], [], []
    bounds = np.flatnonzero(np.diff(songs.artists[order], prepend=-1, append=-1))
    for start, stop in pairwise(bounds):
        group = order[start:stop]
        if len(group) > 1:
            others = ~np.eye(len(group), dtype=bool)
            values.append(total.block(group, group)[others])
            some = group.astype(np.int32)
            rows.append(np.repeat(some, len(group))[others.ravel()])
            columns.append(np.tile(some, len(group))[others.ravel()])
    shape = (len(songs), len(songs))
    if not rows:
        return csr_array(shape, dtype=np.float64)
    parts = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return csr_array(parts, shape=shape)
