"""NumPy's files of vectors, a row a song: `.npy` with a file of ids beside it, and `.npz`.

Of a file no more is in memory than the rows that are asked for: how many there are and of what
length is in the arrays' headers, and ids in a file of text are counted as they pass.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import pyarrow as pa

from fusionrec.errors import SourceError
from fusionrec.formats.tables.numpy_files import Stored, archive, opened, stored
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
    with archive(path) as found:
        shapes = found.dimensions()
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
    """Rows and dimension, by the header."""
    with _vectors(path, spec) as (vectors, _):
        return _checked(vectors)


def array_rows(path: str, spec: TableSpec, start: int, stop: int) -> Iterator[Rows]:
    """The rows of a range, in batches; `song_id` and `vector`, a fixed-size list.

    Vectors and ids of the range are read alone, but that those in a file of text are counted.
    """
    with _vectors(path, spec) as (vectors, of_archive):
        rows, dimension = _checked(vectors)
        stop = min(stop, rows)
        with _ids(path, spec, of_archive, start, stop) as ids:
            if ids.count != rows:
                raise SourceError(
                    f"{path}: has {rows:,} rows, where {ids.name} has {ids.count:,} ids; give one "
                    "for each row, in their order"
                )
            step = max(1, _AT_ONCE // max(dimension * vectors.dtype.itemsize, 1))
            for first in range(start, stop, step):
                last = min(first + step, stop)
                with np.errstate(over="ignore"):
                    part = np.ascontiguousarray(vectors.rows(first, last), np.float32)
                table = pa.table(
                    {
                        "song_id": ids.part(first, last),
                        "vector": pa.FixedSizeListArray.from_arrays(
                            pa.array(part.ravel()), dimension
                        ),
                    }
                )
                places = np.arange(first - start, last - start)
                yield Rows(path, table, partial(operator.add, first + 1), places, last - start)


@contextmanager
def _vectors(path: str, spec: TableSpec) -> Iterator[tuple[Stored, Stored | None]]:
    """The vectors, and the ids where an archive has both."""
    if form_of(path) == "npy":
        with opened(path) as file:
            found = stored(path, file)
            if found.by_columns:
                raise SourceError(
                    f"{path}: is written column by column; write np.ascontiguousarray of the "
                    "vectors"
                )
            yield found, None
        return
    names = columns_of(path, spec)
    with archive(path) as arrays:
        ids = None if spec.ids else arrays.array(names["song_id"])
        yield arrays.array(names["vector"]), ids


def _checked(vectors: Stored) -> tuple[int, int]:
    found, dtype = vectors.shape, vectors.dtype
    if len(found) != 2 or dtype.kind not in _NUMBERS or not found[1]:
        raise SourceError(
            f"{vectors.path}: vectors must be a matrix of numbers, a row a song, not {dtype} of "
            f"shape {found}"
        )
    return found[0], found[1]


class _Ids:
    """How many ids there are, and those of some rows."""

    def __init__(self, name: str, array: Stored) -> None:
        if len(array.shape) != 1 or array.dtype.kind not in "USiu":
            raise SourceError(
                f"{array.path}: has {array.dtype} of shape {array.shape} as ids; write it again, "
                "with ids as text or integers, an array of one dimension"
            )
        self.name, self._array = name, array
        self.count = array.shape[0]

    def part(self, first: int, last: int) -> pa.Array:
        """The ids of rows from `first` to before `last`."""
        return pa.array(self._array.rows(first, last).tolist())


class _Lines:
    """The same of a file of text, an id a line, of which those of a range are kept."""

    def __init__(self, path: str, start: int, stop: int) -> None:
        self.name, self._start = path, start
        kept = [pa.array([], pa.binary())]
        self.count = 0
        for block in LineReader(path).blocks():
            lines = block.data.count(b"\n")
            low, high = max(start - self.count, 0), min(stop - self.count, lines)
            if low < high:
                kept.append(pa.array(block.data.split(b"\n")[low:high], pa.binary()))
            self.count += lines
        self._kept = pa.concat_arrays(kept)

    def part(self, first: int, last: int) -> pa.Array:
        """The ids of rows from `first` to before `last`, within the range."""
        return self._kept.slice(first - self._start, last - first)


@contextmanager
def _ids(
    path: str, spec: TableSpec, of_archive: Stored | None, start: int, stop: int
) -> Iterator[_Ids | _Lines]:
    with ExitStack() as stack:
        if of_archive is not None:
            yield _Ids(columns_of(path, spec)["song_id"], of_archive)
        elif spec.ids is not None and form_of(spec.ids) == "npy":
            yield _Ids(spec.ids, stored(spec.ids, stack.enter_context(opened(spec.ids))))
        else:
            yield _Lines(columns_of(path, spec)["song_id"], start, stop)
