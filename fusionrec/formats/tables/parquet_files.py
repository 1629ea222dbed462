"""Parquet files, in ranges of rows."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fusionrec.errors import SourceError
from fusionrec.formats import files
from fusionrec.formats.tables.rows import Rows, with_bytes
from fusionrec.formats.trouble import is_trouble

_AT_ONCE = 1 << 16


def _of(file: IO[bytes]) -> pq.ParquetFile:
    """With the types that Parquet has names for (UUIDs), where this release of Arrow gives them."""
    known = "arrow_extensions_enabled" in inspect.signature(pq.ParquetFile.__init__).parameters
    return pq.ParquetFile(file, **({"arrow_extensions_enabled": True} if known else {}))


@contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    try:
        with files.open_binary(path) as file, _of(file) as parquet:
            yield parquet
    except (pa.ArrowException, OSError) as error:
        if is_trouble(error):
            raise
        if isinstance(error, FileNotFoundError):
            raise SourceError(f"{path}: no such file; check the path of this table") from None
        text = " ".join(str(error).split())
        raise SourceError(f"{path}: cannot be read as Parquet ({text}); write it again") from None


def names_of(path: str) -> list[str]:
    """The file's columns; a SourceError if it is no Parquet."""
    with _opened(path) as parquet:
        names: list[str] = parquet.schema_arrow.names
    return names


def head(path: str, rows: int) -> pa.Table:
    """The first rows."""
    with _opened(path) as parquet:
        for batch in parquet.iter_batches(rows):
            return pa.Table.from_batches([batch])
        return parquet.schema_arrow.empty_table()


def row_ranges(path: str, rows: int) -> list[tuple[int, int]]:
    """Ranges of about `rows` rows, that end with a row group where these are not much larger."""
    with _opened(path) as parquet:
        sizes = [
            parquet.metadata.row_group(i).num_rows for i in range(parquet.metadata.num_row_groups)
        ]
    ranges: list[tuple[int, int]] = []
    start = stop = 0
    for size in sizes:
        if stop > start and stop - start + size > rows:
            ranges.append((start, stop))
            start = stop
        stop += size
        parts = (stop - start) // (2 * rows) * 2 if stop - start > 2 * rows else 1
        for _ in range(parts - 1):
            step = -(-(stop - start) // parts)
            ranges.append((start, start + step))
            start += step
            parts -= 1
    if stop > start:
        ranges.append((start, stop))
    return ranges


def parquet_rows(path: str, columns: Mapping[str, str], start: int, stop: int) -> Iterator[Rows]:
    """The rows of a range, in batches; see :func:`text_files.byte_rows`."""
    with _opened(path) as parquet:
        sizes = [
            parquet.metadata.row_group(i).num_rows for i in range(parquet.metadata.num_row_groups)
        ]
        ends = np.cumsum(sizes)
        groups = [i for i, end in enumerate(ends.tolist()) if end > start and end - sizes[i] < stop]
        if not groups:
            return
        at = int(ends[groups[0]]) - sizes[groups[0]]
        wanted = list(dict.fromkeys(columns.values()))
        for batch in parquet.iter_batches(_AT_ONCE, row_groups=groups, columns=wanted):
            if at >= stop:
                return
            low, high = max(start - at, 0), min(stop - at, len(batch))
            if low < high:
                part = pa.Table.from_batches([batch.slice(low, high - low)])
                table = pa.table({label: part[name] for label, name in columns.items()})
                first = at + low + 1
                places = np.arange(at + low - start, at + high - start)
                number_of = partial(operator.add, first)
                yield Rows(path, with_bytes(table), number_of, places, at + high - start)
            at += len(batch)
