"""Write one track's HDF5 file as the Million Song Dataset lays it out.

Groups ``/analysis``, ``/metadata`` and ``/musicbrainz``, each with a one-row table
``songs`` of the official compound type, and the variable-length arrays beside them.
Files are byte-identical for identical content: no time stamps are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

METADATA_DTYPE = np.dtype(
    [
        ("analyzer_version", "S32"),
        ("artist_7digitalid", "<i4"),
        ("artist_familiarity", "<f8"),
        ("artist_hotttnesss", "<f8"),
        ("artist_id", "S32"),
        ("artist_latitude", "<f8"),
        ("artist_location", "S1024"),
        ("artist_longitude", "<f8"),
        ("artist_mbid", "S40"),
        ("artist_name", "S1024"),
        ("artist_playmeid", "<i4"),
        ("genre", "S1024"),
        ("idx_artist_terms", "<i4"),
        ("idx_similar_artists", "<i4"),
        ("release", "S1024"),
        ("release_7digitalid", "<i4"),
        ("song_hotttnesss", "<f8"),
        ("song_id", "S32"),
        ("title", "S1024"),
        ("track_7digitalid", "<i4"),
    ]
)
"""Row type of ``/metadata/songs``."""

ANALYSIS_DTYPE = np.dtype(
    [
        ("analysis_sample_rate", "<i4"),
        ("audio_md5", "S32"),
        ("danceability", "<f8"),
        ("duration", "<f8"),
        ("end_of_fade_in", "<f8"),
        ("energy", "<f8"),
        ("idx_bars_confidence", "<i4"),
        ("idx_bars_start", "<i4"),
        ("idx_beats_confidence", "<i4"),
        ("idx_beats_start", "<i4"),
        ("idx_sections_confidence", "<i4"),
        ("idx_sections_start", "<i4"),
        ("idx_segments_confidence", "<i4"),
        ("idx_segments_loudness_max", "<i4"),
        ("idx_segments_loudness_max_time", "<i4"),
        ("idx_segments_loudness_start", "<i4"),
        ("idx_segments_pitches", "<i4"),
        ("idx_segments_start", "<i4"),
        ("idx_segments_timbre", "<i4"),
        ("idx_tatums_confidence", "<i4"),
        ("idx_tatums_start", "<i4"),
        ("key", "<i4"),
        ("key_confidence", "<f8"),
        ("loudness", "<f8"),
        ("mode", "<i4"),
        ("mode_confidence", "<f8"),
        ("start_of_fade_out", "<f8"),
        ("tempo", "<f8"),
        ("time_signature", "<i4"),
        ("time_signature_confidence", "<f8"),
        ("track_id", "S32"),
    ]
)
"""Row type of ``/analysis/songs``."""

MUSICBRAINZ_DTYPE = np.dtype([("idx_artist_mbtags", "<i4"), ("year", "<i4")])
"""Row type of ``/musicbrainz/songs``."""

_TABLES: dict[str, tuple[np.dtype[Any], str, str]] = {
    "analysis": (
        ANALYSIS_DTYPE,
        "Echo Nest analysis of the song",
        "table of Echo Nest analysis for one song",
    ),
    "metadata": (METADATA_DTYPE, "metadata about the song", "table of metadata for one song"),
    "musicbrainz": (
        MUSICBRAINZ_DTYPE,
        "data about the song coming from MusicBrainz",
        "table of data coming from MusicBrainz",
    ),
}

_TABLE_CHUNKS = {"analysis": 37, "metadata": 3, "musicbrainz": 1024}
"""Rows of a chunk, as PyTables chose them."""

_CHUNK_BYTES = 8192
"""Bytes of an array's chunk; whole rows of them."""

ARRAYS: dict[str, tuple[str, int]] = {
    "analysis/bars_confidence": ("<f8", 0),
    "analysis/bars_start": ("<f8", 0),
    "analysis/beats_confidence": ("<f8", 0),
    "analysis/beats_start": ("<f8", 0),
    "analysis/sections_confidence": ("<f8", 0),
    "analysis/sections_start": ("<f8", 0),
    "analysis/segments_confidence": ("<f8", 0),
    "analysis/segments_loudness_max": ("<f8", 0),
    "analysis/segments_loudness_max_time": ("<f8", 0),
    "analysis/segments_loudness_start": ("<f8", 0),
    "analysis/segments_pitches": ("<f8", 12),
    "analysis/segments_start": ("<f8", 0),
    "analysis/segments_timbre": ("<f8", 12),
    "analysis/tatums_confidence": ("<f8", 0),
    "analysis/tatums_start": ("<f8", 0),
    "metadata/artist_terms": ("S256", 0),
    "metadata/artist_terms_freq": ("<f8", 0),
    "metadata/artist_terms_weight": ("<f8", 0),
    "metadata/similar_artists": ("S20", 0),
    "musicbrainz/artist_mbtags": ("S256", 0),
    "musicbrainz/artist_mbtags_count": ("<i4", 0),
}
"""Every array of a track: its element type and its columns (0: one-dimensional)."""


def write_track(
    path: Path,
    *,
    metadata: Mapping[str, object],
    analysis: Mapping[str, object],
    musicbrainz: Mapping[str, object],
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Write one track's file; its folder must exist.

    Parameters
    ----------
    path
        The file to write; an existing one is replaced.
    metadata, analysis, musicbrainz
        The columns of the three tables. A column left out is zero or empty, as the
        official files leave what the Echo Nest did not know.
    arrays
        The arrays by their path below the root (the keys of :data:`ARRAYS`), shape (n,)
        or (n, 12). One left out is empty.

    Raises
    ------
    ValueError
        A column, an array or an array's shape is not of the official layout.
    """
    unknown = sorted(set(arrays) - set(ARRAYS))
    if unknown:
        raise ValueError(f"{path}: no such array in the official layout: {unknown[0]!r}")
    tables = {"analysis": analysis, "metadata": metadata, "musicbrainz": musicbrainz}
    with h5py.File(path, "w") as file:
        file.attrs["TITLE"] = np.bytes_("H5 Song File")
        contents: list[tuple[h5py.Dataset, NDArray[Any]]] = []
        for name, columns in tables.items():
            dtype, group_title, table_title = _TABLES[name]
            group = file.create_group(name)
            group.attrs["TITLE"] = np.bytes_(group_title)
            table = _create(group, "songs", dtype, 0, _TABLE_CHUNKS[name])
            table.attrs["TITLE"] = np.bytes_(table_title)
            contents.append((table, _row(path, name, dtype, columns)))
        for name, (element, width) in ARRAYS.items():
            shape = (0, width) if width else (0,)
            values = np.asarray(arrays.get(name, np.zeros(shape)), dtype=element)
            if values.ndim != len(shape) or values.shape[1:] != shape[1:]:
                raise ValueError(
                    f"{path}: {name} has shape {values.shape}, the layout asks for "
                    f"(n{', 12' if width else ','})"
                )
            rows = _CHUNK_BYTES // (values.dtype.itemsize * max(1, width))
            contents.append((_create(file, name, values.dtype, width, rows), values))
        # All is created before anything is written, as the official program did it, so that
        # every file has its headers at the same offsets.
        for dataset, values in contents:
            if len(values):
                dataset.resize(len(values), axis=0)
                dataset[...] = values


def _row(
    path: Path, table: str, dtype: np.dtype[Any], columns: Mapping[str, object]
) -> NDArray[Any]:
    """One-row structured array with `columns` filled in."""
    row = np.zeros(1, dtype)
    for column, value in columns.items():
        if column not in (dtype.names or ()):
            raise ValueError(f"{path}: /{table}/songs has no column {column!r}")
        row[column] = value
    return row


def _create(
    parent: h5py.Group, name: str, dtype: np.dtype[Any], width: int, chunk_rows: int
) -> h5py.Dataset:
    """An empty, extendible dataset, shuffled and compressed."""
    columns = (width,) if width else ()
    return parent.create_dataset(
        name,
        shape=(0, *columns),
        maxshape=(None, *columns),
        chunks=(chunk_rows, *columns),
        dtype=dtype,
        compression="gzip",
        compression_opts=1,
        shuffle=True,
        track_times=False,
    )
