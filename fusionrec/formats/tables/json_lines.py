"""JSON lines: an object a line, in byte ranges.

A block of lines is read at once by Arrow where each is of the types of the file's first ones, else
line by line, so that one that is no object costs itself alone. An object within an object has its
fields as columns too, by names like `artist.name`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pa_json

from fusionrec.errors import SourceError
from fusionrec.formats.batch import Rejects
from fusionrec.formats.tables.rows import Rows, with_bytes
from fusionrec.formats.tables.text_files import refuse_damage
from fusionrec.formats.text import LineReader, decode, excerpt

_HEAD_LINES, _HEAD_BYTES = 100, 1 << 20
_OF_ARRAY = re.compile(rb"\s*\[\s*(\{|$)")
NO_OBJECT = "line is no JSON object"


def names_of(path: str) -> list[str]:
    """The fields of the file's first objects; a SourceError if there are none."""
    names: dict[str, None] = {}
    for found in _first_objects(path):
        for name, value in found.items():
            names[name] = None
            if isinstance(value, dict):
                names.update(dict.fromkeys(f"{name}.{inner}" for inner in value))
    return list(names)


def head(path: str, rows: int) -> pa.Table:
    """The first objects, of those that are some."""
    objects = _first_objects(path)[:rows]
    table = _table(objects, {name: name for name in names_of(path)})
    for i, of in enumerate(table.schema):
        if pa.types.is_binary(of.type):
            found = table.column(i).to_pylist()
            texts = [None if value is None else decode(value)[0] for value in found]
            table = table.set_column(i, of.name, pa.array(texts, pa.string()))
    return table


def _first_objects(path: str) -> list[dict[str, Any]]:
    found, lines, begins_array = [], 0, False
    reader = LineReader(path, 0, _HEAD_BYTES)
    for _, line, _ in reader.lines():
        if line.strip():
            lines += 1
            begins_array |= lines == 1 and _OF_ARRAY.match(line) is not None
            each = _object(line)
            if each is not None:
                found.append(each)
        if lines == _HEAD_LINES:
            break
    if begins_array and 2 * len(found) < lines:  # the last one has no comma behind it
        raise SourceError(
            f"{path}: is one JSON array; write its objects a line each, for instance by "
            "`jq -c '.[]'`"
        )
    if not found:
        refuse_damage(reader)
        what = "its first lines are no JSON objects" if lines else "is empty"
        raise SourceError(f"{path}: {what}; give JSON lines, an object with a row's fields a line")
    return found


def _object(line: bytes) -> dict[str, Any] | None:
    """Its texts have bytes that are no UTF-8 as lone surrogates."""
    try:
        text = line.decode("utf-8", "surrogateescape")
        found = json.loads(text, object_pairs_hook=_with_sound_names)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _with_sound_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {decode(name)[0]: value for name, value in pairs}


def json_rows(
    path: str, columns: Mapping[str, str], start: int, stop: int, rejects: Rejects
) -> Iterator[Rows]:
    """The rows whose lines begin in a range of bytes; see :func:`text_files.byte_rows`."""
    schema = _schema(_first_objects(path), list(dict.fromkeys(columns.values())))
    reader = LineReader(path, start, stop)
    read = 0
    for block in reader.blocks():
        table = None if schema is None else _read_at_once(block.data, schema)
        stop_line = block.first + block.data.count(b"\n")
        if table is not None:
            table = pa.table({label: table[name] for label, name in columns.items()})
            places = np.arange(block.first, stop_line)
            number = partial(_number, reader, places)
            yield Rows(path, with_bytes(table), number, places, stop_line)
            read += len(table)
            continue
        objects, lines, odd = [], [], []
        for i, line in enumerate(block.data.split(b"\n")):
            if not line.strip():
                continue
            found = _object(line)
            if found is None:
                odd.append((reader.number(block.first + i), NO_OBJECT, excerpt(line), "dropped"))
            else:
                objects.append(found)
                lines.append(block.first + i)
        places = np.array(lines, np.int64)
        number_of = partial(_number, reader, places)
        yield Rows(path, _table(objects, columns), number_of, places, stop_line, odd, len(odd))
        read += len(objects) + len(odd)
    reader.note_damage(rejects, read)


def _number(reader: LineReader, lines: np.ndarray, row: int) -> int:
    return reader.number(int(lines[row]))


def _read_at_once(data: bytes, schema: pa.Schema) -> pa.Table | None:
    """The lines' fields; None if they are not one object each, or of other types."""
    try:
        table = pa_json.read_json(
            pa.BufferReader(data),
            pa_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowException, UnicodeError):
        return None
    return table if len(table) == data.count(b"\n") else None


def _schema(objects: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pa.Schema | None:
    """Types of the fields in the first objects; None where Arrow's reader has none for them."""
    fields = []
    for name in names:
        type_ = _type_of([found[name] for found in objects if found.get(name) is not None])
        if type_ is None:
            return None
        fields.append((name, type_))
    return pa.schema(fields)


def _type_of(values: Sequence[Any]) -> pa.DataType | None:
    kinds = {type(value) for value in values}
    if kinds == {str}:
        return pa.string()
    if kinds == {int}:
        return pa.int64()
    if kinds and kinds <= {int, float}:
        return pa.float64()
    if kinds == {list}:
        inner = _type_of([each for value in values for each in value if each is not None])
        if inner is not None and not pa.types.is_list(inner):
            return pa.list_(pa.float64() if pa.types.is_integer(inner) else inner)
    return None


def _table(objects: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pa.Table:
    return pa.table(
        {
            label: _array([_field(found, name) for found in objects])
            for label, name in columns.items()
        }
    )


def _field(found: Mapping[str, Any], name: str) -> Any:
    if name not in found:
        outer, _, inner = name.partition(".")
        within = found.get(outer)
        found, name = (within, inner) if isinstance(within, dict) else ({}, name)
    value = found.get(name)
    return json.dumps(value) if isinstance(value, dict) else value


def _array(values: list[Any]) -> pa.Array:
    """Values of one type as they are, others as text; it is of bytes where some is no UTF-8."""
    try:
        return pa.array(values)
    except (pa.ArrowException, UnicodeError, OverflowError):
        pass
    found = [None if value is None else _as_bytes(value) for value in values]
    try:
        return pa.array(found, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array(found, pa.binary())


def _as_bytes(value: Any) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, written as an escape
        return text.encode("utf-8", "surrogatepass")
