"""A command for each stage, and `run` for all of them; each ends with its results as tables."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from fusionrec.formats import files
from pipelines.cli import results
from pipelines.cli.options import AsJson, ConfigPath, Overrides, Workspace, loaded, print_counts
from pipelines.config import Config

if TYPE_CHECKING:
    from pipelines.runtime.stage import Counts
    from pipelines.runtime.workspace import Manifest

SUMMARIES = {
    "run": "Run all stages in order, skip those up to date, and print the results.",
    "ingest": "Read the source files (HDF5 or SQLite, lyrics, plays) into Parquet, rejects listed.",
    "split": "Split the songs into train, validation and test, by song, artist or album.",
    "label": "Embed the tag lists and cluster them into k classes (K-Means).",
    "pretrain": "Pre-train a small RoBERTa on the corpus's own lyrics (masked-word modelling).",
    "embed": "Turn metadata, lyrics and audio into one vector each per song.",
    "fuse": "Scale and concatenate the modalities, and reduce them by PCA.",
    "train": "Train the fusion network under Ray Train and compute F(s) of all songs.",
    "tune": "Search k, eta, p and more with Ray Tune, judged on the validation songs.",
    "report": "Write the paper's Table 1 and figures 4 to 10, measured on this corpus.",
    "compare": "Run every baseline and the network on the same folds: Table 2 with intervals.",
    "evaluate": "Compute mAP@500, AUC and their intervals, and print the results.",
}


def add_stages(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for name, summary in SUMMARIES.items():
        _add(app, name, summary)


def _add(app: typer.Typer, name: str, summary: str) -> None:
    def command(
        config_path: ConfigPath = None,
        overrides: Overrides = None,
        workspace: Workspace = None,
        as_json: AsJson = False,
    ) -> None:
        run_stage(name, loaded(config_path, overrides, workspace), as_json)

    app.command(name, help=summary)(command)


_CHECKED = ("run", "train", "tune", "compare")


def _check(name: str, resolved: Config) -> None:
    """Find out what these long ones lack before they begin."""
    from pipelines import check, compare, embed, ingest, run, train, tune

    stages = {
        "run": run.stages(resolved),
        "train": (train.STAGE,),
        "tune": (tune.STAGE,),
        "compare": (ingest.STAGE, embed.STAGE, compare.STAGE),
    }
    check.require(resolved, stages[name])


def run_stage(name: str, resolved: Config, as_json: bool) -> None:
    # Imported by name, so that a stage without torch or transformers starts fast.
    module = importlib.import_module(f"pipelines.{name}")
    if name in _CHECKED:
        _check(name, resolved)
    if name == "run":
        _print_results(resolved, module.run(resolved)["evaluate"], as_json)
        return
    manifest = module.STAGE.run(resolved)
    if name == "evaluate":
        _print_results(resolved, manifest, as_json)
    elif as_json:
        print(json.dumps(_with_rows(name, resolved, manifest["counts"])))
    elif name == "tune":
        _print_search(resolved, manifest["counts"])
    elif name == "compare":
        for table in results.comparison_tables(resolved.workspace):
            Console().print(table)
        Console().print(results.artifacts_table(resolved.workspace, name))
    elif name == "report":
        print(results.table_1(resolved.workspace))
        Console().print(results.artifacts_table(resolved.workspace, name))
    else:
        print_counts(name, manifest["counts"])


def _with_rows(name: str, resolved: Config, counts: Counts) -> Mapping[str, object]:
    """A stage's counts; with the trials of a search, and the tables of a report or comparison."""
    if name == "tune":
        return {**counts, "rows": [trial.row() for trial in results.trials(resolved.workspace)]}
    if name == "report":
        return {**counts, "table_1": results.table_1(resolved.workspace)}
    if name == "compare":
        return {**counts, "splits": results.comparison(resolved.workspace)}
    return counts


def _print_search(resolved: Config, counts: Counts) -> None:
    console = Console()
    console.print(results.trials_table(results.trials(resolved.workspace), str(counts["metric"])))
    print_counts("tune", counts)
    console.print(results.artifacts_table(resolved.workspace, "tune"))
    best = files.join(resolved.workspace, "tune/best.yaml")
    console.print(f"Train the best with: fusionrec train --config {best}", soft_wrap=True)


def _print_results(resolved: Config, manifest: Manifest, as_json: bool) -> None:
    if as_json:
        found = {
            **manifest["counts"],
            "workspace": resolved.workspace,
            "protocol": resolved.recommend.protocol,
            "split": resolved.split.by,
        }
        print(json.dumps(found))
        return
    # Only here, where the stage has run: a command that answers at once does without Ray.
    from pipelines.evaluate import Evaluation

    evaluation = Evaluation(**manifest["counts"])
    Console().print(
        results.results_table(evaluation, resolved.recommend.protocol, resolved.split.by)
    )
    Console().print(results.artifacts_table(resolved.workspace))
