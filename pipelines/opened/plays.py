"""Plays as they are given from Python: a table, a data frame or a mapping, of any users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec.errors import DataError

Plays = Any
"""A :class:`pyarrow.Table`, a :class:`pandas.DataFrame`, or a mapping from users to what each
played: a mapping from song ids to plays, or song ids alone, each of which was played once."""


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
            A column is missing, or a row has no id or no whole number of plays of 1 or more.
        """
        table, users = _as_table(plays)
        user_ids, user = _codes(ids_of(table, "user_id", "plays"))
        songs, song = _codes(ids_of(table, "song_id", "plays"))
        if users is not None:  # also who played nothing
            user = pc.index_in(user_ids, value_set=users).to_numpy()[user].astype(np.int64)
            user_ids = users
        return GivenPlays(user_ids, songs, user, song, _counts(table))


def _as_table(plays: Plays) -> tuple[pa.Table, pa.Array | None]:
    """Columns `user_id` and `song_id`, and `plays` if they are given; users if they are listed."""
    if isinstance(plays, pa.Table):
        return plays, None
    if isinstance(plays, Mapping):
        rows = [
            (str(user), str(song), count)
            for user, played in plays.items()
            for song, count in _played(user, played)
        ]
        user, song, count = zip(*rows, strict=True) if rows else ((), (), ())
        columns = {
            "user_id": pa.array(user, pa.string()),
            "song_id": pa.array(song, pa.string()),
            "plays": pa.array(count) if count else pa.array([], pa.int64()),
        }
        return pa.table(columns), pa.array([str(user) for user in plays], pa.string())
    if hasattr(plays, "columns"):
        return pa.Table.from_pandas(plays, preserve_index=False), None
    raise DataError(
        f"plays: are of type {type(plays).__name__}: give a pyarrow Table or a data frame with "
        "columns user_id, song_id and plays, or a mapping {user: {song: plays}}"
    )


def _played(user: object, played: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(played, Mapping):
        return played.items()
    if isinstance(played, str) or not isinstance(played, Iterable):
        raise DataError(
            f"plays: of user {user}: {played!r} is neither a mapping {{song: plays}} nor a list of "
            "song ids"
        )
    return ((song, 1) for song in played)


def ids_of(table: pa.Table, name: str, what: str) -> pa.ChunkedArray:
    """A column of ids as text; whole numbers are their decimal text.

    Raises
    ------
    DataError
        It is missing, of another type, or a row has none.
    """
    if name not in table.column_names:
        have = ", ".join(table.column_names) or "none"
        raise DataError(f"{what}: have no column {name}, but {have}: rename the one that has it")
    column = table[name]
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_null(kind)
    ):
        raise DataError(f"{what}: column {name} is of type {kind}: give ids as text or integers")
    found = column.cast(kind).cast(pa.string())
    empty = pc.fill_null(pc.equal(found, ""), True)
    if pc.any(empty).as_py():
        row = pc.index(empty, True).as_py() + 1
        raise DataError(f"{what}: row {row} has no {name}: leave it out, or give it one")
    return found


def _codes(ids: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    encoded = ids.combine_chunks().dictionary_encode()
    return encoded.dictionary, encoded.indices.to_numpy().astype(np.int64)


def _counts(table: pa.Table) -> NDArray[np.int64]:
    if "plays" not in table.column_names:
        return np.ones(table.num_rows, np.int64)
    try:
        counts = table["plays"].cast(pa.float64())
    except pa.ArrowInvalid:
        raise DataError(
            f"plays: column plays is of type {table['plays'].type}: give whole numbers of 1 or more"
        ) from None
    values = pc.fill_null(counts, 0.0).to_numpy()
    bad = np.flatnonzero(~((values >= 1) & (values == np.floor(values)) & np.isfinite(values)))
    if len(bad):
        value = table["plays"][int(bad[0])].as_py()
        raise DataError(
            f"plays: row {bad[0] + 1}: plays is {value}: give a whole number of 1 or more, or "
            "leave the row out"
        )
    found: NDArray[np.int64] = values.astype(np.int64)
    return found
