"""Rows that change hands: each shard writes pieces, and whoever a piece is for reads it from all.

What belongs together, such as the rows of a user or of an id, is brought together by two passes of
plain tasks: :func:`scatter` in the first, :func:`gather` in the second. Every shard writes one
file, of which a piece is read alone, so that no process holds more than its own piece. Within a
piece the rows keep their order: that of the shards, and within each its own. So what is made of
them depends neither on the number of pieces nor on who came first.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.runtime.workspace import StageRun

_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def scatter(
    run: StageRun,
    table: pa.Table,
    pieces: NDArray[np.integer],
    count: int,
    artifact: str,
    part: int,
) -> None:
    """Write a shard's rows by piece.

    Parameters
    ----------
    pieces
        For each row the piece that it goes to, shape (rows,), below `count`.
    part
        The number of the shard.
    """
    order = np.argsort(pieces, kind="stable")
    bounds = np.searchsorted(pieces[order], np.arange(count + 1))
    table = table.take(pa.array(order)).combine_chunks()
    path = (run.stage, artifact, _name(part))
    with (
        run.workspace.replacing(*path) as stream,
        pa.ipc.new_file(stream, table.schema, options=_OPTIONS) as writer,
    ):
        none = pa.RecordBatch.from_pylist([], table.schema)
        for start, stop in pairwise(bounds.tolist()):
            (batch,) = table.slice(start, stop - start).to_batches() or [none]
            writer.write_batch(batch)


def gather(run: StageRun, artifact: str, piece: int, parts: Iterable[int]) -> list[pa.Table]:
    """One piece as each of these shards wrote it, in their order."""
    found = []
    for part in parts:
        path = run.workspace.path(run.stage, artifact, _name(part))
        with run.workspace.fs.open_input_file(path) as file:
            batch = pa.ipc.open_file(file).get_batch(piece)
        found.append(pa.Table.from_batches([batch]))
    return found


def first_of(places: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Rows in which something appears first, where its place says how many others did before."""
    if not len(places):
        return np.zeros(0, np.bool_)
    found: NDArray[np.bool_] = places > np.concatenate([[-1], np.maximum.accumulate(places)[:-1]])
    return found


def _name(part: int) -> str:
    return f"part-{part:05d}.arrow"
