"""Audio features from the Echo Nest analysis: statistics of a song's segments.

The paper had no audio (its sections 1 and 6 name it as the likeliest improvement); the
Million Song Dataset's own analysis is used here. Columns: mean and standard deviation of
the 12 timbre, 12 pitch and 1 loudness values over segments, the same of the first
differences of timbre, then tempo, loudness, mode and the key as 12 columns.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NAMES = (
    *(f"timbre_{s}_{i}" for s in ("mean", "std") for i in range(12)),
    *(f"pitches_{s}_{i}" for s in ("mean", "std") for i in range(12)),
    "loudness_max_mean",
    "loudness_max_std",
    *(f"timbre_difference_{s}_{i}" for s in ("mean", "std") for i in range(12)),
    "tempo",
    "loudness",
    "mode",
    *(f"key_{i}" for i in range(12)),
)
DIMENSION = len(NAMES)


def audio_features(songs: pa.Table, segments: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """One row a song.

    Parameters
    ----------
    songs, segments
        Schemas :data:`fusionrec.schemas.SONGS` and :data:`fusionrec.schemas.SEGMENTS`;
        joined by track id.

    Returns
    -------
    tuple
        Float32, shape (songs, 89), and bool, shape (songs,): whether the song has segments.
        A song without has a row of zeros; a null tempo, loudness, mode or key counts as 0.
    """
    rows = np.zeros((songs.num_rows, DIMENSION), np.float32)
    where = pc.index_in(songs["track_id"], value_set=segments["track_id"].combine_chunks())
    found = where.to_pylist()
    timbre, pitches, loudness = (
        segments[name].combine_chunks() for name in ("timbre", "pitches", "loudness_max")
    )
    present = np.zeros(songs.num_rows, bool)
    for song, segment in enumerate(found):
        if segment is None or not len(timbre[segment]):
            continue
        frames = _frames(timbre, segment, 12)
        present[song] = True
        rows[song, : DIMENSION - 15] = np.concatenate(
            [
                *_statistics(frames),
                *_statistics(_frames(pitches, segment, 12)),
                *_statistics(_frames(loudness, segment, 1)),
                *_statistics(np.diff(frames, axis=0) if len(frames) > 1 else 0 * frames),
            ]
        )
    for offset, name in enumerate(("tempo", "loudness", "mode")):
        rows[:, DIMENSION - 15 + offset] = _filled(songs[name])
    key = songs["key"].to_pylist()
    for song, value in enumerate(key):
        if value is not None and 0 <= value < 12:
            rows[song, DIMENSION - 12 + value] = 1.0
    rows[~present] = 0.0
    return rows, present


def _frames(column: pa.ListArray, row: int, width: int) -> np.ndarray:
    values = column[row].values
    if width > 1:
        values = values.flatten()
    frames: np.ndarray = values.to_numpy(zero_copy_only=False).reshape(-1, width)
    return frames.astype(np.float64)


def _statistics(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return frames.mean(axis=0), frames.std(axis=0)


def _filled(column: pa.ChunkedArray) -> np.ndarray:
    values: np.ndarray = pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy()
    return values
