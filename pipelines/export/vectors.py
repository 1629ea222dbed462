"""Vectors of songs and users as Parquet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fusionrec.tables import vectors
from pipelines.export import plays
from pipelines.export.folder import refused
from pipelines.opened import updates
from pipelines.opened.ranked import Ranked
from pipelines.runtime.workspace import Workspace

Floats = NDArray[np.float32]
_Write = Callable[[pa.Table, Floats], None]

SONGS, USERS = "songs.parquet", "users.parquet"

_ROWS = 1 << 14
"""Songs a group of rows; of users, those of a part of the ingest's."""

_NAMES = ("song_id", "artist_name", "title")


@dataclass(frozen=True)
class Users:
    """What was written of the users.

    Attributes
    ----------
    rows, without
        Users with a vector of their own, and those without.
    sample
        Some of the vectors, evenly over all users, float32 (m, d).
    nobody
        The vector of all others, (d,), where the model has one: a blend, by popularity.
    """

    rows: int
    without: int
    sample: Floats
    nobody: Floats | None


def write_songs(ranked: Ranked, file: Path) -> tuple[Floats, int]:
    """Songs that have a vector, in the catalogue's order, those that an update has added behind.

    Returns
    -------
    tuple
        Their vectors, float32 (N, d), and how many songs have none.
    """
    known = ranked.songs.known
    F = ranked.songs.F[known]
    songs = row = 0
    with _writer(file, _NAMES, F.shape[1]) as write:
        for first, names in _named(ranked.workspace):
            some = names.filter(pa.array(known[first : first + names.num_rows]))
            songs += names.num_rows
            write(some, F[row : row + some.num_rows])
            row += some.num_rows
    assert row == len(F), f"{row} songs are named, {len(F)} have a vector"
    return F, songs - len(F)


def _named(workspace: Workspace) -> Iterator[tuple[int, pa.Table]]:
    """Names of songs, and the number of the first of them."""
    first = 0
    for part in workspace.parts("ingest", "songs"):
        names = workspace.read_part("ingest", "songs", part, _NAMES)
        yield first, names
        first += names.num_rows
    if updates.has(workspace):
        yield updates.first(workspace), updates.songs_added(workspace, _NAMES)


def write_users(ranked: Ranked, file: Path, sampled: int, advance: Callable[[int], None]) -> Users:
    """Users who have a vector of their own, as lists for everyone have it: by all plays.

    They are read, made and written part by part, so that no more is held than a part's.

    Parameters
    ----------
    sampled
        Users of the sample, at least, if there are as many.
    advance
        Is told of how many users the vectors were made.
    """
    total = plays.count(ranked.workspace)
    rows = without = 0
    sample: list[Floats] = []
    nobody: Floats | None = None
    with _writer(file, ("user_id",), ranked.songs.F.shape[1]) as write:
        for part in plays.parts(ranked):
            made = ranked.users(part.own, part.other, part.codes)
            V = made.V[made.own]
            write(part.ids.filter(pa.array(made.own)), V)
            rows += len(V)
            without += len(made.own) - len(V)
            each = max(1, -(-sampled * len(part.ids) // total))
            sample.append(V[:: max(1, len(V) // each)][:each])
            nobody = made.nobody
            advance(len(part.ids))
    none = np.zeros((0, ranked.songs.F.shape[1]), np.float32)
    return Users(rows, without, np.concatenate([none, *sample]), nobody)


@contextlib.contextmanager
def _writer(file: Path, names: tuple[str, ...], dimension: int) -> Iterator[_Write]:
    """Yield a function that writes rows: their names, and their vectors, float32 (rows, d)."""
    schema = pa.schema(
        [*((name, pa.string()) for name in names), ("vector", pa.list_(pa.float32(), dimension))]
    )
    # Of a vector no number comes again, and no id does.
    repeating = [name for name in names if name == "artist_name"]
    with refused(file):
        writer = pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=repeating)

    def write(table: pa.Table, rows: Floats) -> None:
        columns = [*(table[name].combine_chunks() for name in names), vectors(rows)]
        whole = pa.Table.from_arrays(columns, schema=schema)
        with refused(file):
            writer.write_table(whole, row_group_size=_ROWS)

    try:
        yield write
    finally:
        with refused(file):
            writer.close()
