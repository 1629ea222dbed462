"""The results of finished stages as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from fusionrec.formats import files
from fusionrec.report.comparison import external_notes, published
from fusionrec.report.summary import Summary
from fusionrec.report.trials import Trial
from pipelines.cli.headlines import percent
from pipelines.cli.remarks import LeftOut
from pipelines.runtime.workspace import Workspace

if TYPE_CHECKING:
    from fusionrec.report.ladder import Step
    from pipelines.evaluate import Evaluation


def results_table(
    results: Evaluation, protocol: str, split: str, classes: Evaluation | None = None
) -> Table:
    """The result table that `run` and `evaluate` print.

    Parameters
    ----------
    classes
        Of lists by the network's classes, where `results` are of others; if there are any.
    """
    table = Table(
        title=f"fusionrec: protocol {protocol}, split by {split}",
        title_justify="left",
    )
    table.add_column("")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column(f"{100 * results.level:g} % interval", no_wrap=True)
    table.add_column("to compare", justify="right", no_wrap=True)
    top = results.top

    def row(name: str, value: str, interval: list[float] | None = None, beside: str = "") -> None:
        shown = f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
        table.add_row(name, value, shown, beside)

    majority = results.majority_share
    if results.classes is not None:
        row(
            f"test accuracy, {results.classes} classes, {results.test_songs:,} songs",
            percent(results.test_accuracy),
            None,
            "" if majority is None else f"majority {majority:.1%}",
        )
        row(f"train accuracy, {results.train_songs:,} songs", percent(results.train_accuracy))
    row(
        f"mAP@{top}",
        f"{results.map:.4f}",
        results.map_interval,
        f"random {results.random_map:.4f}",
    )
    if classes is not None:
        chance = f"random {classes.random_map:.4f}"
        row(f"mAP@{top} by classes alone", f"{classes.map:.4f}", classes.map_interval, chance)
    row("AUC", f"{results.auc:.4f}", results.auc_interval, "random 0.5000")
    if classes is not None:
        row("AUC by classes alone", f"{classes.auc:.4f}", classes.auc_interval, "random 0.5000")
    row(f"recall@{top}", f"{results.recall:.4f}")
    row(f"NDCG@{top}", f"{results.ndcg:.4f}")
    row("lift of mAP over random", f"{results.lift:.2f}")
    row("candidate songs a user", f"{results.candidates:,.1f}")
    row("relevant songs a user", f"{results.relevant:.2f}")
    row("users in these means", f"{results.users:,}")
    return table


def left_out_table(rows: list[LeftOut]) -> Table:
    """What a run did not use, and why."""
    table = Table(title="Left out", title_justify="left", box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for row in rows:
        table.add_row(row.what, f"{row.count:,}", f"of {row.of:,}", row.why)
    return table


def trials(workspace: Workspace) -> list[Trial]:
    """The trials of a finished search."""
    return [Trial.of(row) for row in workspace.read_json("tune", "trials.json")]


def table_1(workspace: Workspace) -> str:
    """Table 1 of a finished report, as Markdown."""
    return workspace.read_bytes("report", "table_1.md").decode()


def trials_table(trials: list[Trial], metric: str, top: int, protocol: str) -> Table:
    """The table of trials that `tune` prints, the best first."""
    measures = {
        "validation_map": f"mAP@{top}",
        "validation_accuracy": "accuracy",
        "epoch": "epochs",
    }
    table = Table(
        title=f"trials, the best {measures[metric]} first: measured on the validation songs, "
        f"protocol {protocol}",
        title_justify="left",
    )
    hidden = ("epochs", "error", "seconds", "train_accuracy")
    shown = [name for name in trials[0].row() if name not in hidden]
    for name in (*shown, "outcome"):
        table.add_column(measures.get(name, name.rpartition(".")[2]), justify="right")
    order = sorted(trials, key=lambda t: (t.error is not None, -(t.measures[metric] or 0.0)))
    for trial in order:
        outcome = trial.error or ("stopped" if trial.epoch < trial.epochs else "trained")
        row = trial.row()
        cells = (
            "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
            for value in (row[name] for name in shown)
        )
        table.add_row(*(Text(cell) for cell in (*cells, outcome)))
    return table


def comparison(workspace: Workspace) -> dict[str, Summary]:
    """A finished comparison by split, as :func:`pipelines.compare.summary.summarise` has it."""
    found: dict[str, Summary] = workspace.read_json("compare", "comparison.json")
    return found


def comparison_tables(workspace: Workspace) -> list[Table]:
    """The table of each split that `compare` prints; published figures in a column of their own."""
    tables = []
    for by, summary in comparison(workspace).items():
        table = Table(
            title=f"split by {by}, protocol oord; italic: references; published: of other songs",
            title_justify="left",
        )
        # On a narrow terminal the names wrap, so that the figures stay whole.
        table.add_column("method", overflow="fold")
        for name in ("mAP@500", "95 % interval", "lift", "AUC", "published"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in summary["rows"]:
            known = published(row)
            table.add_row(
                Text(row["name"], style="italic" if row["reference"] else ""),
                f"{row['average_precision']:.4f}",
                f"{row['low']:.4f}–{row['high']:.4f}",
                f"{row['lift']:.2f}",
                "" if row["auc"] is None else f"{row['auc']:.3f}",
                f"{known[0]:.5f}" if known else "",
            )
        for name, reason in summary["failed"].items():
            table.add_row(Text(name), "–", Text(reason), "", "", "")
        if summary["external"]:
            table.caption = Text("\n".join(external_notes(summary)), style="table.caption")
            table.caption_justify = "left"
        tables.append(table)
    return tables


def ladder(workspace: Workspace) -> dict[str, list[Step]]:
    """The steps of a finished ladder by split."""
    found: dict[str, list[Step]] = workspace.read_json("ladder", "ladder.json")["ladders"]
    return found


def ladder_tables(workspace: Workspace) -> list[Table]:
    """The table of each split that `ladder` prints."""
    tables = []
    for by, steps in ladder(workspace).items():
        table = Table(
            title=f"split by {by}, protocol oord; italic: beside the ladder; *: uses context",
            title_justify="left",
        )
        table.add_column("", justify="right", no_wrap=True)
        table.add_column("change", overflow="fold")
        for name in ("mAP@500", "95 % interval", "times", "NDCG@20", "difference"):
            table.add_column(name, justify="right", no_wrap=True)
        for step in steps:
            mean = step["difference"]
            table.add_row(
                f"{step['rung']}",
                Text(
                    step["change"] + ("" if step["context"] == "none" else " *"),
                    style="italic" if step["beside"] else "",
                ),
                f"{step['average_precision']:.4f}",
                f"{step['low']:.4f}–{step['high']:.4f}",
                "" if step["ratio"] is None else f"{step['ratio']:.2f}",
                f"{step['ndcg_20']:.3f}",
                "" if mean is None else f"{mean:+.4f}",
            )
        tables.append(table)
    return tables


_INGEST = ("ingest/{ingest}/", "songs, lyrics, plays, rejects (Parquet) and report.json")
_RANKED = (
    ("recommend/{recommend}/recommendations/", "every user's list (Parquet)"),
    ("evaluate/{evaluate}/metrics/", "one row a user; summary.json beside it"),
)

_ARTIFACTS = {
    "run": (
        _INGEST,
        ("train/{train}/", "model (safetensors), epochs.csv, tensorboard, song_vectors"),
        *_RANKED,
    ),
    "run on taste": (
        _INGEST,
        ("train/{train}/", "model, epochs.csv, tensorboard, song_vectors, user_vectors, history"),
        *_RANKED,
    ),
    "blend": (
        ("blend/weights.csv", "what each signal weighs, and its dimensions"),
        (
            "blend/{blend}/",
            "songs, users and history: the vectors, and what explains them (Parquet)",
        ),
    ),
    "lists": (
        ("lists/{lists}/lists/", "every user's list (Parquet)"),
        ("lists/{lists}/", "csv and jsonl: the same, a line a song, where lists.formats has them"),
    ),
    "update": (
        ("update/{update}/lists/", "every user's list (Parquet); csv and jsonl beside"),
        ("update/{update}/rejects/", "what is not used of the new files, and why (Parquet)"),
        ("update/report.json", "how far the new songs lie from the models"),
    ),
    "compare": (
        ("compare/comparison.md", "all tables; .csv and .tex too"),
        ("compare/differences.csv", "every pair of methods, with Holm's correction"),
        ("methods/", "each method's ranks on a fold with a seed (Parquet), by their key"),
    ),
    "ladder": (
        ("ladder/ladder.md", "every rung with its difference and its cost; .csv and .tex too"),
        ("ladder/ladder.png", "mAP by rung with its interval; .svg too"),
    ),
    "tune": (
        ("tune/trials.csv", "every trial's values and measures; trials.json too"),
        ("tune/search.png", "mAP and accuracy against each value; .svg and .csv too"),
        ("tune/best.yaml", "the whole config with the best trial's values"),
        ("tune/{tune}/ray/", "Ray Tune's own files, for TensorBoard"),
    ),
    "report": (
        ("report/report.md", "all of it on one page"),
        ("report/table_1.csv", "Table 1; .md too"),
        ("report/elbow.png", "figures 4 and 5; .svg and .csv too"),
        ("report/cluster_sizes.png", "figures 6 and 7"),
        ("report/accuracy.png", "figures 8 to 10"),
    ),
}
"""By command: places, with the key of a stage's result at its name, and what they hold.

What has no key in it is published: a copy, in the stage's folder, for people to open.
"""


def artifact_lines(uri: str, keys: Mapping[str, str], what: str, width: int) -> list[str]:
    """Where the artifacts of `run` or of a stage beside it lie, in lines of `width`.

    A path is never cut: where it and what it holds do not fit side by side, it has a line of its
    own, however long.

    Parameters
    ----------
    keys
        The key of each stage's result.
    """
    rows = [(files.join(uri, place.format_map(keys)), holds) for place, holds in _ARTIFACTS[what]]
    longest = max(len(path) for path, _ in rows)
    if longest + 2 + max(len(holds) for _, holds in rows) <= width:
        return ["Artifacts", *(f"{path:<{longest}}  {holds}" for path, holds in rows)]
    return ["Artifacts", *(line for path, holds in rows for line in (path, f"    {holds}"))]
