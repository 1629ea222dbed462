"""Users' lists of songs that were made elsewhere, to be compared with those made here.

Parquet (a file, or a folder of parts), JSON lines or CSV, in one of two forms, told apart by their
columns: a row a user, `user_id` (text) and `song_ids` (list of text, best first; not in CSV); or a
row a song of a list, `user_id`, `song_id`, and `rank` (whole numbers, the smallest first) or else
`score` (the highest first, equal ones as they stand in the file). Other columns are not looked at.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from hashlib import blake2b
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs as pafs

from fusionrec.errors import SourceError
from fusionrec.formats import files

ENDINGS = (".parquet", ".jsonl", ".csv")
_WANTED = "give user_id and song_ids, best first, or user_id, song_id and rank (or score)"
_PIECE = 1 << 22
_LINES = 1 << 24
_LONGEST_LINE = (1 << 31) - 2
_ROWS_AT_ONCE = 1 << 14

# Offsets of 64 bits: ids of 2 GiB and more are some 100 million listed songs.
_TEXT = pa.large_string()
_KINDS = {
    "user_id": _TEXT,
    "song_id": _TEXT,
    "song_ids": pa.large_list(_TEXT),
    "rank": pa.int64(),
    "score": pa.float64(),
}


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
    for part in _parts(path):
        with _opened(part) as file:
            while piece := file.read(_PIECE):
                total.update(piece)
        total.update(b"\0end of a part\0")
    return total.hexdigest()


def check(path: str) -> None:
    """Raise a SourceError where the file is missing, or has not the columns; of Parquet, unread."""
    for part in _parts(path):
        if part.endswith(".parquet"):
            with _opened(part) as file:
                try:
                    found = pq.read_schema(file)
                except (pa.ArrowException, OSError) as error:
                    raise _unreadable(part, error) from None
            _form(part, found.names)


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
    parts = _parts(path)
    tables, forms = [], []
    for part in parts:
        table = _table(part)
        form = _form(part, table.column_names)
        forms.append(form)
        tables.append(_typed(part, table.select(form)))
    if len(set(forms)) > 1:
        raise SourceError(f"{path}: its parts have different columns: {_WANTED}")
    places = _Places(parts, np.cumsum([0, *(table.num_rows for table in tables)]))
    table = pa.concat_tables(tables)
    del tables
    table = table.combine_chunks()
    for name in table.column_names:
        places.refuse(name, table[name].is_null().to_numpy(), "is null")
    return _of_lists(table, places) if forms[0] == _LISTS else _of_rows(table, places)


_LISTS = ("user_id", "song_ids")


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


def _form(part: str, names: list[str]) -> tuple[str, ...]:
    """The columns that are read."""
    there = set(names)
    for name in _KINDS:
        if names.count(name) > 1:
            raise SourceError(f"{part}: has {names.count(name)} columns {name}: keep one of them")
    if set(_LISTS) <= there:
        return _LISTS
    for last in ("rank", "score"):
        if {"user_id", "song_id", last} <= there:
            return ("user_id", "song_id", last)
    listed = ", ".join(names) or "none"
    for column in ("user_id", "song_id"):
        if column not in there:
            wanted = "song_ids or song_id" if column == "song_id" else column
            raise SourceError(f"{part}: has no column {wanted} (it has {listed}): {_WANTED}")
    raise SourceError(f"{part}: has no column rank or score (it has {listed}): {_WANTED}")


def _typed(part: str, table: pa.Table) -> pa.Table:
    columns = []
    for name in table.column_names:
        column, wanted = table[name], _KINDS[name]
        shown = str(wanted).replace("large_", "")
        if not _fits(column.type, name):
            raise SourceError(f"{part}: {name} is of type {column.type}: make it {shown}")
        try:
            columns.append(column.cast(wanted))
        except pa.ArrowException as error:  # whole numbers that are too large
            text = " ".join(str(error).split())
            raise SourceError(f"{part}: {name} cannot be made {shown} ({text})") from None
    return pa.table(columns, names=table.column_names)


def _fits(found: pa.DataType, name: str) -> bool:
    if name == "song_ids":
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        return any(is_kind(found) for is_kind in lists) and (
            _is_text(found.value_type) or pa.types.is_null(found.value_type)  # all of them empty
        )
    if name == "rank":
        return bool(pa.types.is_integer(found))
    if name == "score":
        return bool(pa.types.is_integer(found) or pa.types.is_floating(found))
    return _is_text(found)


def _is_text(found: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found))


def _table(part: str) -> pa.Table:
    with _opened(part) as file:
        try:
            if part.endswith(".parquet"):
                with pq.ParquetFile(file) as parquet:
                    form = list(_form(part, parquet.schema_arrow.names))
                    # Lists of 2 GiB and more in a row group are not read at once.
                    batches = [*parquet.iter_batches(_ROWS_AT_ONCE, columns=form)]
                    kinds = [parquet.schema_arrow.field(name) for name in form]
                    return pa.Table.from_batches(
                        [batch.select(form) for batch in batches], pa.schema(kinds)
                    )
            if part.endswith(".jsonl"):
                return _json_lines(part, file)
            typed = {name: kind for name, kind in _KINDS.items() if name != "song_ids"}
            options = pyarrow.csv.ConvertOptions(column_types=typed)
            return pyarrow.csv.read_csv(file, convert_options=options)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(part, error) from None


class _Object(list[tuple[str, Any]]):
    """The pairs of a JSON object, repeated names too."""


def _json_lines(part: str, file: IO[bytes]) -> pa.Table:
    """Columns of the first line's names, of the types that they are to be of.

    Types that are inferred would make times of ids that look like them, and know none of lists
    that are all empty; and a block has to hold the longest line.
    """
    first, longest = b"", 0
    for line in file:
        longest = max(longest, len(line))
        first = first or line.strip()
    if longest > _LONGEST_LINE:
        raise SourceError(f"{part}: has a line of {longest:,} bytes: shorten the list")
    try:
        found = json.loads(first or b"{}", object_pairs_hook=_Object)
    except ValueError as error:
        raise _unreadable(part, error) from None
    if not isinstance(found, _Object):
        raise SourceError(f"{part}: its first line is no JSON object: {_WANTED}")
    form = _form(part, [name for name, _ in found])
    # Of a block, which is no longer than offsets of 32 bits can count; no others are read so.
    kinds = {**_KINDS, "song_ids": pa.list_(pa.string())}
    file.seek(0)
    return pyarrow.json.read_json(
        file,
        pyarrow.json.ReadOptions(block_size=min(max(_LINES, longest + 1), _LONGEST_LINE)),
        pyarrow.json.ParseOptions(
            explicit_schema=pa.schema({name: kinds[name] for name in form}),
            unexpected_field_behavior="ignore",
        ),
    )


def _opened(part: str) -> IO[bytes]:
    try:
        return files.open_binary(part)
    except OSError as error:
        raise SourceError(f"{part}: cannot be read ({error.strerror or error})") from None


def _unreadable(part: str, error: Exception) -> SourceError:
    ending = os.path.splitext(part)[1].removeprefix(".")
    return SourceError(
        f"{part}: cannot be read as {ending} ({' '.join(str(error).split())}); write it again"
    )


def _parts(path: str) -> list[str]:
    """The files; those of a folder by name."""
    if not files.is_folder(path):
        if not path.endswith(ENDINGS):
            raise SourceError(f"{path}: name it {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
        if not files.exists(path):
            raise SourceError(f"{path}: there is no such file")
        return [path]
    if files.is_uri(path):
        filesystem, inner = files.resolve(path)
        names = [info.base_name for info in filesystem.get_file_info(pafs.FileSelector(inner))]
    else:
        names = os.listdir(path)
    found = sorted(name for name in names if name.endswith(".parquet"))
    if not found:
        raise SourceError(f"{path}: this folder has no .parquet file")
    return [files.join(path, name) for name in found]
