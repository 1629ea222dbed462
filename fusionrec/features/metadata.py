"""Metadata features (paper section 3.1.4): three Word2Vec means and three numbers a song.

Columns: title, release and artist name, m each; year, duration and artist hotttnesss; and
a 0/1 column for each number that says where it is missing. A missing number is filled with
the mean over training songs, so that it is 0 after scaling.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.features.words import FieldWord2Vec

TEXT_FIELDS = ("title", "release", "artist_name")
NUMBERS = ("year", "duration", "artist_hotttnesss")


def number_statistics(songs: pa.Table) -> dict[str, float]:
    """Mean of each number over the songs that have it (not null, not NaN); 0 where none has."""
    known = {name: songs[name].filter(pc.is_finite(songs[name])) for name in NUMBERS}
    return {name: float(pc.mean(column).as_py() or 0.0) for name, column in known.items()}


def metadata_features(
    songs: pa.Table, fields: Mapping[str, FieldWord2Vec], means: Mapping[str, float]
) -> tuple[np.ndarray, dict[str, int]]:
    """One row a song.

    Parameters
    ----------
    songs
        Schema :data:`fusionrec.schemas.SONGS`.
    fields
        A model for each of `TEXT_FIELDS`.
    means
        What fills missing numbers, from :func:`number_statistics` of the training songs.

    Returns
    -------
    tuple
        Float32, shape (songs, D), columns as :func:`column_names` says; and counts of texts
        without a known word (the zero vector), of unknown words and of missing numbers.
    """
    blocks, counts = [], {}
    for name in TEXT_FIELDS:
        vectors, known, unknown = fields[name].transform(songs[name].to_pylist())
        blocks.append(vectors)
        counts[f"{name}_without_known_word"] = int((~known).sum())
        counts[f"{name}_unknown_words"] = unknown
    missing = []
    for name in NUMBERS:
        column = songs[name].cast(pa.float64())
        absent = pc.invert(pc.fill_null(pc.is_finite(column), False))
        filled = pc.if_else(absent, means[name], column)
        blocks.append(filled.to_numpy(zero_copy_only=False).astype(np.float32)[:, None])
        missing.append(absent.to_numpy(zero_copy_only=False).astype(np.float32)[:, None])
        counts[f"{name}_missing"] = int(missing[-1].sum())
    return np.concatenate([*blocks, *missing], axis=1), counts


def column_names(dimension: int) -> list[str]:
    """Names of the D columns for Word2Vec models of this dimension."""
    texts = [f"{name}_{i}" for name in TEXT_FIELDS for i in range(dimension)]
    return [*texts, *NUMBERS, *(f"{name}_missing" for name in NUMBERS)]
