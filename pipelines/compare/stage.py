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
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from fusionrec.errors import ConfigError, DataError
from fusionrec.ranking.split import SplitBy
from fusionrec.report import comparison
from fusionrec.report.summary import Summary
from pipelines import blend, embed, fuse, ingest, label, pretrain, split, train
from pipelines.compare import audio_words, external, own
from pipelines.compare.context import Context, External, Listed
from pipelines.compare.folds import FACTORS, USERS, fold_workspace, prepare
from pipelines.compare.jobs import RANKING, Job, Outcome, folds, method_names
from pipelines.compare.jobs import jobs as fold_jobs
from pipelines.compare.methods import inputs, is_seeded, key, spec_of
from pipelines.compare.ranking import rank_lists, rank_scores
from pipelines.compare.summary import summarise
from pipelines.config import Config, replaced
from pipelines.config.compare import EXTERNAL, Method, is_own
from pipelines.ingest.tables import is_tables
from pipelines.runtime import tasks
from pipelines.runtime.run_id import run_id
from pipelines.runtime.stage import Counts, Stage
from pipelines.runtime.workspace import StageRun, Workspace, result_key

log = logging.getLogger("fusionrec")

_VERSION = 7
"""Of the methods' code and the tables': raised with every change of it that changes a result."""
_NEED_SEGMENTS: set[Method] = {"mlr", "linear", "mlp", "cnn-mse", "cnn-wpe"}
_ON_TASTE: set[Method] = {"fusion-factors", "fusion-ranking", "dlrm"}


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Prepare the folds, run the methods, and write the tables."""
    owns = {name: own.find(name) for name in _owns(config)}
    externals = _externals(config, workspace, run)
    jobs: list[Job] = []
    for fold in folds(config):
        log.info(
            "compare: fold %d of the split by %s, seed %d",
            fold.number,
            fold.by,
            config.seed + fold.again,
        )
        impossible = prepare(config, fold, run)
        jobs += fold_jobs(config, fold, impossible, owns)
    todo = [job for job in jobs if not job.impossible]
    # The longest first, so that no CPU waits for them at the end.
    todo.sort(key=lambda job: not is_seeded(job.method, owns))
    outcomes = tasks.map_tasks(
        run, partial(_run_job, config, run, externals), todo, description="methods"
    )
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
        "methods": len(
            {
                row["name"] if row["method"] == EXTERNAL else row["method"]
                for table in tables.values()
                for row in table["rows"]
            }
        ),
    }


def _owns(config: Config) -> list[str]:
    return [method for method in config.compare.methods if is_own(method)]


def _externals(config: Config, workspace: Workspace, run: StageRun) -> dict[str, External]:
    """Read the lists made elsewhere, first of all, as what is wrong with them ends it."""
    paths = external.located(config.compare.external)
    hashes = {name: run.content["source"][_file(name)] for name in paths}
    lists = {
        name: tasks.submit(run, external.read, workspace, name, path, hashes[name])
        for name, path in paths.items()
    }
    tasks.wait(run, list(lists.values()))
    return {name: External(hashes[name], lists[name]) for name in paths}


def _file(name: str) -> str:
    return f"compare.external.{name}"


def _source(config: Config) -> dict[str, str]:
    """What is outside of the workspace: what vectors are made with, methods' code, lists."""
    assert embed.STAGE.source is not None
    lists = external.located(config.compare.external)
    return {
        **embed.STAGE.source(config),
        **{f"compare.methods {name}": own.fingerprint(name) for name in _owns(config)},
        **{_file(name): external.fingerprint(name, path) for name, path in lists.items()},
    }


def _of_split(outcomes: list[Outcome], by: SplitBy) -> list[Outcome]:
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
    if segments and is_tables(config):
        raise ConfigError(
            f"compare.methods names {', '.join(segments)}, which learn from segments, and "
            f"source.format: {config.source.format} has none: leave them out"
        )
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
            blend.check_run(run, "compare.blends", config.embed.modalities)
    split.check_times(config, "compare.splits", compare.splits)
    for fold in compare.test_folds or ():
        if not 0 <= fold < config.split.folds:
            raise ConfigError(
                f"compare.test_folds has {fold}: they are 0 to {config.split.folds - 1} "
                f"(split.folds {config.split.folds})"
            )
    for method in _owns(config):
        own.find(method)
    for name, path in external.located(compare.external).items():
        external.check(name, path)
    for name, times in Counter(method_names(config)).items():
        if times > 1:
            raise ConfigError(f"compare.external has {name!r}, the name of a method: name it anew")
    if compare.against is not None and compare.against not in method_names(config):
        raise ConfigError(
            f"compare.against is {compare.against!r}: set it to one of "
            f"{', '.join(method_names(config))}"
        )


def _run_job(
    config: Config, compare: StageRun, externals: Mapping[str, External], job: Job
) -> Outcome:
    chosen = job.fold.config(config)
    # Of the comparison itself it depends on nothing but its songs, so that another one can use it.
    fold = fold_workspace(chosen, Workspace(compare.workspace.uri, compare.lineage))
    context = Context(
        chosen, fold, job.seed, job.fusion, job.blend, job.own, externals.get(job.name)
    )
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
        found = spec_of(job.method).scores(context)
    except DataError as error:
        # One method that has nothing to learn from does not end the others.
        return Outcome(job, failed=" ".join(str(error).split()))
    learned = time.perf_counter() - started
    if isinstance(found, Listed):
        ranked, ranking, learned = rank_lists(context, found, run), 0.0, 0.0
    else:
        ranked, ranking = rank_scores(context, found, run)
    counts = {
        **ranked,
        "without_input": found.without_input,
        "seconds": {
            "learning": round(learned, 2),
            "ranking": round(ranking, 4),
            "all": round(time.perf_counter() - started, 2),
        },
    }
    manifest = run.commit(counts, seed=job.seed, run=run_id())
    compare.use(manifest)
    return Outcome.of(job, manifest)


def _settings(config: Config) -> dict[str, Any]:
    shared = (pretrain.STAGE, embed.STAGE, fuse.STAGE)
    return {
        **{stage.name: stage.settings(config) for stage in shared},
        "label": config.label.model_dump(exclude={"k"}),
        "training": train.key_settings(train.of_classes(config)),
        "blend": blend.key_settings(config),
        "compare": config.compare.model_dump(mode="json"),
        "split": split.key_settings(config.split, config.compare.splits),
        "recommend": config.recommend.model_dump(include={"top", "weighting"}),
        "level": config.evaluate.level,
        "seed": config.seed,
    }


STAGE = Stage(
    name="compare",
    needs=lambda config: (ingest.STAGE,),
    settings=_settings,
    work=work,
    source=_source,
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
