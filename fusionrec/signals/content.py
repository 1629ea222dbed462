"""Similarities by what a song is: one kernel for each of its modalities, by name.

`terms`, `tags`: Echo Nest terms and MusicBrainz tags, weight times inverse document frequency,
cosine. `artist`, `album`: the same artist, the same release of an artist. `names`: words of the
artists' names, `titles`: character n-grams of title and release, both with inverse document
frequencies. `year`: a Gaussian. `lyrics`: square-rooted TF-IDF of the words, cosine. `audio`: a
Gaussian of standardised statistics. `encoder`, the lyrics' vectors: cosine of the centred vectors.
Any further vectors of songs, by their name: cosine of the standardised vectors, as nothing is known
of their scales.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fusionrec.signals.kernels import CHUNK, Gaussian, Kernel, Linear
from fusionrec.signals.readers import (
    CLIP,
    Bags,
    Numbers,
    Reader,
    Texts,
    Vectors,
    Words,
    statistics,
)
from fusionrec.signals.songs import Songs

KERNELS = (
    "terms",
    "tags",
    "artist",
    "album",
    "names",
    "titles",
    "year",
    "lyrics",
    "audio",
    "encoder",
)
"""Names of the kernels; one of a modality that no song has is 0 everywhere.

Beside them songs have one of each of :attr:`fusionrec.signals.songs.Songs.further`.
"""

MODALITIES = {
    "artist": "metadata",
    "album": "metadata",
    "names": "metadata",
    "titles": "metadata",
    "year": "metadata",
    "encoder": "lyrics",
}
"""What of a song a kernel reads, where it is not what the kernel is named by."""

Made = tuple[Kernel, Reader | None]


def names(songs: Songs) -> tuple[str, ...]:
    """Names of all kernels of songs, those of further vectors last."""
    return (*KERNELS, *songs.further)


def kernel(songs: Songs, name: str) -> Kernel:
    """The kernel of a name, of all songs; computed once."""
    return _made(songs, name)[0]


def reader(songs: Songs, name: str) -> Reader | None:
    """What makes the kernel's rows of other songs; None where it knows nothing but groups."""
    return _made(songs, name)[1]


def _made(songs: Songs, name: str) -> Made:
    make = _MAKERS.get(name, partial(_further, name=name))
    return songs.once(f"kernel {name}", lambda: make(songs))


def one_hot(groups: NDArray[np.int64]) -> csr_array:
    """Membership of groups, shape (n, groups); an empty row for -1."""
    rows = np.flatnonzero(groups >= 0)
    shape = (len(groups), max(int(groups.max(initial=-1)) + 1, 1))
    return csr_array((np.ones(len(rows)), (rows, groups[rows])), shape=shape)


def _terms(songs: Songs) -> Made:
    rows, reader = Bags.fitted(songs, "terms", "term_weights")
    return Linear(rows), reader


def _tags(songs: Songs) -> Made:
    rows, reader = Bags.fitted(songs, "mbtags", "mbtag_counts", logarithm=True)
    return Linear(rows), reader


def _texts(songs: Songs, what: str) -> Made:
    rows, reader = Texts.fitted(songs, what)
    return Linear(rows), reader


def _year(songs: Songs) -> Made:
    reader = Numbers(("year",))
    return Gaussian(*reader.rows(songs, Counter())), reader


def _lyrics(songs: Songs) -> Made:
    if songs.lyrics is None:
        return _nothing(songs)
    rows, reader = Words.fitted(songs.lyrics)
    return Linear(rows), reader


def _audio(songs: Songs) -> Made:
    rows = songs.vectors.get("audio")
    if rows is None:
        return _nothing(songs)
    present = np.any(rows != 0, axis=1)
    mean, scale = statistics(rows, present)
    reader = Vectors("audio", mean, scale, unit=False)
    return Gaussian(standardised(rows, present), present), reader


def _encoder(songs: Songs) -> Made:
    """Lyrics' vectors of an encoder; those of metadata hold hotttnesss, and so are no content."""
    rows = songs.vectors.get("lyrics")
    if rows is None:
        return _nothing(songs)
    present = np.any(rows != 0, axis=1)
    known = rows[present]
    if not len(known):
        return _nothing(songs)
    # Rows of those that have any, as most have none, and one of zeros for the others.
    centred = np.zeros((len(known) + 1, rows.shape[1]), rows.dtype)
    mean = known.mean(axis=0)
    centred[:-1] = known - mean
    return _cosine(centred, present), Vectors("lyrics", mean, None, unit=True)


def _further(songs: Songs, name: str) -> Made:
    """Vectors of one's own."""
    rows = songs.vectors.get(name)
    present = None if rows is None else np.any(rows != 0, axis=1)
    if rows is None or present is None or not present.any():
        return _nothing(songs)
    # As `standardised`, without a copy of all rows in float64.
    found = np.zeros((int(present.sum()) + 1, rows.shape[1]), np.float32)
    found[:-1] = rows[present]
    parts = [found[at : min(at + CHUNK, len(found) - 1)] for at in range(0, len(found) - 1, CHUNK)]
    mean = found[:-1].mean(axis=0, dtype=np.float64)
    variance = sum(((part - mean) ** 2).sum(axis=0) for part in parts) / (len(found) - 1)
    deviation = np.sqrt(variance)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-12)
    for part in parts:  # views
        part[:] = np.clip((part - mean) * scale, -CLIP, CLIP)
    return _cosine(found, present), Vectors(name, mean, scale, unit=True)


def _cosine(known: NDArray[np.floating[Any]], present: NDArray[np.bool_]) -> Kernel:
    """Of rows of the songs that have any, and behind them one of zeros for all others."""
    lengths = np.linalg.norm(known, axis=1, keepdims=True)
    np.divide(known, lengths, out=known, where=lengths > 0)
    return Linear(known, np.where(present, np.cumsum(present) - 1, len(known) - 1))


def standardised(
    rows: NDArray[np.floating[Any]], present: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Columns of mean 0 and deviation 1 over the songs that have them, cut off at 5; else 0."""
    mean, scale = statistics(rows, present)
    found = np.clip((rows - mean) * scale, -CLIP, CLIP)
    return np.where(present[:, None], found, 0.0)


def _nothing(songs: Songs) -> Made:
    return Linear(csr_array((len(songs), 1), dtype=np.float64)), None


_MAKERS: dict[str, Callable[[Songs], Made]] = {
    "terms": _terms,
    "tags": _tags,
    "artist": lambda songs: (Linear(one_hot(songs.artists)), None),
    "album": lambda songs: (Linear(one_hot(songs.albums)), None),
    "names": partial(_texts, what="names"),
    "titles": partial(_texts, what="titles"),
    "year": _year,
    "lyrics": _lyrics,
    "audio": _audio,
    "encoder": _encoder,
}
