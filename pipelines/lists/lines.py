"""Lists as text, for whatever reads no Parquet: a line a song."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from pipelines.runtime.workspace import StageRun

_LINES_AT_ONCE = 100_000
"""Made at a time, in 50 MB, or those of one user."""


def write_lines(run: StageRun, table: pa.Table, kind: str, part: int) -> None:
    """Write a part of the lists, schema :data:`fusionrec.schemas.LISTS`, as text.

    Parameters
    ----------
    kind
        `csv` or `jsonl`: the artifact, and how its files end.
    """
    write = _WRITERS[kind]
    with run.workspace.replacing(run.stage, kind, f"part-{part:05d}.{kind}") as stream:
        for number, rows in enumerate(_rows_of(table)):
            write(rows, stream, number == 0)


def _rows_of(table: pa.Table) -> Iterator[pa.Table]:
    """A row a song: `user_id`, `rank` from 1, `song_id` and `score`."""
    longest = pc.max(pc.list_value_length(table["song_ids"])).as_py() or 1
    users = max(_LINES_AT_ONCE // longest, 1)
    for start in range(0, max(len(table), 1), users):
        some = table.slice(start, users).combine_chunks()
        songs = some["song_ids"].combine_chunks()
        user = pc.list_parent_indices(songs)
        first = songs.offsets.to_numpy()[:-1] - songs.offsets[0].as_py()
        places = pc.subtract(pa.array(np.arange(len(user))), pa.array(first).take(user))
        yield pa.table(
            {
                "user_id": some["user_id"].take(user),
                "rank": pc.add(places, 1),
                "song_id": pc.list_flatten(songs),
                "score": pc.list_flatten(some["scores"].combine_chunks()),
            }
        )


def _csv(rows: pa.Table, stream: IO[bytes], first: bool) -> None:
    csv.write_csv(rows, stream, csv.WriteOptions(include_header=first))


def _jsonl(rows: pa.Table, stream: IO[bytes], first: bool) -> None:
    # A number of 32 bits in as few digits as tell it from its neighbours, as CSV has it.
    scores = rows["score"].cast(pa.string()).to_pylist()
    ids = (rows[name].to_pylist() for name in ("user_id", "rank", "song_id"))
    stream.write(
        "".join(
            f'{{"user_id": {json.dumps(user)}, "rank": {rank}, "song_id": {json.dumps(song)}, '
            f'"score": {score}}}\n'
            for user, rank, song, score in zip(*ids, scores, strict=True)
        ).encode()
    )


_WRITERS: dict[str, Callable[[pa.Table, IO[bytes], bool], None]] = {"csv": _csv, "jsonl": _jsonl}
