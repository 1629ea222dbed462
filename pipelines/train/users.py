"""Users' vectors of a training on taste, made of the plays that may be seen, by ranges of users.

Under `factors` a user's are the least squares of what they played by the songs' factors (Hu et al.
2008); under `ranking` the mean of the songs' vectors by the network's attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array, csr_matrix

from fusionrec import schemas
from fusionrec.baselines.factorisation import confidence, half_step
from fusionrec.signals.histories import Histories
from fusionrec.tables import vectors
from pipelines.blend.vectors import USERS_A_GROUP, USERS_A_PART
from pipelines.config import Config
from pipelines.opened.models import load_ranking_model
from pipelines.runtime import tasks
from pipelines.runtime.shards import RowsShard, shards_of_rows
from pipelines.runtime.stage import Counts, resumable
from pipelines.runtime.workspace import StageRun
from pipelines.train.plays import HISTORY, read_plays, read_vectors

_PARTS_A_TASK = 10


@dataclass(frozen=True)
class UsersReport:
    """Users of a shard, and those with a history."""

    users: int
    with_history: int


def write_users(config: Config, run: StageRun) -> Counts:
    """Write the vectors of all users, with the histories that they are made of."""
    users = run.workspace.require("ingest")["counts"]["users"]
    history = tasks.submit(run, read_vectors, run.workspace, HISTORY)
    reports = tasks.map_tasks(
        run,
        resumable(run, "user_vectors", partial(_write_range, config, run, history), UsersReport),
        shards_of_rows(users, USERS_A_PART * _PARTS_A_TASK),
        description="user vectors",
    )
    known = sum(report.with_history for report in reports)
    return {"users": users, "users_with_history": known}


@lru_cache(maxsize=1)
def _history(reference: Any) -> np.ndarray:
    """What a worker process gets once, for all ranges."""
    rows: np.ndarray = tasks.gather([reference])[0]
    return rows


def _write_range(config: Config, run: StageRun, reference: Any, shard: RowsShard) -> UsersReport:
    rows = _history(reference)
    plays = read_plays(run.workspace, shard.start, shard.stop)
    kept = np.asarray(rows.any(axis=1))[plays.songs]
    counts = Histories.of(
        plays.users[kept] - shard.start,
        plays.songs[kept],
        plays.counts[kept],
        (shard.stop - shard.start, len(rows)),
    ).counts
    if config.train.objective == "factors":
        V = _by_factors(config, counts, rows)
    else:
        V = load_ranking_model(run.workspace).users(rows, counts, np.arange(counts.shape[0]))
    known = np.diff(counts.indptr) > 0
    V[~known] = 0
    for number, start in enumerate(range(0, len(V), USERS_A_PART)):
        stop = min(start + USERS_A_PART, len(V))
        table = _table(shard.start + start, V[start:stop], counts[start:stop])
        part = shard.part * _PARTS_A_TASK + number
        run.write(table, "user_vectors", part, group=USERS_A_GROUP)
    return UsersReport(len(V), int(known.sum()))


def _by_factors(config: Config, counts: csr_array, Y: np.ndarray) -> np.ndarray:
    wmf = config.train.wmf
    c = csr_matrix(counts)
    c.data = confidence(c.data, wmf.alpha, wmf.epsilon)
    return np.array(half_step(c, Y, wmf.regularisation), np.float32)


def _table(first: int, V: np.ndarray, counts: csr_array) -> pa.Table:
    offsets = pa.array(counts.indptr.astype(np.int32))
    columns = [
        pa.array(np.arange(first, first + len(V)), pa.int32()),
        vectors(V),
        pa.ListArray.from_arrays(offsets, pa.array(counts.indices.astype(np.int32))),
        pa.ListArray.from_arrays(offsets, pa.array(counts.data.astype(np.float32))),
    ]
    return pa.Table.from_arrays(columns, schema=schemas.taste_users(V.shape[1]))
