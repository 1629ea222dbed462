"""Compare: all methods on the same folds, users and candidates (paper 5.4, Table 2).

By van den Oord's protocol `oord`: plays of test songs are hidden from every model. The folds
are made ready one after the other (:mod:`pipelines.compare.folds`); then each method, fold and
seed is a task of one CPU, which holds what its method learns from and the song vectors of the
fold. Each is a result of its own in the workspace: what is finished is not done again, after a kill
or with another method added. The driver holds reports of a few kB.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from fusionrec import schemas
from fusionrec.errors import ConfigError, DataError
from fusionrec.evaluation.beyond import Catalogue, ListStatistics
from fusionrec.evaluation.metrics import mean_over_users, per_user_metrics
from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.split import By
from fusionrec.ranking.topk import rank_users
from fusionrec.report import comparison
from fusionrec.report.summary import Summary
from pipelines import blend, embed, fuse, ingest, label, pretrain, split, train
from pipelines.compare import audio_words
from pipelines.compare.context import Context, Scores
from pipelines.compare.folds import FACTORS, USERS, fold_workspace, prepare
from pipelines.compare.jobs import RANKING, Job, Outcome, folds, method_names
from pipelines.compare.jobs import jobs as fold_jobs
from pipelines.compare.methods import SPECS, diversity_vectors, inputs, key
from pipelines.compare.summary import summarise
from pipelines.config import Config, replaced
from pipelines.config.compare import Method
from pipelines.runtime import tasks
from pipelines.runtime.run_id import run_id
from pipelines.runtime.stage import Counts, Stage
from pipelines.runtime.workspace import StageRun, Workspace, result_key

log = logging.getLogger("fusionrec")

_USERS_AT_ONCE = 1_000
_VERSION = 6
"""Of the methods' code and the tables': raised with every change of it that changes a result."""
_NEED_SEGMENTS: set[Method] = {"mlr", "linear", "mlp", "cnn-mse", "cnn-wpe"}
_ON_TASTE: set[Method] = {"fusion-factors", "fusion-ranking", "dlrm"}


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Prepare the folds, run the methods, and write the tables."""
    jobs: list[Job] = []
    for fold in folds(config):
        log.info(
            "compare: fold %d of the split by %s, seed %d",
            fold.number,
            fold.by,
            config.seed + fold.again,
        )
        impossible = prepare(config, fold, run)
        jobs += fold_jobs(config, fold, impossible)
    todo = [job for job in jobs if not job.impossible]
    # The longest first, so that no CPU waits for them at the end.
    todo.sort(key=lambda job: not SPECS[job.method].seeded)
    outcomes = tasks.map_tasks(run, partial(_run_job, config, run), todo, description="methods")
    run.used.update((RANKING, outcome.key) for outcome in outcomes if outcome.key)
    outcomes += [Outcome(job, failed=job.impossible) for job in jobs if job.impossible]
    summaries: list[Summary] = tasks.gather(
        [
            tasks.submit(
                run,
                summarise,
                config,
                workspace,
                by,
                _of_split(outcomes, by),
            )
            for by in config.compare.splits
        ]
    )
    tables: dict[str, Summary] = dict(zip(config.compare.splits, summaries, strict=True))
    for name, content in comparison.files(tables).items():
        run.write_bytes(content, name)
    run.write_json(tables, "comparison.json")
    return {
        "folds": len(folds(config)),
        "rankings": sum(not outcome.failed for outcome in outcomes),
        "failed": sum(bool(outcome.failed) for outcome in outcomes),
        "methods": len({row["method"] for table in tables.values() for row in table["rows"]}),
    }


def _of_split(outcomes: list[Outcome], by: By) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.job.fold.by == by]


def _check_dropout(config: Config) -> None:
    """Raise a ConfigError where a network would be to leave out what its inputs mix."""
    compare = config.compare
    operators = {run.operator for run in compare.fusion} if "fusion" in compare.methods else set()
    if _ON_TASTE & set(compare.methods):
        operators.add("concatenate")
    for operator in sorted(operators):
        train.check(replaced(config, {"fuse.operator": operator}))


def check(config: Config) -> None:
    compare = config.compare
    segments = sorted(_NEED_SEGMENTS & set(compare.methods))
    if segments and config.ingest.segments != "full":
        raise ConfigError(
            f"compare.methods names {', '.join(segments)}, which learn from segments, but "
            f"ingest.segments is {config.ingest.segments!r}: set ingest.segments: full, or leave "
            "them out"
        )
    if "fusion" in compare.methods:
        for fusion in compare.fusion:
            for modality in sorted(set(fusion.modalities) - set(config.embed.modalities)):
                raise ConfigError(
                    f"compare.fusion has {fusion.name!r}, but embed.modalities has no {modality}: "
                    "add it there, or leave the run out"
                )
    if config.train.modality_dropout:
        _check_dropout(config)
    if "blend" in compare.methods:
        for run in compare.blends:
            blend.check_run(run, "compare.blends")
    for fold in compare.test_folds or ():
        if not 0 <= fold < config.split.folds:
            raise ConfigError(
                f"compare.test_folds has {fold}: they are 0 to {config.split.folds - 1} "
                f"(split.folds {config.split.folds})"
            )
    if compare.against is not None and compare.against not in method_names(config):
        raise ConfigError(
            f"compare.against is {compare.against!r}: set it to one of "
            f"{', '.join(method_names(config))}"
        )


def _run_job(config: Config, compare: StageRun, job: Job) -> Outcome:
    chosen = job.fold.config(config)
    # Of the comparison itself it depends on nothing but its songs, so that another one can use it.
    fold = fold_workspace(chosen, Workspace(compare.workspace.uri, compare.lineage))
    context = Context(chosen, fold, job.seed, job.fusion, job.blend)
    content = {"version": _VERSION, **key(job.method, context)}
    # No lease: whoever else computes it writes the same.
    run = fold.begin(RANKING, content)
    if run is None:
        manifest = fold.at({RANKING: result_key(RANKING, content)}).require(RANKING)
        compare.use(manifest)
        return Outcome.of(job, manifest)
    for where, stage in inputs(job.method, context):
        run.used.add((stage, where.require(stage)["key"]))
    started = time.perf_counter()
    try:
        scores = SPECS[job.method].scores(context)
    except DataError as error:
        # One method that has nothing to learn from does not end the others.
        return Outcome(job, failed=str(error))
    learned = time.perf_counter() - started
    ranked, ranking = _rank(context, scores, run)
    counts = {
        **ranked,
        "dimensions": scores.F.shape[1],
        "without_input": scores.without_input,
        "measures": scores.measures,
        "seconds": {
            "learning": round(learned, 2),
            "ranking": round(ranking, 4),
            "all": round(time.perf_counter() - started, 2),
        },
    }
    manifest = run.commit(counts, seed=job.seed, run=run_id())
    compare.use(manifest)
    return Outcome.of(job, manifest)


def _rank(context: Context, scores: Scores, run: StageRun) -> tuple[Counts, float]:
    """Rank all candidates for all users; write the ranks of their relevant songs.

    Returns also the seconds that ranking took alone.
    """
    evaluation, top = context.evaluation, context.config.recommend.top
    candidates = evaluation.candidates
    # Equal scores are ranked by column, so the columns are in an order that means nothing.
    order = np.random.default_rng(context.config.seed).permutation(len(candidates))
    relevant = _permuted(evaluation.relevant, order)
    started = time.perf_counter()
    packed = PackedSongs.of(scores.F[order])
    seconds = time.perf_counter() - started
    plays = context.plays_by_song(("train", "validation", "test"))[candidates[order]]
    catalogue = Catalogue.of(plays, diversity_vectors(context)[candidates[order]])
    statistics = ListStatistics.empty(len(candidates))
    ranks, songs = [], []
    for start in range(0, len(scores.V), _USERS_AT_ONCE):
        stop = min(start + _USERS_AT_ONCE, len(scores.V))
        block = _rows(relevant, start, stop)
        started = time.perf_counter()
        ranked = rank_users(scores.V[start:stop], packed, top, relevant=block)
        seconds += time.perf_counter() - started
        statistics.update(ranked.indices[:, : context.config.compare.lists], catalogue)
        ranks.append(ranked.ranks)
        songs.append(candidates[order[ranked.rank_songs]])
    offsets = pa.array(relevant.indptr, pa.int32())
    count = np.full(len(scores.V), len(candidates), np.int32)
    columns = [
        pa.array(evaluation.users),
        pa.array(count),
        *(
            pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(parts).astype(np.int32)))
            for parts in (ranks, songs)
        ),
    ]
    run.write(pa.Table.from_arrays(columns, schema=schemas.RANKS), "ranks")
    metrics = per_user_metrics(relevant.indptr, np.concatenate(ranks), count, top)
    counts: Counts = {
        "users": len(scores.V),
        "candidates": len(candidates),
        "means": mean_over_users(metrics),
        "lists": asdict(statistics.finish(catalogue)),
    }
    return counts, seconds


def _permuted(lists: SongLists, order: np.ndarray) -> SongLists:
    """The same songs as positions in `order`, ascending within a user."""
    position = np.empty(len(order), np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    user = np.repeat(np.arange(len(lists.indptr) - 1), np.diff(lists.indptr))
    columns = position[lists.songs]
    ascending = np.lexsort((columns, user))
    return SongLists(lists.indptr, columns[ascending], lists.plays[ascending])


def _rows(lists: SongLists, start: int, stop: int) -> SongLists:
    first, last = lists.indptr[start], lists.indptr[stop]
    indptr = lists.indptr[start : stop + 1] - first
    return SongLists(indptr, lists.songs[first:last], lists.plays[first:last])


def _settings(config: Config) -> dict[str, Any]:
    shared = (pretrain.STAGE, embed.STAGE, fuse.STAGE)
    return {
        **{stage.name: stage.settings(config) for stage in shared},
        "label": config.label.model_dump(exclude={"k"}),
        "training": train.key_settings(train.of_classes(config)),
        "blend": blend.key_settings(config),
        "compare": config.compare.model_dump(mode="json"),
        "split": config.split.model_dump(exclude={"by", "test_fold"}),
        "recommend": config.recommend.model_dump(include={"top", "weighting"}),
        "level": config.evaluate.level,
        "seed": config.seed,
    }


STAGE = Stage(
    name="compare",
    needs=lambda config: (ingest.STAGE,),
    settings=_settings,
    work=work,
    # What the folds' features are made with outside of the workspace.
    source=embed.STAGE.source,
    version=_VERSION,
    does=(
        split.STAGE,
        label.STAGE,
        pretrain.STAGE,
        embed.STAGE,
        fuse.STAGE,
        train.STAGE,
        blend.STAGE,
        audio_words.STAGE,
        USERS,
        FACTORS,
    ),
    check=check,
    refresh_first=(ingest.STAGE,),
    published=("comparison.*", "differences.*"),
)
