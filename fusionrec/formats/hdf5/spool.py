"""Rows of a tree's listing in a temporary file, by path: of any number, few are held in memory."""

from __future__ import annotations

import heapq
import mmap
import tempfile
from collections.abc import Iterator
from itertools import chain, islice

import pyarrow as pa

from fusionrec.errors import UnavailableError
from fusionrec.schemas import LISTING

File = tuple[bytes, int, int]
"""A row of the listing."""

_BATCH = 1 << 16
"""Rows held as Python's objects, of which a million would take 300 MB."""

_MERGED = 1 << 6
"""The same of each chain of batches that is merged with others."""


def spooled(found: Iterator[File]) -> pa.Table:
    """Rows as a table in ascending order of the paths' bytes, schema :data:`LISTING`.

    It lies in a file without a name, which goes when the table does. Of that file the system holds
    in memory what it has room for. Rows that come in order are taken as they come; of others the
    table is written twice.

    Raises
    ------
    UnavailableError
        The folder of temporary files takes no more.
    """
    try:
        chains = _chains(_written(found))
        if len(chains) > 1:
            chains = [_written(heapq.merge(*map(_rows, chains)))]
    except OSError as error:
        raise UnavailableError(
            f"{tempfile.tempdir or 'temporary files'}: the listing of the tree cannot be written "
            f"({error.strerror or error}); free space there or set TMPDIR to another folder"
        ) from error
    return pa.Table.from_batches(chain.from_iterable(chains), LISTING)


def _written(found: Iterator[File]) -> list[pa.RecordBatch]:
    """Rows as batches in a temporary file, each in order."""
    with tempfile.TemporaryFile() as file:
        with pa.ipc.new_file(file, LISTING) as writer:
            while rows := sorted(islice(found, _BATCH)):
                columns = zip(*rows, strict=True)
                arrays = [pa.array(c, f.type) for c, f in zip(columns, LISTING, strict=True)]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=LISTING))
        file.flush()
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    reader = pa.ipc.open_file(pa.py_buffer(content))
    return [reader.get_batch(number) for number in range(reader.num_record_batches)]


def _chains(batches: list[pa.RecordBatch]) -> list[list[pa.RecordBatch]]:
    """The batches in chains, each of which is in order as a whole: one, if none overlap."""
    chains: list[list[pa.RecordBatch]] = []
    for batch in sorted(batches, key=lambda batch: _path(batch, 0)):
        for begun in chains:
            if _path(begun[-1], -1) < _path(batch, 0):
                begun.append(batch)
                break
        else:
            chains.append([batch])
    return chains


def _path(batch: pa.RecordBatch, row: int) -> bytes:
    path: bytes = batch["path"][row].as_py()
    return path


def _rows(batches: list[pa.RecordBatch]) -> Iterator[File]:
    for batch in batches:
        for start in range(0, batch.num_rows, _MERGED):
            few = batch.slice(start, _MERGED)
            yield from zip(*(column.to_pylist() for column in few.columns), strict=True)
