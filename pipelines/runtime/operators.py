"""What a stream is made of, and how Ray Data has it: rows of Arrow, a row an item, or a group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import pyarrow as pa
from ray import cloudpickle

from pipelines.runtime import interrupts
from pipelines.runtime.failures import as_data

R = TypeVar("R")
S = TypeVar("S")

Arrays = Mapping[str, pa.Array]
"""What an operator gives of an item: flat arrays by name, of any lengths."""

Columns = Mapping[str, pa.DataType]
"""The types of such arrays' values."""


@dataclass(frozen=True)
class Source(Generic[S]):
    """The first operator.

    Attributes
    ----------
    name
        What it does, in a word; for people and statistics.
    function
        Reads an item.
    gives
        The types of the arrays it returns.
    """

    name: str
    function: Callable[[S], Arrays]
    gives: Columns


@dataclass(frozen=True)
class Pool:
    """Actors, each of which holds something that takes a while to make, as a model.

    Attributes
    ----------
    name, gives
        As of a :class:`Source`.
    factory
        Takes the `arguments`, once an actor, and returns a generator function: of the arrays of
        items, one after the other, which gives those of each in the same order. It may take some
        before it gives the first.
    actor
        What an actor holds, for the message when its process dies again and again.
    num_gpus
        GPUs of one actor; that there are any is the caller's to ask (`resources.require`).
    """

    name: str
    factory: Callable[..., Callable[[Iterator[Arrays]], Iterator[Arrays]]]
    arguments: tuple[object, ...]
    gives: Columns
    actor: str = "an actor"
    num_gpus: float = 0.0


@dataclass(frozen=True)
class Sink(Generic[S, R]):
    """The last operator: its function takes an item and its arrays, and returns a report."""

    name: str
    function: Callable[[S, Arrays], R]


@dataclass
class _Row:
    """An item under way, as Ray Data has it.

    Attributes
    ----------
    item
        Pickled: its number and itself.
    error
        Pickled: what an operator raised, as data, which Ray Data would bury in advice; b"" if none
        did. The operators after it pass it on.
    seconds, bytes
        Of the operators so far, and `waited` of the actor.
    """

    item: bytes
    error: bytes
    seconds: list[float]
    bytes: list[int]
    waited: float
    arrays: Arrays

    @classmethod
    def all_of(cls, table: pa.Table) -> Iterator[_Row]:
        names = [name for name in table.column_names if name.startswith(_GIVEN)]
        for row in range(table.num_rows):
            fixed = {name: table[name][row].as_py() for name in _FIXED.names}
            given = {name.removeprefix(_GIVEN): table[name][row].values for name in names}
            yield cls(**fixed, arrays=given)

    def failed(self, raised: Exception) -> None:
        self.error, self.arrays = packed(as_data(raised)), {}

    def spent(self, seconds: float) -> None:
        self.seconds = [*self.seconds, seconds]
        self.bytes = [*self.bytes, sum(array.nbytes for array in self.arrays.values())]

    def as_table(self, gives: Columns) -> pa.Table:
        fixed = pa.Table.from_pylist([{name: getattr(self, name) for name in _FIXED.names}], _FIXED)
        for name, kind in gives.items():
            values = pa.array([], kind) if self.error else self.arrays[name].cast(kind)
            whole = pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)
            fixed = fixed.append_column(_GIVEN + name, whole)
        return fixed


_GIVEN = "given_"
_FIXED = pa.schema(
    [
        ("item", pa.binary()),
        ("error", pa.binary()),
        ("seconds", pa.list_(pa.float64())),
        ("bytes", pa.list_(pa.int64())),
        ("waited", pa.float64()),
    ]
)


def packed(value: object) -> bytes:
    """A value as a cell of Ray Data's table."""
    content: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return content


def folded(rows: pa.Table) -> pa.Table:
    """Rows as one row of lists."""
    bounds = pa.array([0, rows.num_rows], pa.int64())
    columns = {name: rows[name].combine_chunks() for name in rows.column_names}
    return pa.table({k: pa.LargeListArray.from_arrays(bounds, v) for k, v in columns.items()})


def unfolded(rows: pa.Table) -> Iterator[pa.Table]:
    """What :func:`folded` made rows of, each as it was."""
    for row in range(rows.num_rows):
        yield pa.table({name: rows[name][row].values for name in rows.column_names})


class Reading(Generic[S]):
    """A source at work, in a task: gives each group folded to a row, or a row an item."""

    def __init__(self, source: Source[S], *, together: bool) -> None:
        self.source = source
        self.together = together

    def __call__(self, groups: pa.Table) -> Iterator[pa.Table]:
        interrupts.hear()
        for group in groups["group"].to_pylist():
            rows = map(self._read, cloudpickle.loads(group))
            if self.together:
                yield folded(pa.concat_tables(rows))
            else:
                yield from rows

    def _read(self, numbered: tuple[int, S]) -> pa.Table:
        row = _Row(packed(numbered), b"", [], [], 0.0, {})
        started = time.perf_counter()
        try:
            row.arrays = self.source.function(numbered[1])
        except Exception as raised:
            row.failed(raised)
        row.spent(time.perf_counter() - started)
        return row.as_table(self.source.gives)


class Pooled:
    """A pool's actor."""

    def __init__(self, pool: Pool) -> None:
        self.gives = pool.gives
        self.rested: float | None = None
        """When it had no more to do; None before the first item."""
        try:
            self.work = pool.factory(*pool.arguments)
        except Exception as raised:
            # Raised here, Ray would start the actor anew, without end: its first item tells.
            self.work = partial(_raise, raised)

    def __call__(self, groups: pa.Table) -> Iterator[pa.Table]:
        interrupts.hear()
        for group in unfolded(groups):
            yield from self._worked(list(_Row.all_of(group)))

    def _worked(self, rows: list[_Row]) -> Iterator[pa.Table]:
        found = self.work(row.arrays for row in rows if not row.error)
        broken: Exception | None = None
        for row in rows:
            if not row.error:
                started = time.perf_counter()
                row.waited += started - (self.rested or started)
                try:
                    if broken is not None:
                        raise broken
                    row.arrays = next(found)
                except Exception as raised:
                    broken = raised
                    row.failed(raised)
                self.rested = time.perf_counter()
                row.spent(self.rested - started)
            yield row.as_table(self.gives)


def _raise(error: Exception, arrays: Iterator[Arrays]) -> Iterator[Arrays]:
    yield from ()
    raise error


class Writing(Generic[S, R]):
    """A sink at work, in a task."""

    def __init__(self, sink: Sink[S, R]) -> None:
        self.sink = sink

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        interrupts.hear()
        for row in _Row.all_of(table):
            number, item = cloudpickle.loads(row.item)
            if row.error:
                outcome = (number, *cloudpickle.loads(row.error))
            else:
                started = time.perf_counter()
                try:
                    outcome = (number, "", self.sink.function(item, row.arrays))
                except Exception as raised:
                    outcome = (number, *as_data(raised))
                row.arrays = {}
                row.spent(time.perf_counter() - started)
            yield row.as_table({}).append_column(
                "outcome", pa.array([packed(outcome)], pa.binary())
            )
