"""A cold song by the other songs of its artist, weighed by how alike they are (attention)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from fusionrec.signals import basis, content, taste
from fusionrec.signals.kernels import Sum
from fusionrec.signals.signal import Factors, Fold
from fusionrec.signals.songs import Songs
from fusionrec.signals.unseen.fitted import compared, features, first_of_artists
from fusionrec.signals.unseen.maps import SongMap, SongMaps
from fusionrec.signals.unseen.parts import Attention, ByGroup, taken
from fusionrec.signals.user_map import UserMap


def by_attention(fold: Fold) -> Factors:
    """F(s) = n / (n + shrinkage) sum_t softmax_t(sharpness K(s, t)) y_t.

    Over the n songs t of the same artist that were played, without s; K is the mean of all
    kernels of content, y_t and the users are those of matrix factorisation. Zeros for a song
    whose artist has no such song.
    """
    users, songs = taste.smoothed(fold)

    def unseen() -> SongMaps:
        return SongMaps(SongMap.of(_attention_to(fold, songs), width=songs.shape[1]))

    F = np.asarray(attention(fold) @ songs, np.float32)
    return Factors(F, users, told=UserMap.of("factors", users), unseen=unseen)


def by_songs(fold: Fold) -> Factors:
    """The same attention to songs themselves: as much of it as falls on a user's history.

    score(u, s) = sum_t y_ut sum_r K(t, r) a(s, r), with a the attention of s to song r of its
    artist, K the kernel of the same artist, and y_ut 1 where u played t.
    """
    Phi = basis.single(fold, "artist")

    def unseen() -> SongMaps:
        # Songs of an artist have the same Phi, so that of the attention the sum is all.
        first = first_of_artists(fold.songs)
        n = np.bincount(fold.songs.artists[_played_by_artist(fold)], minlength=len(first))
        scale = np.divide(n, n + fold.settings.shrinkage, out=np.zeros(len(n)), where=n > 0)
        made_of = basis.basis_of(fold, "artist")
        K = basis.kernel(fold, "artist").block(first, made_of.landmarks)
        by_artist = ByGroup.of("artist", scale[:, None] * (K @ made_of.projection))
        width = made_of.projection.shape[1]
        return SongMaps(SongMap.of(by_artist, width=width), features(made_of))

    return Factors.of_histories(fold.histories, "binary", Phi, attention(fold) @ Phi, unseen)


def _played_by_artist(fold: Fold) -> NDArray[np.int64]:
    """Played songs of known artists, an artist's after the other's."""
    order = np.argsort(fold.songs.artists, kind="stable")
    kept = (fold.songs.artists >= 0) & (fold.histories.listeners > 0)
    return order[kept[order]]


def _attention_to(fold: Fold, values: NDArray[np.float32]) -> Attention:
    """The attention of songs that are not among these, to values of the played ones."""
    songs, played = fold.songs, _played_by_artist(fold)
    number = songs.artists.max(initial=-1) + 1
    n = np.bincount(songs.artists[played], minlength=number)
    names = _kernels_within_artists(songs)
    # One that knows no song is 0 of any two, and has nothing that reads others.
    alike = {name: compared(songs, name) for name in names if _knows(songs, name)}
    return Attention(
        taken(alike, played, np.float32),
        np.concatenate([[0], np.cumsum(n)]).astype(np.int64),
        values[played],
        fold.settings.sharpness,
        fold.settings.shrinkage,
    )


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


def _kernels_within_artists(songs: Songs) -> list[str]:
    """Those that are not the same for all songs of an artist, and know any song.

    If none does, all: K is 0 then, so that the songs of an artist weigh the same.
    """
    names = [name for name in content.names(songs) if name not in ("artist", "names")]
    return [name for name in names if _knows(songs, name)] or names


def _knows(songs: Songs, name: str) -> bool:
    return bool(content.kernel(songs, name).present.any())


def same_artist(songs: Songs) -> csr_array:
    """Mean similarity by content of the pairs of songs of one artist, sparse (n, n).

    Without a song and itself, and without the kernels that are the same for all songs of an
    artist. It grows with the squares of the artists' catalogues, of which the largest have some
    hundred songs.
    """
    known = [content.kernel(songs, name) for name in _kernels_within_artists(songs)]
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
