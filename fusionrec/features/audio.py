"""Audio features from the Echo Nest analysis: statistics of a song's segments.

The paper had no audio (its sections 1 and 6 name it as the likeliest improvement); the
Million Song Dataset's own analysis is used here. A segment has 12 timbre and 12 pitch
values and a peak loudness. Columns: mean and covariance (upper triangle) of timbre and of
pitches, mean and standard deviation of the loudness and of the differences between one
segment's timbre and loudness and the next one's; then the song's tempo, loudness and mode,
and its key as 12 columns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas

_UPPER = np.triu_indices(12)
_SEGMENT_NAMES = (
    *(
        name
        for what in ("timbre", "pitches")
        for name in (
            *(f"{what}_mean_{i}" for i in range(12)),
            *(f"{what}_covariance_{i}_{j}" for i, j in zip(*_UPPER, strict=True)),
        )
    ),
    "loudness_max_mean",
    "loudness_max_std",
    *(f"timbre_difference_{what}_{i}" for what in ("mean", "std") for i in range(12)),
    "loudness_max_difference_mean",
    "loudness_max_difference_std",
)
_SONG_NAMES = ("tempo", "loudness", "mode", *(f"key_{i}" for i in range(12)))

NAMES = (*_SEGMENT_NAMES, *_SONG_NAMES)
"""The columns of :func:`audio_features`."""

DIMENSION = len(NAMES)


def segment_statistics(segments: pa.Table) -> pa.Table:
    """Each track's statistics over its segments, float32, accumulated in float64.

    Parameters
    ----------
    segments
        Schema :data:`fusionrec.schemas.SEGMENTS`.

    Returns
    -------
    pa.Table
        Schema :func:`fusionrec.schemas.segment_statistics`, a row a track in the same order;
        zeros for a track without segments. Of one segment, what needs two is 0.
    """
    rows = np.zeros((segments.num_rows, len(_SEGMENT_NAMES)), np.float32)
    timbre, pitches, loudness = (
        _flat(segments[name], width)
        for name, width in (("timbre", 12), ("pitches", 12), ("loudness_max", 1))
    )
    lengths = pc.list_value_length(segments["timbre"]).to_numpy()
    stops = np.cumsum(lengths)
    for row, (start, stop) in enumerate(zip(stops - lengths, stops, strict=True)):
        if start == stop:
            continue
        frames, volume = timbre[start:stop], loudness[start:stop]
        rows[row] = np.concatenate(
            [
                *_moments(frames),
                *_moments(pitches[start:stop]),
                *_spread(volume),
                *_spread(np.diff(frames, axis=0)),
                *_spread(np.diff(volume, axis=0)),
            ]
        )
    statistics = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    return pa.Table.from_arrays(
        [segments["track_id"], pa.array(lengths, pa.int32()), statistics],
        schema=schemas.segment_statistics(rows.shape[1]),
    )


def audio_features(
    songs: pa.Table, statistics: pa.Table
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """One row a song.

    Parameters
    ----------
    songs
        Schema :data:`fusionrec.schemas.SONGS`.
    statistics
        Of :func:`segment_statistics`; joined by track id.

    Returns
    -------
    tuple
        Float32, shape (songs, DIMENSION), and bool, shape (songs,): whether the song has
        segments. A song without has a row of zeros; a null tempo, loudness, mode or key
        counts as 0.
    """
    rows = np.zeros((songs.num_rows, DIMENSION), np.float32)
    where = pc.index_in(songs["track_id"], value_set=statistics["track_id"].combine_chunks())
    found = where.fill_null(-1).to_numpy()
    known = _flat(statistics["statistics"], len(_SEGMENT_NAMES)).astype(np.float32)
    counts = statistics["segments"].to_numpy()
    present = found >= 0
    present[present] = counts[found[present]] > 0
    rows[present, : len(_SEGMENT_NAMES)] = known[found[present]]
    first = len(_SEGMENT_NAMES)
    for offset, name in enumerate(("tempo", "loudness", "mode")):
        rows[:, first + offset] = pc.fill_null(songs[name].cast(pa.float64()), 0.0).to_numpy()
    key = pc.fill_null(songs["key"], -1).to_numpy()
    valid = np.flatnonzero((key >= 0) & (key < 12))
    rows[valid, first + 3 + key[valid]] = 1.0
    rows[~present] = 0.0
    return rows, present


def _flat(column: pa.ChunkedArray, width: int) -> npt.NDArray[np.float64]:
    """The values of all lists of a column, one after the other, shape (values, width)."""
    values = column.combine_chunks().flatten()
    if pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
    flat: npt.NDArray[np.float64] = values.to_numpy(zero_copy_only=False).astype(np.float64)
    return flat.reshape(-1, width)


def _moments(frames: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Mean and upper triangle of the covariance (over n, not n - 1)."""
    mean = frames.mean(axis=0)
    centred = frames - mean
    return mean, (centred.T @ centred / len(frames))[_UPPER]


def _spread(frames: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    if not len(frames):
        return np.zeros(frames.shape[1]), np.zeros(frames.shape[1])
    return frames.mean(axis=0), frames.std(axis=0)
