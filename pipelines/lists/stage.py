"""Lists: songs for every user of the data, whom an evaluation can grade or not.

A task reads all plays of a range of users, makes their vectors of them
(:mod:`pipelines.lists.known`) and ranks the candidates, without the songs that the user played. Who
has no vector of their own, since the model knows none of what they played, gets what most people
would: under `blend`, where a signal of popularity has a weight, the songs that it takes to be the
most popular; else those with most listeners in the data. Songs that nobody has played are all alike
by that, and in the order of the catalogue.

What an update needs, to add songs to a user's list, stays beside the lists.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from fusionrec import probes, schemas
from fusionrec.ranking.limited import TopLists, rank_limited
from fusionrec.ranking.lists import RankedLists, listed_columns
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from pipelines import ingest, split
from pipelines.config import Config
from pipelines.ingest.by_user import USERS_A_PART, user_ids_of
from pipelines.lists.candidates import Offered, ids_of, of_file, read_file, read_offered, source
from pipelines.lists.known import Known, Played, known_by
from pipelines.lists.lines import write_lines
from pipelines.recommend import vectors
from pipelines.recommend.ranking import StoredSongs, held, submit_blocks
from pipelines.recommend.stage import GPUS, USERS_A_GROUP, write_vectors
from pipelines.runtime import metrics, tasks
from pipelines.runtime.rows import rows_name
from pipelines.runtime.shards import RowsShard, shards_of_rows
from pipelines.runtime.stage import Counts, Stage, processor_lines, resumable
from pipelines.runtime.workspace import StageRun, Workspace

log = logging.getLogger("fusionrec")

PREDICTED, COUNTED = "predicted popularity", "listeners"
"""What songs are ranked by for who has no vector of their own."""

NO_PLAY = "no play"
NO_OWN = "no play of a song of the catalogue"
NO_VECTOR = "no song played that the model knows"


VECTORS = "user_vectors"
"""What each user of a shard was ranked by, `rows`, float32 (users, d), in parts as the lists: also
who has no vector of their own, where that is predicted popularity; else zeros."""
LISTENERS = ("listeners", "arrays.safetensors")
"""Users who played each song of the catalogue, `listeners`, int32 (S,)."""


@dataclass(frozen=True)
class ListsReport:
    """Users of a shard: those with vectors of their own, the others by reason, short lists."""

    users: int
    own: int
    fallback: dict[str, int]
    short: int
    fallback_by: str
    processor: dict[str, int]


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Rank for all users, a range of user codes a task."""
    path = of_file(config)
    ids = None if path is None else ids_of(read_file(path))
    offered = tasks.submit(run, read_offered, config, workspace, ids)
    counts: dict[str, Any] = tasks.run_task(run, _told, [offered])
    if counts.get("unknown_ids"):
        named = ", ".join(counts["first_unknown_ids"])
        log.warning(
            "lists: %s ids of %s are in no catalogue, as %s", counts["unknown_ids"], path, named
        )
    songs = StoredSongs(offered, submit_blocks(config, workspace, run), run.gpus)
    known = known_by(config, workspace, run, songs)
    users = workspace.require("ingest")["counts"]["users"]
    reports = tasks.map_tasks(
        run,
        resumable(run, "lists", partial(_rank_shard, config, run, songs, known), ListsReport),
        shards_of_rows(users, config.lists.users_per_shard),
        description="lists for everyone",
        num_gpus=run.gpus,
    )
    if config.recommend.model == "genre":
        tasks.run_task(run, write_vectors, run, songs.blocks)
    fallback_by = reports[0].fallback_by if reports else COUNTED
    about = {"fallback_by": fallback_by, "users_a_part": USERS_A_PART}
    run.write_json(about, "about.json")
    tasks.run_task(run, _write_listeners, run, [offered])
    reasons = (NO_PLAY, NO_OWN, NO_VECTOR)
    return {
        "users": sum(report.users for report in reports),
        "own": sum(report.own for report in reports),
        "fallback": {r: sum(report.fallback[r] for report in reports) for r in reasons},
        "fallback_by": fallback_by,
        "short": sum(report.short for report in reports),
        **counts,
        "ranker": processor_lines(reports),
    }


def _told(references: list[Any]) -> dict[str, Any]:
    offered: Offered = tasks.gather(references)[0]
    return {"candidates": len(offered.candidates), **offered.counts}


def _write_listeners(run: StageRun, references: list[Any]) -> None:
    offered: Offered = tasks.gather(references)[0]
    run.write_arrays({"listeners": offered.listeners.astype(np.int32)}, *LISTENERS)


def _rank_shard(
    config: Config, run: StageRun, songs: StoredSongs, known: Known, shard: RowsShard
) -> ListsReport:
    offered: Offered = held(songs.offers)
    start, stop, asked = shard.start, shard.stop, config.lists
    played = Played.read(run.workspace, start, stop)
    made = known.vectors(run.workspace, played)
    V, own, predicted = made.V, made.own, made.nobody is not None
    exclude = played.own.to_columns(offered.candidates, len(offered.listeners))
    if asked.repeat:
        exclude = exclude.where(np.zeros(len(exclude.songs), bool))
    if made.nobody is not None:
        V[~own] = made.nobody
    # A score depends on its user and song alone, so that it is no matter who else is ranked.
    found = TopLists.empty(len(V), asked.top)
    rows = np.flatnonzero(own | predicted)
    found.put(rows, ranked(config, offered, V[rows], exclude.of(own | predicted), songs))
    if not predicted:
        found.put(np.flatnonzero(~own), ranked(config, offered, None, exclude.of(~own), songs))
    table = _table(found, ~own, start, user_ids_of(run.workspace, start, stop), offered)
    run.write_arrays({"rows": V}, VECTORS, rows_name(shard.part))
    run.write(table, "lists", shard.part, group=USERS_A_GROUP)
    for kind in texts(config):
        write_lines(run, table, kind, shard.part)
    metrics.count("fusionrec_users_ranked", len(V))
    return ListsReport(
        len(V),
        int(own.sum()),
        _reasons(played, own),
        int((found.counts < asked.top).sum()),
        PREDICTED if predicted else COUNTED,
        probes.lines("ranking"),
    )


def ranked(
    config: Config,
    offered: Offered,
    V: np.ndarray | None,
    exclude: SongLists,
    songs: StoredSongs,
) -> TopLists:
    """Lists by users' vectors; by the number of listeners, if there are none."""
    top, most = config.lists.top, config.lists.per_artist
    if V is None:
        listeners = offered.listeners[offered.candidates].astype(np.float32)[:, None]

    def rank(some: np.ndarray, depth: int) -> RankedLists:
        chosen = np.zeros(len(exclude.sizes), bool)
        chosen[some] = True
        out = exclude.of(chosen)
        if V is None:
            return rank_users(np.ones((len(some), 1), np.float32), listeners, depth, exclude=out)
        return songs.rank(V[some], depth, exclude=out)

    if most is None:
        return TopLists.of(rank(np.arange(len(exclude.sizes)), top))
    return rank_limited(rank, exclude, top, groups=offered.artists, most=most)


def _reasons(played: Played, own: np.ndarray) -> dict[str, int]:
    """Why users have no vector of their own, each for one reason."""
    any_own, any_other = played.own.sizes > 0, played.other.sizes > 0
    return {
        NO_PLAY: int((~own & ~any_own & ~any_other).sum()),
        NO_OWN: int((~own & ~any_own & any_other).sum()),
        NO_VECTOR: int((~own & any_own).sum()),
    }


def _table(
    found: TopLists,
    fallback: np.ndarray,
    start: int,
    user_ids: pa.ChunkedArray,
    offered: Offered,
) -> pa.Table:
    """Lists of users, whose codes count from `start`."""
    songs, scores = listed_columns(
        found.indices, found.scores, found.counts, offered.candidates, offered.catalogue.song_ids
    )
    codes = pa.array(np.arange(start, start + len(fallback)), pa.int32())
    columns = [user_ids.combine_chunks(), codes, songs, scores, pa.array(fallback)]
    return pa.Table.from_arrays(columns, schema=schemas.LISTS)


def texts(config: Config) -> list[str]:
    return sorted(set(config.lists.formats) - {"parquet"})


def _settings(config: Config) -> dict[str, Any]:
    """Which model, and what is asked of it; of a file of ids its content is what counts."""
    asked = config.lists.model_dump(mode="json", exclude={"run"})
    asked["formats"] = texts(config)  # Parquet is there in any case
    if config.lists.tags is not None:
        asked["tags"] = sorted({tag.lower() for tag in config.lists.tags})
    if of_file(config) is not None:
        asked["candidates"] = "a file"
    classes = config.recommend.model == "genre"
    weighting = {"weighting": config.recommend.weighting} if classes else {}
    return {"lists": asked, "model": config.recommend.model, **weighting}


STAGE = Stage(
    name="lists",
    needs=lambda config: (ingest.STAGE, split.STAGE, vectors.source(config).stage),
    settings=_settings,
    source=source,
    work=work,
    gpus=GPUS,
    version=2,
)
