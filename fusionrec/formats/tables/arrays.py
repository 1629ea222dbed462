"""NumPy's files of vectors, a row a song: `.npy` with a file of ids beside it, and `.npz`."""

from __future__ import annotations

import operator
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from typing import IO, Any

import numpy as np
import pyarrow as pa

from fusionrec.errors import SourceError
from fusionrec.formats import files
from fusionrec.formats.tables.places import form_of
from fusionrec.formats.tables.rows import Rows
from fusionrec.formats.tables.spec import TableSpec
from fusionrec.formats.text import LineReader

_AT_ONCE = 1 << 26
"""About as many bytes of vectors are in memory at a time."""
_NUMBERS = "fiu"
_IDS, _VECTORS = ("song_ids", "song_id", "ids", "id"), ("vectors", "vector", "embeddings")


def columns_of(path: str, spec: TableSpec) -> dict[str, str]:
    """What the ids and the vectors are called: arrays of an `.npz`, else files."""
    if form_of(path) == "npy":
        if spec.ids is None:
            raise SourceError(
                f"{path}: says not which songs its rows are of; name the file of their ids, a line "
                "each, in source.tables.features.NAME.ids"
            )
        return {"song_id": spec.ids, "vector": path}
    with _opened(path) as file:
        shapes = {name: array.ndim for name, array in _load(path, file).items()}
    vectors = spec.columns.get("vector") or _one(path, _VECTORS, shapes, 2)
    ids = spec.ids or spec.columns.get("song_id") or _one(path, _IDS, shapes, 1)
    for name in (vectors, *(() if spec.ids else (ids,))):
        if name not in shapes:
            raise SourceError(f"{path}: has no array {name} (it has {', '.join(shapes)})")
    return {"song_id": ids, "vector": vectors}


def _one(path: str, names: tuple[str, ...], shapes: dict[str, int], dimensions: int) -> str:
    named = [name for name in names if shapes.get(name) == dimensions]
    fitting = named[:1] or [name for name, of in shapes.items() if of == dimensions]
    if len(fitting) != 1:
        wanted = "song_id" if dimensions == 1 else "vector"
        raise SourceError(
            f"{path}: {len(fitting)} of its arrays have {dimensions} dimension"
            f"{'' if dimensions == 1 else 's'}, where one must, for {wanted} (it has "
            f"{', '.join(shapes) or 'none'}); name it in source.tables.features.NAME.columns"
        )
    return fitting[0]


def shape(path: str, spec: TableSpec) -> tuple[int, int]:
    """Rows and dimension."""
    if form_of(path) == "npz":
        with _opened(path) as file:
            found = _load(path, file)[columns_of(path, spec)["vector"]]
        return _checked(path, found.shape, found.dtype)
    with _opened(path) as file:
        return _header(path, file)[:2]


def array_rows(path: str, spec: TableSpec, start: int, stop: int) -> Iterator[Rows]:
    """The rows of a range, in batches; `song_id` and `vector`, a fixed-size list.

    Of a range of an `.npy` file the vectors are read alone, but the ids of all.
    """
    names = columns_of(path, spec)
    with _opened(path) as file:
        if form_of(path) == "npz":
            arrays = _load(path, file)
            vectors = arrays[names["vector"]]
            rows, dimension = _checked(path, vectors.shape, vectors.dtype)
            ids = (
                _ids_of_file(spec.ids)
                if spec.ids
                else _ids_of_array(path, arrays[names["song_id"]])
            )
            step = rows
        else:
            rows, dimension, dtype = _header(path, file)
            begin = file.tell()
            ids = _ids_of_file(names["song_id"])
            step = max(1, _AT_ONCE // max(dimension * dtype.itemsize, 1))
        if len(ids) != rows:
            raise SourceError(
                f"{path}: has {rows:,} rows, where {names['song_id']} has {len(ids):,} ids; give "
                "one for each row, in their order"
            )
        for first in range(start, min(stop, rows), max(step, 1)):
            last = min(first + step, stop, rows)
            if form_of(path) == "npy":
                file.seek(begin + first * dimension * dtype.itemsize)
                content = file.read((last - first) * dimension * dtype.itemsize)
                if len(content) < (last - first) * dimension * dtype.itemsize:
                    raise SourceError(f"{path}: ends before its last row; write it again")
                part = np.frombuffer(content, dtype).reshape(-1, dimension)
            else:
                part = vectors[first:last]
            with np.errstate(over="ignore"):
                flat = pa.array(np.ascontiguousarray(part, np.float32).ravel())
            table = pa.table(
                {
                    "song_id": ids.slice(first, last - first),
                    "vector": pa.FixedSizeListArray.from_arrays(flat, dimension),
                }
            )
            places = np.arange(first - start, last - start)
            yield Rows(path, table, partial(operator.add, first + 1), places, last - start)


def _header(path: str, file: IO[bytes]) -> tuple[int, int, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        found, fortran, dtype = read(file)
    except (ValueError, KeyError, EOFError) as error:
        raise SourceError(f"{path}: is no .npy file ({error}); write it again") from None
    if fortran and len(found) > 1:
        raise SourceError(
            f"{path}: is written column by column; write np.ascontiguousarray of the vectors"
        )
    return *_checked(path, found, dtype), dtype


def _checked(path: str, found: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int]:
    if len(found) != 2 or dtype.kind not in _NUMBERS or not found[1]:
        raise SourceError(
            f"{path}: vectors must be a matrix of numbers, a row a song, not {dtype} of shape "
            f"{found}"
        )
    return found[0], found[1]


def _ids_of_file(path: str) -> pa.Array:
    """The ids in a text file, a line each; or in an `.npy` file."""
    if form_of(path) == "npy":
        with _opened(path) as file:
            try:
                return _ids_of_array(path, np.load(file, allow_pickle=False))
            except (ValueError, EOFError) as error:
                raise SourceError(f"{path}: holds no ids that can be read ({error})") from None
    return pa.array([line for _, line, _ in LineReader(path).lines()], pa.binary())


def _ids_of_array(path: str, array: np.ndarray) -> pa.Array:
    if array.ndim != 1 or array.dtype.kind not in "USiu":
        raise SourceError(
            f"{path}: ids must be an array of text or integers of one dimension, not {array.dtype} "
            f"of shape {array.shape}"
        )
    return pa.array(array.tolist())


def _load(path: str, file: IO[bytes]) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        AttributeError,
        TypeError,
    ) as error:
        raise SourceError(
            f"{path}: is no .npz file of plain arrays ({error}); write it again, with ids as text "
            "or integers"
        ) from None


def _opened(path: str) -> IO[bytes]:
    try:
        return files.open_binary(path)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from None
