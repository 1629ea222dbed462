"""Songs into train, validation and test (paper 5.3), by a hash of song, artist or album.

Nothing here draws random numbers: a song's part follows from the seed, its id (or its
artist's) and the set of songs, so that rows may come in any order and from any worker.
:mod:`fusionrec.ranking.timeline` cuts them in time instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fusionrec.errors import ConfigError, DataError
from fusionrec.hashing import stable_hash

By = Literal["song", "artist", "album"]
"""What a split keeps together."""

SplitBy = Literal["song", "artist", "album", "time"]
"""What a split goes by."""


def kept_together(by: SplitBy) -> By:
    """What a split keeps together: single songs, where it goes by their time."""
    return "song" if by == "time" else by


def assign(
    song_ids: Sequence[str],
    artist_ids: Sequence[str],
    releases: Sequence[str] | None = None,
    *,
    by: By,
    folds: int,
    test_fold: int,
    validation: float,
    seed: int,
    purpose: str = "",
) -> tuple[NDArray[np.object_], NDArray[np.int32]]:
    """Assign every song a fold and a part.

    Groups (single songs, or all songs of an artist or an album) are put in the order of their
    hash. Fold f takes groups until the folds so far hold (f + 1)/`folds` of the songs: by song
    the folds differ by one song at most, else each ends less than a group late.
    `test_fold` is the test part. The rest is ordered by a second hash and its first groups,
    up to the share `validation` of its songs, are the validation part; it is cut by the same
    groups, so an artist split is artist-disjoint between all three parts.

    Parameters
    ----------
    song_ids
        Shape (songs,), each id once.
    artist_ids
        Shape (songs,). A song with an empty artist id is a group of its own.
    releases
        Shape (songs,), album titles; `album` alone needs them. A song without one is a group of
        its own.
    by
        `song` (the paper's random split, 5.3), `artist` (no artist in two folds) or `album` (no
        album of an artist in two folds).
    folds
        Parts of equal size to cut the songs into, at least 2; 5 is the paper's 80/20.
    test_fold
        The fold, from 0, that is the test part.
    validation
        Share of the remaining songs, from 0 to 0.9.
    seed
        Another seed gives another split.
    purpose
        Another purpose gives an unrelated split too; none is the corpus's own.

    Returns
    -------
    part
        Shape (songs,), object: `train`, `validation` or `test`.
    fold
        Shape (songs,), int32, from 0 to `folds` - 1.

    Raises
    ------
    ConfigError
        A setting is out of its bounds.
    DataError
        A song id occurs twice, or the train or the test part comes out empty.
    """
    if by not in ("song", "artist", "album"):
        raise ConfigError(f"split.by is {by!r}: set it to song, artist or album")
    if folds < 2:
        raise ConfigError(f"split.folds is {folds}: set it to 2 or more")
    if not 0 <= test_fold < folds:
        raise ConfigError(f"split.test_fold is {test_fold}: set it between 0 and {folds - 1}")
    if not 0 <= validation <= 0.9:
        raise ConfigError(f"split.validation is {validation}: set it between 0 and 0.9")
    if len(song_ids) != len(artist_ids):
        raise ValueError(f"{len(song_ids)} song ids but {len(artist_ids)} artist ids")
    if by == "album" and (releases is None or len(releases) != len(song_ids)):
        raise ValueError("a split by album needs the release of every song")
    if len(set(song_ids)) != len(song_ids):
        raise DataError("songs: a song_id occurs more than once: keep one track for each song")

    keys = _group_keys(song_ids, artist_ids, releases, by)
    names, group, sizes = np.unique(
        np.array(keys, dtype=object), return_inverse=True, return_counts=True
    )

    of = f"{purpose}, " if purpose else ""
    first = stable_hash(names, seed=seed, purpose=f"{of}fold")
    fold_of_group = _songs_before(first, sizes) * folds // max(len(song_ids), 1)
    second = stable_hash(names, seed=seed, purpose=f"{of}validation")
    rest_sizes = np.where(fold_of_group == test_fold, 0, sizes)
    quota = round(validation * int(rest_sizes.sum()))
    in_validation = _songs_before(second, rest_sizes) < quota

    part_of_group = np.where(in_validation, "validation", "train").astype(object)
    part_of_group[fold_of_group == test_fold] = "test"
    part: NDArray[Any] = part_of_group[group]
    for needed in ("train", "test"):
        if not np.any(part == needed):
            raise DataError(
                f"split: no song is left for the {needed} part out of {len(song_ids)} songs in "
                f"{len(names)} groups (split.by {by}): add songs, or lower split.folds or "
                "split.validation"
            )
    return part, fold_of_group[group].astype(np.int32)


def groups(
    song_ids: Sequence[str],
    artist_ids: Sequence[str],
    releases: Sequence[str] | None,
    by: By,
) -> NDArray[np.int32]:
    """A number for each song's group: what a split keeps together, and is drawn together.

    Parameters
    ----------
    song_ids, artist_ids, releases, by
        As in :func:`assign`.

    Returns
    -------
    Shape (songs,), from 0, in order of first appearance.
    """
    keys = pa.array(_group_keys(song_ids, artist_ids, releases, by), pa.string())
    return np.asarray(keys.dictionary_encode().indices.to_numpy(), np.int32)


def _group_keys(
    song_ids: Sequence[str],
    artist_ids: Sequence[str],
    releases: Sequence[str] | None,
    by: By,
) -> list[str]:
    """What songs of one group have in common; the prefixes keep ids of two kinds apart."""
    if by == "artist":
        return [
            f"artist {artist}" if artist else f"song {song}"
            for song, artist in zip(song_ids, artist_ids, strict=True)
        ]
    if by == "album":
        assert releases is not None
        # Titles such as "Greatest Hits" are shared by albums of many artists.
        return [
            f"album {artist} {release}" if artist and release else f"song {song}"
            for song, artist, release in zip(song_ids, artist_ids, releases, strict=True)
        ]
    return [f"song {song}" for song in song_ids]


def _songs_before(hashes: NDArray[np.uint64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Songs in the groups that come earlier in hash order, for every group."""
    # Groups arrive sorted by name, so the stable sort settles equal hashes by name.
    order = np.argsort(hashes, kind="stable")
    before = np.empty(len(sizes), dtype=np.int64)
    before[order] = np.cumsum(sizes[order]) - sizes[order]
    return before
