"""Users' lists of songs that were made elsewhere, to be compared with those made here.

Parquet (a file, or a folder of parts), JSON lines or CSV, in one of two forms, told apart by their
columns: a row a user, `user_id` (text) and `song_ids` (list of text, best first; not in CSV); or a
row a song of a list, `user_id`, `song_id`, and `rank` (whole numbers, the smallest first) or else
`score` (the highest first, equal ones as they stand in the file). Other columns are not looked at.
The first of JSON lines says which columns there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec.errors import SourceError
from fusionrec.formats import list_files

_PIECE = 1 << 22


@dataclass(frozen=True)
class UserLists:
    """Lists one after the other.

    Attributes
    ----------
    users
        Ids, Arrow large strings (lists,), each once.
    indptr
        Shape (lists + 1,), int64: list u is `songs[indptr[u]:indptr[u + 1]]`.
    songs
        Ids, Arrow large strings, best first, each once in a list.
    """

    users: pa.Array
    indptr: NDArray[np.int64]
    songs: pa.Array


def fingerprint(path: str) -> str:
    """A hash of what the files hold; see :func:`read` for the errors."""
    total = blake2b(digest_size=16)
    for part in list_files.parts_of(path):
        with list_files.opened(part) as file:
            while piece := file.read(_PIECE):
                total.update(piece)
        total.update(b"\0end of a part\0")
    return total.hexdigest()


def check(path: str) -> None:
    """Raise a SourceError where the file is missing, or has not the columns; of Parquet, unread."""
    for part in list_files.parts_of(path):
        if part.endswith(".parquet"):
            list_files.form_of(part, list_files.names_of(part))


def read(path: str) -> UserLists:
    """Read and check them.

    For ids of 18 and 40 characters it takes some 130 bytes of memory a listed song, of a file with
    a row a song 280.

    Raises
    ------
    SourceError
        A file is missing or not what its name says, or lacks a column; a value is of a wrong type,
        null or not finite; a user has two lists, or a list a song or a rank twice. The message
        names file, column and row (from 1, a header not counted).
    """
    parts = list_files.parts_of(path)
    tables, forms = [], []
    for part in parts:
        tables.append(list_files.read_table(part))
        forms.append(tuple(tables[-1].column_names))
    if len(set(forms)) > 1:
        raise SourceError(f"{path}: its parts have different columns: {list_files.WANTED}")
    places = _Places(parts, np.cumsum([0, *(table.num_rows for table in tables)]))
    table = pa.concat_tables(tables)
    del tables
    table = table.combine_chunks()
    for name in table.column_names:
        places.refuse(name, table[name].is_null().to_numpy(), "is null")
    return _of_lists(table, places) if forms[0] == list_files.LISTS else _of_rows(table, places)


@dataclass(frozen=True)
class _Places:
    """Where in which part a row is."""

    parts: list[str]
    starts: NDArray[np.int64]

    def of(self, row: int) -> tuple[str, int]:
        """Part, and row in it, from 1."""
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[part], row - int(self.starts[part]) + 1

    def refuse(self, column: str, wrong: NDArray[np.bool_], what: str) -> None:
        if wrong.any():
            part, row = self.of(int(np.flatnonzero(wrong)[0]))
            raise SourceError(
                f"{part}: {column} of row {row}: {what}; mend the row or leave it out"
            )

    def repeated(self, column: str, value: str, row: int, before: int) -> SourceError:
        part, number = self.of(row)
        first_part, first = self.of(before)
        where = f"row {first}" if first_part == part else f"row {first} of {first_part}"
        twice = "twice in this row" if row == before else f"as in {where}"
        return SourceError(
            f"{part}: {column} of row {number}: {value!r} {twice}; leave one of them out"
        )


def _of_lists(table: pa.Table, places: _Places) -> UserLists:
    users = table["user_id"].combine_chunks().dictionary_encode()
    repeat = _first_repeat(users.indices.to_numpy())
    if repeat is not None:
        row, before = repeat
        raise places.repeated("user_id", table["user_id"][row].as_py(), row, before)
    lengths = pc.list_value_length(table["song_ids"]).to_numpy().astype(np.int64)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    songs = pc.list_flatten(table["song_ids"]).combine_chunks()
    of_row = np.repeat(np.arange(len(lengths)), lengths)
    missing = np.zeros(len(lengths), bool)
    missing[of_row[songs.is_null().to_numpy(zero_copy_only=False)]] = True
    places.refuse("song_ids", missing, "has a null in it")
    _refuse_repeated_songs(songs, of_row, of_row, "song_ids", places)
    return UserLists(table["user_id"].combine_chunks(), indptr, songs)


def _of_rows(table: pa.Table, places: _Places) -> UserLists:
    users = table["user_id"].combine_chunks().dictionary_encode()
    code = users.indices.to_numpy().astype(np.int64)
    rows = np.arange(len(code))
    songs = table["song_id"].combine_chunks()
    _refuse_repeated_songs(songs, code, rows, "song_id", places)
    name = table.column_names[-1]
    values = table[name].to_numpy()
    if name == "score":
        places.refuse(name, ~np.isfinite(values), "is not finite")
    order = np.lexsort((values if name == "rank" else -values, code))
    if name == "rank":
        same = (np.diff(values[order]) == 0) & (np.diff(code[order]) == 0)
        if same.any():
            at = int(np.flatnonzero(same)[0])
            pair = order[at : at + 2]
            raise places.repeated("rank", str(values[pair[0]]), int(pair.max()), int(pair.min()))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(code, minlength=len(users.dictionary)))])
    return UserLists(users.dictionary, indptr.astype(np.int64), songs.take(pa.array(order)))


def _refuse_repeated_songs(
    songs: pa.Array, lists: NDArray[np.int64], rows: NDArray[np.int64], column: str, places: _Places
) -> None:
    """`lists` and `rows` say which list each song is of, and in which row it stands."""
    coded = songs.dictionary_encode()
    keys = lists.astype(np.int64) * max(len(coded.dictionary), 1) + coded.indices.to_numpy()
    repeat = _first_repeat(keys)
    if repeat is not None:
        at, before = repeat
        raise places.repeated(column, songs[at].as_py(), int(rows[at]), int(rows[before]))


def _first_repeat(keys: NDArray[np.integer[Any]]) -> tuple[int, int] | None:
    """The first position whose key has been before, and where it was last."""
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(np.diff(keys[order]) == 0) + 1
    if not len(again):
        return None
    at = again[np.argmin(order[again])]
    return int(order[at]), int(order[at - 1])
