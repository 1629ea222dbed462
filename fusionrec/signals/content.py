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

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from fusionrec.signals.kernels import CHUNK, Gaussian, Kernel, Linear, unit_rows
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

_HASHED = 2**18
_CLIP = 5.0
"""Standard deviations at which audio statistics are cut off."""


def names(songs: Songs) -> tuple[str, ...]:
    """Names of all kernels of songs, those of further vectors last."""
    return (*KERNELS, *songs.further)


def kernel(songs: Songs, name: str) -> Kernel:
    """The kernel of a name, of all songs; computed once."""
    make = _MAKERS.get(name, partial(_further, name=name))
    return songs.once(f"kernel {name}", lambda: make(songs))


def inverse_frequency(X: csr_array) -> csr_array:
    """Columns times log(songs with anything / songs with the column)."""
    documents = max(int((np.diff(X.indptr) > 0).sum()), 1)
    frequency = np.bincount(X.indices, minlength=X.shape[1])
    weights = np.log(documents / np.maximum(frequency, 1))
    return csr_array(X @ diags_array(weights))


def bags(songs: Songs, column: str, weights: str | None = None) -> csr_array:
    """A column of lists as a matrix; see :func:`item_weights`."""
    return item_weights(songs.table[column], None if weights is None else songs.table[weights])[0]


def item_weights(
    lists: pa.ChunkedArray | pa.ListArray, weights: pa.ChunkedArray | pa.ListArray | None = None
) -> tuple[csr_array, pa.Array]:
    """Lists as a matrix, shape (n, distinct items), of their weights or of ones, and the items.

    Of an item that is twice in a list, the larger weight counts; where a list has fewer weights
    than items, all of its weights are 1.
    """
    sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    rows = np.repeat(np.arange(len(lists)), sizes)
    items = _combined(pc.list_flatten(lists)).dictionary_encode()
    columns = items.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    values = np.ones(len(rows))
    if weights is not None:
        lengths = pc.fill_null(pc.list_value_length(weights), 0).to_numpy()
        same = lengths == sizes
        flat = pc.fill_null(pc.list_flatten(weights).cast("float64"), 1.0).to_numpy()
        values[np.repeat(same, sizes)] = flat[np.repeat(same, lengths)]
    shape = (len(lists), max(len(items.dictionary), 1))
    order = np.lexsort((-values, columns, rows))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(rows[order]) != 0) | (np.diff(columns[order]) != 0)
    kept = order[first]
    return csr_array((values[kept], (rows[kept], columns[kept])), shape=shape), items.dictionary


def _combined(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def one_hot(groups: NDArray[np.int64]) -> csr_array:
    """Membership of groups, shape (n, groups); an empty row for -1."""
    rows = np.flatnonzero(groups >= 0)
    shape = (len(groups), max(int(groups.max(initial=-1)) + 1, 1))
    return csr_array((np.ones(len(rows)), (rows, groups[rows])), shape=shape)


def _terms(songs: Songs) -> Kernel:
    return Linear(unit_rows(inverse_frequency(bags(songs, "terms", "term_weights"))))


def _tags(songs: Songs) -> Kernel:
    counts = bags(songs, "mbtags", "mbtag_counts")
    counts.data = np.log1p(np.maximum(counts.data, 0.0))
    return Linear(unit_rows(inverse_frequency(counts)))


def _hashed(texts: list[str], **settings: Any) -> Kernel:
    from sklearn.feature_extraction.text import HashingVectorizer

    vectoriser = HashingVectorizer(
        n_features=_HASHED, alternate_sign=False, norm=None, binary=True, **settings
    )
    hashed = vectoriser.transform(texts).tocsc()
    used = np.flatnonzero(np.diff(hashed.indptr))
    return Linear(unit_rows(inverse_frequency(csr_array(hashed[:, used]))))


def _names(songs: Songs) -> Kernel:
    return _hashed(songs.texts("artist_name"), token_pattern=r"(?u)\b\w+\b")


def _titles(songs: Songs) -> Kernel:
    pairs = zip(songs.texts("title"), songs.texts("release"), strict=True)
    return _hashed([f"{t} {r}" for t, r in pairs], analyzer="char_wb", ngram_range=(3, 4))


def _year(songs: Songs) -> Kernel:
    years = songs.numbers("year")
    known = np.isfinite(years)
    return Gaussian(np.where(known, years, 0.0)[:, None], known)


def _lyrics(songs: Songs) -> Kernel:
    if songs.lyrics is None:
        return _nothing(songs)
    weighted = inverse_frequency(csr_array(songs.lyrics).astype(np.float64))
    weighted.data = np.sqrt(weighted.data)
    return Linear(unit_rows(weighted))


def _audio(songs: Songs) -> Kernel:
    rows = songs.vectors.get("audio")
    if rows is None:
        return _nothing(songs)
    present = np.any(rows != 0, axis=1)
    return Gaussian(standardised(rows, present), present)


def _encoder(songs: Songs) -> Kernel:
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
    centred[:-1] = known - known.mean(axis=0)
    return _cosine(centred, present)


def _further(songs: Songs, name: str) -> Kernel:
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
        part[:] = np.clip((part - mean) * scale, -_CLIP, _CLIP)
    return _cosine(found, present)


def _cosine(known: NDArray[np.floating[Any]], present: NDArray[np.bool_]) -> Kernel:
    """Of rows of the songs that have any, and behind them one of zeros for all others."""
    lengths = np.linalg.norm(known, axis=1, keepdims=True)
    np.divide(known, lengths, out=known, where=lengths > 0)
    return Linear(known, np.where(present, np.cumsum(present) - 1, len(known) - 1))


def standardised(
    rows: NDArray[np.floating[Any]], present: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Columns of mean 0 and deviation 1 over the songs that have them, cut off at 5; else 0."""
    known = rows[present].astype(np.float64)
    if not len(known):
        return np.zeros(rows.shape)
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-12)
    found = np.clip((rows - mean) * scale, -_CLIP, _CLIP)
    return np.where(present[:, None], found, 0.0)


def _nothing(songs: Songs) -> Kernel:
    return Linear(csr_array((len(songs), 1), dtype=np.float64))


_MAKERS: dict[str, Callable[[Songs], Kernel]] = {
    "terms": _terms,
    "tags": _tags,
    "artist": lambda songs: Linear(one_hot(songs.artists)),
    "album": lambda songs: Linear(one_hot(songs.albums)),
    "names": _names,
    "titles": _titles,
    "year": _year,
    "lyrics": _lyrics,
    "audio": _audio,
    "encoder": _encoder,
}
