"""Similarities by official fields that may encode listening: lists of similar artists, hotttnesss.

`lists`: cosine of the weighted lists of similar artists. `walks`: cosine of personalised
PageRank profiles (:mod:`fusionrec.signals.pagerank`). `links`: whether one artist lists the other.
`fame`: a Gaussian of artist_hotttnesss and artist_familiarity. Vectors of metadata belong here, as
artist_hotttnesss is one of their columns (:mod:`fusionrec.features.metadata`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array, vstack

from fusionrec.signals import pagerank
from fusionrec.signals.kernels import Gaussian, Kernel, Linear, unit_rows
from fusionrec.signals.readers import Numbers, statistics
from fusionrec.signals.songs import Songs

KERNELS = ("lists", "walks", "links", "fame")
"""Names of the kernels."""


def kernel(songs: Songs, name: str) -> Kernel:
    """The kernel of a name, of all songs; computed once."""
    return songs.once(f"kernel {name}", lambda: _MAKERS[name](songs))


def _graph(songs: Songs) -> csr_array:
    return songs.once("graph of artists", lambda: pagerank.graph(songs))


def _of_artists(songs: Songs, rows: csr_array) -> Linear:
    """Unit rows of artists, the same for all of their songs; the last, empty one for no artist."""
    unit = unit_rows(rows)
    X = csr_array(vstack([unit, csr_array((1, rows.shape[1]))]))
    return Linear(X, np.where(songs.artists >= 0, songs.artists, unit.shape[0]))


def _lists(songs: Songs) -> Kernel:
    return _of_artists(songs, _graph(songs))


def _walks(songs: Songs) -> Kernel:
    weights = _graph(songs)
    artists = np.arange(songs.artists.max(initial=-1) + 1)
    rows = pagerank.profiles(weights, artists)
    # An artist of whom nothing is known is like nobody, itself included.
    alone = np.diff(weights.indptr)[artists] == 0
    rows.data[np.repeat(alone, np.diff(rows.indptr))] = 0.0
    return _of_artists(songs, rows)


def _links(songs: Songs) -> Kernel:
    """Products of rows of (I + normalised weights): direct links, and no further than two."""
    weights = _graph(songs)
    degrees = np.asarray(weights.sum(axis=1)).ravel()
    scale = np.divide(1.0, np.sqrt(degrees), out=np.zeros_like(degrees), where=degrees > 0)
    normal = weights.multiply(scale[:, None]).multiply(scale[None])
    both = eye_array(weights.shape[0]) + normal
    rows = csr_array(both)
    rows.data[np.repeat(degrees == 0, np.diff(rows.indptr))] = 0.0
    return _of_artists(songs, rows)


def fame(songs: Songs) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Standardised artist_hotttnesss and artist_familiarity, (n, 2), and who has any of them."""
    rows, known = fame_reader(songs).rows(songs, Counter())
    return rows, known


def fame_reader(songs: Songs) -> Numbers:
    """What standardises them, by these songs."""
    return songs.once("reader fame", lambda: _fame_reader(songs))


def _fame_reader(songs: Songs) -> Numbers:
    columns = ("artist_hotttnesss", "artist_familiarity")
    mean, scale = np.zeros((2, len(columns)))
    for place, column in enumerate(columns):
        numbers = songs.numbers(column)
        known = np.isfinite(numbers)
        (mean[place],), (scale[place],) = statistics(np.nan_to_num(numbers)[:, None], known)
    return Numbers(columns, mean, scale)


def _fame(songs: Songs) -> Kernel:
    return Gaussian(*fame(songs))


_MAKERS: dict[str, Callable[[Songs], Kernel]] = {
    "lists": _lists,
    "walks": _walks,
    "links": _links,
    "fame": _fame,
}
