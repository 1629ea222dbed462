"""Shards of a source past two operators of Ray Data: one reads a shard, the other writes its parts.

Between them a shard is a row, its tables as bytes of Arrow's own, in which they keep their schemas.
Both ask for the same, so that Ray Data has them in one task, and a shard's tables cross no object
store. A task has one shard, or several of more than 10,000. Of these it may read 128 MB before it
writes the first; those whose report is there are not read again where its worker dies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
from ray import cloudpickle

from pipelines.runtime import stream
from pipelines.runtime.operators import packed
from pipelines.runtime.resume import finished, report_of, resumable
from pipelines.runtime.shards import Shard
from pipelines.runtime.stream import Arrays
from pipelines.runtime.workspace import StageRun

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound=Shard)
R = TypeVar("R", bound="DataclassInstance")

Tables = dict[str, pa.Table]
"""What was read of a shard, by the artifact that it becomes a part of."""

_REPORT = "its report"
"""Beside the artifacts, none of which is called so."""


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
    artifacts
        All that may be read of a shard.

    Returns
    -------
    tuple
        The shards' reports, in their order, and what the operators did in this run, for the
        manifest.

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
        stream.Source("read", partial(_read, run, name, read, artifacts, report), gives),
        None,
        stream.Sink("write", partial(_write, run, name, artifacts, report)),
        description=description,
    )
    done |= {shard.part: each for shard, each in zip(left, found, strict=True)}
    return [done[shard.part] for shard in shards], statistics.counts()


def _read(
    run: StageRun,
    name: str,
    read: Callable[[S], tuple[Tables, R]],
    artifacts: Sequence[str],
    report: type[R],
    shard: S,
) -> Arrays:
    arrays = dict.fromkeys([*artifacts, _REPORT], pa.array([], pa.uint8()))
    if report_of(run, name, shard.part, report) is not None:
        return arrays  # the worker died after it had written
    tables, found = read(shard)
    unknown = tables.keys() - set(artifacts)
    if unknown:
        raise ValueError(f"{name}: {sorted(unknown)} is read, and not among {list(artifacts)}")
    for artifact in list(tables):
        # One after the other, so that no more than one is there twice.
        arrays[artifact] = _as_bytes(tables.pop(artifact))
    arrays[_REPORT] = _array(packed(found))
    return arrays


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
    size = pa.MockOutputStream()  # asked first: a buffer that grows is there twice meanwhile
    _write_stream(size, table)
    buffer = pa.allocate_buffer(size.size())
    with pa.FixedSizeBufferWriter(buffer) as stream:
        _write_stream(stream, table)
    return _array(buffer)


def _write_stream(stream: pa.NativeFile, table: pa.Table) -> None:
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)


def _as_table(array: pa.Array) -> pa.Table:
    """A table in the memory of its bytes."""
    return pa.ipc.open_stream(pa.py_buffer(array.to_numpy())).read_all()


def _array(content: bytes | pa.Buffer) -> pa.Array:
    buffer = pa.py_buffer(content)
    return pa.Array.from_buffers(pa.uint8(), buffer.size, [None, buffer])
