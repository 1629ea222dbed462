"""Plays as they are given from Python: a table, a data frame or a mapping, of any users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fusionrec.errors import DataError
from pipelines.opened.given import as_table, ids_of, text_of

Plays = Any
"""A :class:`pyarrow.Table`, a :class:`pandas.DataFrame`, or a mapping from users to what each
played: a mapping from song ids to plays, or song ids alone, each of which was played once."""

MOST_PLAYS = 2**31 - 1
"""Of a row, as in the sources."""


@dataclass(frozen=True)
class GivenPlays:
    """Rows of plays; the ids of users and songs are there once each, in the order of the rows.

    Attributes
    ----------
    users, songs
        Ids, Arrow strings, U and n of them.
    user, song
        Of each row, numbers of these, int64 (rows,).
    plays
        At least 1, int64 (rows,).
    """

    users: pa.Array
    songs: pa.Array
    user: NDArray[np.int64]
    song: NDArray[np.int64]
    plays: NDArray[np.int64]

    @staticmethod
    def of(plays: Plays) -> GivenPlays:
        """Read them.

        Raises
        ------
        DataError
            A column is missing, a row has no id or no whole number of plays from 1 to
            `MOST_PLAYS`, or two users of a mapping have the same id.
        """
        if isinstance(plays, Mapping):
            return _of_mapping(plays)
        table = as_table(plays, "plays")
        if table is None:
            raise DataError(
                f"plays: are of type {type(plays).__name__}: give a pyarrow Table or a data frame "
                "with columns user_id, song_id and plays, or a mapping {user: {song: plays}}"
            )
        users, user = _codes(ids_of(table, "user_id", "plays"))
        songs, song = _codes(ids_of(table, "song_id", "plays"))
        counts = np.ones(table.num_rows, np.int64)
        if "plays" in table.column_names:
            counts = _counts(table["plays"])
        return GivenPlays(users, songs, user, song, counts)


def _of_mapping(plays: Mapping[Any, Any]) -> GivenPlays:
    """Of users, who may have played nothing."""
    ids: dict[str, Any] = {}
    user: list[int] = []
    songs: list[str] = []
    counts: list[Any] = []
    for each, played in plays.items():
        name = text_of(each, "plays: a user's id")
        if name in ids:
            raise DataError(
                f"plays: the users {ids[name]!r} and {each!r} are both {name} as text: make one of "
                "them"
            )
        ids[name] = each
        for song, count in _played(name, played):
            user.append(len(ids) - 1)
            songs.append(text_of(song, f"plays: row {len(songs) + 1}: a song's id of user {name}"))
            counts.append(count)
    song_ids, of = _codes(pa.chunked_array([songs], pa.string()))
    users = pa.array(list(ids), pa.string())
    return GivenPlays(users, song_ids, np.array(user, np.int64), of, _counts(counts))


def _played(user: str, played: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(played, Mapping):
        return played.items()
    if isinstance(played, str) or not isinstance(played, Iterable):
        raise DataError(
            f"plays: of user {user}: {played!r} is neither a mapping {{song: plays}} nor a list of "
            "song ids"
        )
    return ((song, 1) for song in played)


def _codes(ids: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    encoded = ids.combine_chunks().dictionary_encode()
    return encoded.dictionary, encoded.indices.to_numpy().astype(np.int64)


def _counts(given: pa.ChunkedArray | list[Any]) -> NDArray[np.int64]:
    values = _numbers(given)
    with np.errstate(invalid="ignore"):
        sound = (values >= 1) & (values <= MOST_PLAYS) & (values == np.floor(values))
    if not sound.all():
        row = int(np.argmin(sound))
        value = given[row] if isinstance(given, list) else given[row].as_py()
        raise DataError(
            f"plays: row {row + 1}: plays is {value!r}: give a whole number from 1 to "
            f"{MOST_PLAYS}, or leave the row out"
        )
    found: NDArray[np.int64] = values.astype(np.int64)
    return found


def _numbers(given: pa.ChunkedArray | list[Any]) -> NDArray[np.float64]:
    """NaN of what is no number."""
    if not isinstance(given, list):
        try:
            return np.array(given.cast(pa.float64()).fill_null(np.nan))
        except pa.ArrowException:  # some of it, or all
            given = given.to_pylist()
    return np.array([_number(value) for value in given], np.float64)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan
