"""A command for each stage, and `run` for all of them; each ends with its results as tables."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from fusionrec.formats import files
from pipelines.cli import results
from pipelines.cli.options import (
    AsJson,
    ConfigPath,
    Overrides,
    console,
    loaded,
    print_counts,
)
from pipelines.cli.options import Workspace as WorkspaceOption
from pipelines.cli.remarks import left_out, remarks
from pipelines.config import STAGES, Config
from pipelines.runtime.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.evaluate import Evaluation
    from pipelines.runtime.stage import Counts
    from pipelines.runtime.workspace import Manifest

RUN = "Run all stages in order, skip those up to date, and print the results."
_OF_THEIR_OWN = ("recommend", "update")
"""Stages whose command does more, in a module of its own."""


def add_stages(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for name, summary in {"run": RUN, **STAGES}.items():
        if name not in _OF_THEIR_OWN:
            _add(app, name, summary)


def _add(app: typer.Typer, name: str, summary: str) -> None:
    def command(
        config_path: ConfigPath = None,
        overrides: Overrides = None,
        workspace: WorkspaceOption = None,
        as_json: AsJson = False,
    ) -> None:
        run_stage(name, loaded(config_path, overrides, workspace), as_json)

    app.command(name, help=summary)(command)


_CHECKED = ("run", "train", "tune", "compare", "ladder")


def _check(name: str, resolved: Config) -> None:
    """Find out what these long ones lack before they begin."""
    from pipelines import check, compare, embed, ingest, ladder, run, train, tune
    from pipelines.compare.jobs import folds

    stages = {
        "run": run.stages(resolved),
        "train": (train.STAGE,),
        "tune": (tune.STAGE,),
        "compare": (ingest.STAGE, compare.STAGE),
        "ladder": (ingest.STAGE, ladder.STAGE),
    }
    check.require(resolved, stages[name])
    if name in ("compare", "ladder"):  # which embeds for each of its folds
        check.require(folds(resolved)[0].config(resolved), (ingest.STAGE, embed.STAGE))


def run_stage(name: str, resolved: Config, as_json: bool) -> None:
    # Imported by name, so that a stage without torch or transformers starts fast.
    module = importlib.import_module(f"pipelines.{name}")
    if name in _CHECKED:
        _check(name, resolved)
    if name == "run":
        _print_results(resolved, module.run(resolved), as_json)
        return
    manifest = module.STAGE.run(resolved)
    if name == "evaluate":
        _print_results(resolved, {name: manifest}, as_json)
    elif as_json:
        print(json.dumps(_with_rows(name, _reading(resolved, manifest), manifest["counts"])))
    elif name == "tune":
        _print_search(resolved, manifest)
    elif name == "compare":
        for table in results.comparison_tables(_reading(resolved, manifest)):
            console().print(table)
        _print_artifacts(resolved, name, manifest)
    elif name == "ladder":
        for table in results.ladder_tables(_reading(resolved, manifest)):
            console().print(table)
        _print_artifacts(resolved, name, manifest)
    elif name == "report":
        print("Table 1: accuracy over the k classes, measured here and the paper's\n")
        print(results.table_1(_reading(resolved, manifest)))
        _print_artifacts(resolved, name, manifest)
    else:
        counts = dict(manifest["counts"])
        counts.pop("streams", None)  # a dozen rows of how the reading went; the manifest has them
        print_counts(name, counts)
        if name in ("blend", "lists"):
            _print_artifacts(resolved, name, manifest)


def _keys(manifest: Manifest) -> dict[str, str]:
    """The result that was asked for, and each that it was made from."""
    return {**manifest["lineage"], manifest["stage"]: manifest["key"]}


def _reading(resolved: Config, manifest: Manifest) -> Workspace:
    """The workspace with these results: the current ones may be another run's by now."""
    return Workspace(resolved.workspace, _keys(manifest))


def _with_rows(name: str, reading: Workspace, counts: Counts) -> Mapping[str, object]:
    """A stage's counts; with the trials of a search, and the tables of what has tables."""
    if name == "tune":
        return {**counts, "rows": [trial.row() for trial in results.trials(reading)]}
    if name == "report":
        return {**counts, "table_1": results.table_1(reading)}
    if name == "compare":
        return {**counts, "splits": results.comparison(reading)}
    if name == "ladder":
        return {**counts, "ladders": results.ladder(reading)}
    return counts


def _print_search(resolved: Config, manifest: Manifest) -> None:
    ranked, counts = resolved.recommend, manifest["counts"]
    found = results.trials(_reading(resolved, manifest))
    table = results.trials_table(found, str(counts["metric"]), ranked.top, ranked.protocol)
    console().print(table)
    print_counts("tune", counts)
    _print_artifacts(resolved, "tune", manifest)
    best = files.join(resolved.workspace, "tune/best.yaml")
    print(f"Train the best with: fusionrec train --config {best}")


def _print_results(resolved: Config, manifests: Mapping[str, Manifest], as_json: bool) -> None:
    """The results, with what was left out of all stages that ran, and what to make of it."""
    # Only here, where the stage has run: a command that answers at once does without Ray.
    from pipelines.evaluate import Evaluation

    evaluation = Evaluation(**manifests["evaluate"]["counts"])
    missing = left_out({stage: manifest["counts"] for stage, manifest in manifests.items()})
    lists = manifests.get("lists")
    remarked = remarks(evaluation)
    protocol, split = resolved.recommend.protocol, resolved.split.by
    if as_json:
        found = {
            **asdict(evaluation),
            "workspace": resolved.workspace,
            "protocol": protocol,
            "split": split,
            "left_out": [asdict(each) for each in missing],
            "remarks": remarked,
            **({} if lists is None else {"lists": lists["counts"]}),
        }
        print(json.dumps(found))
        return
    out = console()
    out.print(results.results_table(evaluation, protocol, split, _by_classes(resolved)))
    if missing:
        out.print(results.left_out_table(missing))
    for remark in remarked:
        out.print(f"Remark: {remark}")
    what = "run" if resolved.train.objective == "genre" else "run on taste"
    _print_artifacts(resolved, what, manifests["evaluate"])
    if lists is not None:
        print_counts("lists", lists["counts"])
        _print_artifacts(resolved, "lists", lists)


def _by_classes(resolved: Config) -> Evaluation | None:
    """The results of the paper's method beside those of others, where a run has had them."""
    from pipelines import evaluate
    from pipelines.config import replaced

    if resolved.recommend.model == "genre":
        return None
    paper = replaced(resolved, {"train.objective": "genre", "recommend.model": "genre"})
    manifest = evaluate.STAGE.plan(paper, Workspace(resolved.workspace)).manifest
    return None if manifest is None else evaluate.Evaluation(**manifest["counts"])


def _print_artifacts(resolved: Config, what: str, manifest: Manifest) -> None:
    """Where the artifacts are of this result, and of those that it was made from."""
    keys, width = _keys(manifest), console().width
    for line in results.artifact_lines(resolved.workspace, keys, what, width):
        print(line)
