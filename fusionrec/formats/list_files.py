"""The files of users' lists: which they are, and their columns in wide types.

:mod:`fusionrec.formats.user_lists` says what they hold, and checks it.
"""

from __future__ import annotations

import json
import os
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from fusionrec.errors import SourceError
from fusionrec.formats import files

ENDINGS = (".parquet", ".jsonl", ".csv")
WANTED = "give user_id and song_ids, best first, or user_id, song_id and rank (or score)"
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

LISTS = ("user_id", "song_ids")
"""The columns of the form with a row a user."""


def form_of(part: str, names: list[str]) -> tuple[str, ...]:
    """The columns that are read, of those that a file has.

    Raises
    ------
    SourceError
        One is missing, or is there twice.
    """
    there = set(names)
    for name in _KINDS:
        if names.count(name) > 1:
            raise SourceError(f"{part}: has {names.count(name)} columns {name}: keep one of them")
    if set(LISTS) <= there:
        return LISTS
    for last in ("rank", "score"):
        if {"user_id", "song_id", last} <= there:
            return ("user_id", "song_id", last)
    listed = ", ".join(names) or "none"
    for column in ("user_id", "song_id"):
        if column not in there:
            wanted = "song_ids or song_id" if column == "song_id" else column
            raise SourceError(f"{part}: has no column {wanted} (it has {listed}): {WANTED}")
    raise SourceError(f"{part}: has no column rank or score (it has {listed}): {WANTED}")


def _typed(part: str, table: pa.Table) -> pa.Table:
    columns, names = [], form_of(part, table.column_names)
    for name in names:
        column, wanted = table[name], _KINDS[name]
        shown = str(wanted).replace("large_", "")
        if not _fits(column.type, name):
            raise SourceError(f"{part}: {name} is of type {column.type}: make it {shown}")
        try:
            columns.append(column.cast(wanted))
        except pa.ArrowException as error:  # whole numbers that are too large
            text = " ".join(str(error).split())
            raise SourceError(f"{part}: {name} cannot be made {shown} ({text})") from None
    return pa.table(columns, names=names)


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


def names_of(part: str) -> list[str]:
    """The columns of a Parquet file; a SourceError if it is none."""
    with opened(part) as file:
        try:
            names: list[str] = pq.read_schema(file).names
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(part, error) from None
    return names


def read_table(part: str) -> pa.Table:
    """A file's columns of :func:`form_of`, in types with wide offsets.

    Raises
    ------
    SourceError
        It cannot be read, lacks a column, or has values of another type.
    """
    return _typed(part, _raw(part))


def _raw(part: str) -> pa.Table:
    with opened(part) as file:
        try:
            if part.endswith(".parquet"):
                with pq.ParquetFile(file) as parquet:
                    form = list(form_of(part, parquet.schema_arrow.names))
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
        raise SourceError(f"{part}: its first line is no JSON object: {WANTED}")
    form = form_of(part, [name for name, _ in found])
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


def opened(part: str) -> IO[bytes]:
    """A file as bytes; a SourceError if it cannot be opened."""
    try:
        return files.open_binary(part)
    except OSError as error:
        raise SourceError(f"{part}: cannot be read ({error.strerror or error})") from None


def _unreadable(part: str, error: Exception) -> SourceError:
    ending = os.path.splitext(part)[1].removeprefix(".")
    return SourceError(
        f"{part}: cannot be read as {ending} ({' '.join(str(error).split())}); write it again"
    )


def parts_of(path: str) -> list[str]:
    """The files; those of a folder by name. A SourceError if there are none."""
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
