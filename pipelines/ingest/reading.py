"""Shards of a source past two operators of Ray Data: one reads a shard, the other writes its parts.

Between them a shard is a row, its tables as bytes of Arrow's own, in which they keep their schemas
and chunks. Both ask for the same, so that Ray Data has them in one task: a shard's tables cross no
object store, and a worker that dies takes one shard's work with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
from ray import cloudpickle

from pipelines.runtime import stream
from pipelines.runtime.operators import packed
from pipelines.runtime.resume import finished, resumable
from pipelines.runtime.shards import Shard
from pipelines.runtime.stream import Arrays
from pipelines.runtime.workspace import StageRun

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound=Shard)
R = TypeVar("R", bound="DataclassInstance")

Tables = dict[str, pa.Table]
"""What was read of a shard, by the artifact that it becomes a part of."""

_REPORT = "report"


def read_shards(
    run: StageRun,
    name: str,
    read: Callable[[S], tuple[Tables, R]],
    shards: Sequence[S],
    artifacts: Sequence[str],
    report: type[R],
    *,
    description: str,
) -> tuple[list[R], dict[str, Any]]:
    """Read shards and write what was read; those that an interrupted run finished are left.

    Parameters
    ----------
    name
        What the shards' reports are kept under.
    read
        Of a shard: its tables, some or all of the `artifacts`, and its report.

    Returns
    -------
    tuple
        The shards' reports, in their order, and what the operators did, for the manifest.

    Raises
    ------
    FusionrecError, StageError
        As :func:`pipelines.runtime.sharding.reports`.
    """
    done = finished(run, name, (shard.part for shard in shards), report)
    left = [shard for shard in shards if shard.part not in done]
    gives = {**dict.fromkeys(artifacts, pa.uint8()), _REPORT: pa.uint8()}
    found, statistics = stream.stream(
        run,
        [[shard] for shard in left],
        stream.Source("read", partial(_read, read, artifacts), gives),
        None,
        stream.Sink("write", partial(_write, run, name, artifacts, report)),
        description=description,
    )
    done |= {shard.part: each for shard, each in zip(left, found, strict=True)}
    return [done[shard.part] for shard in shards], statistics.counts()


def _read(read: Callable[[S], tuple[Tables, R]], artifacts: Sequence[str], shard: S) -> Arrays:
    tables, report = read(shard)
    arrays = {name: _as_bytes(tables[name]) for name in artifacts if name in tables}
    none = pa.array([], pa.uint8())
    return {**dict.fromkeys(artifacts, none), **arrays, _REPORT: _array(packed(report))}


def _write(
    run: StageRun, name: str, artifacts: Sequence[str], report: type[R], shard: S, arrays: Arrays
) -> R:
    def write(shard: S) -> R:
        for artifact in artifacts:
            if len(arrays[artifact]):
                run.write(_as_table(arrays[artifact]), artifact, shard.part)
        found: R = cloudpickle.loads(arrays[_REPORT].to_numpy())
        return found

    return resumable(run, name, write, report)(shard)


def _as_bytes(table: pa.Table) -> pa.Array:
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return _array(stream.getvalue())


def _as_table(array: pa.Array) -> pa.Table:
    """A table in the memory of its bytes."""
    return pa.ipc.open_stream(pa.py_buffer(array.to_numpy())).read_all()


def _array(content: bytes | pa.Buffer) -> pa.Array:
    buffer = pa.py_buffer(content)
    return pa.Array.from_buffers(pa.uint8(), buffer.size, [None, buffer])
