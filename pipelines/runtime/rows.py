"""Rows by number and numbers by id: what is read for some of them does not grow with all of them.

Of a Parquet file groups of rows are read, and first a footer that lists them all. What a person
waits for, some songs among a million, lies in safetensors files instead: a row is where its number
says, and an id where its hash says, so that some reads of its own bytes find it. A matrix is cut
into parts of :data:`ROWS_A_PART` rows, so that its number says in which file a row is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec.hashing import piece_of, wide_hash
from pipelines.runtime.rows_file import RowsFile
from pipelines.runtime.workspace import StageRun, Workspace

ROWS_A_PART = 1 << 14
"""Rows of a matrix a file: 64 MB where a row has 4 kB. Another number is another form of all
artifacts that are written so."""

NAMES_A_PART = 1 << 17
"""The same of songs' names: some 15 MB."""

_IDS_A_BUCKET = 32
_ROWS_A_BLOCK = 1 << 10

Arrays = Mapping[str, np.ndarray]


def rows_name(part: int) -> str:
    """The file name of part number `part`."""
    return f"part-{part:05d}.safetensors"


# --- matrices ------------------------------------------------------------------------------


def write_matrix(run: StageRun, rows: NDArray[np.float32], artifact: str) -> None:
    """Write a matrix as an artifact of its own, shape (rows, d), to be read by row number."""
    for part, start in enumerate(range(0, max(len(rows), 1), ROWS_A_PART)):
        run.write_arrays({"rows": rows[start : start + ROWS_A_PART]}, artifact, rows_name(part))


def read_matrix(
    workspace: Workspace, stage: str, artifact: str, numbers: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Rows of a matrix by number, in their order, float32 (numbers, d)."""
    parts = numbers // ROWS_A_PART
    found: np.ndarray | None = None
    for part in np.unique(parts).tolist() or [0]:
        here = parts == part
        with workspace.reading_rows(stage, artifact, rows_name(part)) as file:
            rows = file.take("rows", numbers[here] - part * ROWS_A_PART)
        if found is None:
            found = np.zeros((len(numbers), rows.shape[1]), np.float32)
        found[here] = rows
    assert found is not None
    return found


def matrix_blocks(
    workspace: Workspace, stage: str, artifact: str, rows: int
) -> Iterator[NDArray[np.float32]]:
    """All rows of a matrix that has so many, one after the other, in blocks of few megabytes."""
    for part in range(-(-rows // ROWS_A_PART)):
        with workspace.reading_rows(stage, artifact, rows_name(part)) as file:
            starts = np.arange(0, file.rows("rows"), _ROWS_A_BLOCK)
            for start, stop in pairwise([*starts.tolist(), file.rows("rows")]):
                yield file.spans("rows", np.array([start]), np.array([stop]))


def read_arrays(workspace: Workspace, *parts: str) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file, by name."""
    with workspace.reading_rows(*parts) as file:
        return {
            name: file.spans(name, np.zeros(1, int), np.array([file.rows(name)]))
            for name in file.names
        }


# --- ids -----------------------------------------------------------------------------------


def write_index(
    run: StageRun,
    artifact: str,
    ids: Sequence[str],
    numbers: NDArray[np.integer] | None = None,
    *,
    piece: int = 0,
) -> None:
    """Write what finds the numbers of ids, each of which is there once.

    Parameters
    ----------
    numbers
        Of each id, shape (ids,); its place among `ids`, if none are given.
    piece
        Where there are several files, `ids` are all those of this one
        (:func:`fusionrec.hashing.piece_of`).
    """
    if numbers is None:
        numbers = np.arange(len(ids))
    run.write_arrays(_index_of(ids, numbers), artifact, rows_name(piece))


def find(workspace: Workspace, stage: str, artifact: str, ids: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of ids by what :func:`write_index` wrote, shape (ids,); -1 of one not known."""
    names = sorted(
        info.base_name
        for info in workspace.files(stage, artifact)
        if info.base_name.startswith("part-")
    )
    pieces = piece_of(_binary(ids), max(1, len(names)))
    found = np.full(len(ids), -1, np.int64)
    for piece in np.unique(pieces).tolist():
        here = np.flatnonzero(pieces == piece)
        with workspace.reading_rows(stage, artifact, rows_name(piece)) as file:
            found[here] = _look_up(file, [ids[row] for row in here.tolist()])
    return found


def _binary(ids: Sequence[str]) -> pa.Array:
    """Ids as Arrow has them.

    Not by :func:`pyarrow.array`, which imports pandas: longer than all else that one id takes.
    """
    found = [identity.encode(errors="surrogateescape") for identity in ids]
    offsets = np.cumsum([0, *map(len, found)], dtype=np.int64)
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"".join(found))]
    return pa.Array.from_buffers(pa.large_binary(), len(found), buffers)


def _index_of(ids: Sequence[str], numbers: NDArray[np.integer]) -> Arrays:
    """What finds the number of an id.

    `entries`, int32 (ids, 5), has the words of an id's hash and its number, in buckets by the first
    bits of the hash; `starts` where each bucket begins. That two of a million ids share 128 bits
    happens once in 10^26 catalogues. It takes 20 bytes an id.
    """
    hashes = wide_hash(ids)
    bits = (len(ids) // _IDS_A_BUCKET).bit_length()
    bucket = _bucket(hashes, bits)
    order = np.argsort(bucket, kind="stable")
    starts = np.searchsorted(bucket[order], np.arange((1 << bits) + 1))
    found = numbers[order].astype(np.int32)
    entries = np.column_stack([hashes[order].view(np.int32), found])
    return {"entries": entries, "starts": starts.astype(np.int32)}


def _look_up(file: RowsFile, ids: Sequence[str]) -> NDArray[np.int64]:
    hashes = wide_hash(ids)
    bucket = _bucket(hashes, (file.rows("starts") - 1).bit_length() - 1)
    starts, stops = file.spans("starts", bucket, bucket + 2).reshape(-1, 2).T
    entries = file.spans("entries", starts, stops)
    of_id = np.repeat(np.arange(len(ids)), stops - starts)
    same = (entries[:, :-1] == hashes.view(np.int32)[of_id]).all(axis=1)
    found = np.full(len(ids), -1, np.int64)
    found[of_id[same]] = entries[same, -1]
    return found


def _bucket(hashes: NDArray[np.uint32], bits: int) -> NDArray[np.int64]:
    """The first bits of each hash."""
    return hashes[:, 0].astype(np.int64) >> (32 - bits)


# --- texts ---------------------------------------------------------------------------------


def texts_of(table: pa.Table) -> Arrays:
    """Columns of strings as tensors; "" for a null.

    `text` has the bytes of all, row by row; `bounds`, int32 (rows, columns + 1), where in it each
    string of a row begins, and where the last one ends.
    """
    columns = [table[name].combine_chunks().fill_null("") for name in table.column_names]
    rows = pc.binary_join_element_wise(*columns, "")
    sizes = [pc.binary_length(column).to_numpy() for column in columns]
    ends = np.cumsum(np.stack(sizes, axis=1)).reshape(-1, len(columns)).astype(np.int32)
    starts = np.concatenate([[0], ends[:-1, -1]])[: len(ends)].astype(np.int32)
    content = np.frombuffer("".join(rows.to_pylist()).encode(), np.uint8)
    return {"bounds": np.column_stack([starts, ends]), "text": content}


def read_texts(file: RowsFile, numbers: NDArray[np.integer]) -> list[tuple[str, ...]]:
    """Rows by number, each its strings, by what :func:`texts_of` gave."""
    bounds = file.take("bounds", numbers)
    texts = file.spans("text", bounds[:, 0], bounds[:, -1]).tobytes()
    found, start = [], 0
    for row in bounds.astype(np.int64):
        ends = (row - row[0] + start).tolist()
        found.append(tuple(texts[a:b].decode() for a, b in pairwise(ends)))
        start = ends[-1]
    return found
