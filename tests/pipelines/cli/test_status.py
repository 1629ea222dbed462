"""The status of a workspace as a person sees it: a line a stage, and all of one."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fusionrec.errors import ConfigError
from pipelines.cli.headlines import HEADLINES, headline
from pipelines.cli.main import app
from pipelines.cli.status import StageStatus, Status, stage_table, stages_table
from pipelines.config import STAGES
from pipelines.runtime.workspace import Workspace

# As large as on the full data set.
COUNTS = {
    "ingest": {"tracks": 1_000_000, "songs": 998_963, "plays": 45_795_100, "users": 1_019_318},
    "split": {"train": 719_253, "validation": 79_917, "test": 199_793},
    "label": {"classes": 6, "tagged_songs": 116_479},
    "pretrain": {"bags": 200_000, "heldout_perplexity": 1020.4},
    "embed": {"metadata": {"dimension": 306}, "lyrics": {"dimension": 768}},
    "fuse": {"songs_with_features": 998_963, "components": 512},
    "train": {"test_accuracy": 0.567, "train_accuracy": 0.654},
    "blend": {"signals": 31, "signals_with_weight": 22, "dimensions": 1_408},
    "recommend": {"ranked": 1_018_001, "users": 1_019_318},
    "evaluate": {"top": 500, "map": 0.0123, "random_map": 0.0004},
    "lists": {"users": 1_019_318, "fallback": {"no play": 1_000, "another": 317}},
    "update": {"new_songs": 9_990, "new_plays": 457_951, "refit_due": True},
    "tune": {"trials": 120, "metric": "validation_map", "best": 0.0312},
    "report": {"runs": 4},
    "compare": {"methods": 13, "folds": 5, "failed": 0, "rankings": 260},
    "ladder": {"rungs": 8, "left_out": 0},
}


def row(stage: str, **more: object) -> StageStatus:
    found = StageStatus(
        stage,
        state="finished",
        stale="",
        finished="2026-11-27T22:57:00Z",
        wall_seconds=45_296.0,
        counts=COUNTS[stage],
        progress=None,
    )
    return replace(found, **more)  # type: ignore[arg-type]


def printed(table: object, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_there_is_a_whole_line_a_stage_at_80_columns() -> None:
    found = Status("/data/workspace", [row(stage) for stage in STAGES])
    title, header, _, *lines = printed(stages_table(found))
    assert title == "/data/workspace"
    assert header.split() == ["stage", "state", "when", "(UTC)", "took"]
    assert [line.split()[0] for line in lines] == list(STAGES)
    for stage, line in zip(STAGES, lines, strict=True):
        assert "11-27 22:57" in line
        assert "12:34:56" in line
        assert line.endswith(headline(stage, COUNTS[stage])), line


def test_a_narrow_terminal_still_has_a_line_a_stage() -> None:
    found = Status("w", [row(stage) for stage in STAGES])
    assert len(printed(stages_table(found), width=60)) == 3 + len(STAGES)


def test_what_is_stale_says_why_and_what_is_at_work_how_far() -> None:
    progress = {"what": "encoding lyrics", "step": 3, "total": 8, "time": 0.0}
    stages = [
        row("embed", state="at work", progress=progress, counts={}, finished=None),
        row("train", state="stale", stale="of another fuse"),
    ]
    stages += [
        # At work on another result, and with one that a killed run left beside the current one.
        row("recommend", state="at work", stale="of another train", progress=progress),
        row("evaluate", progress=progress),
    ]
    *_, embed, train, recommend, evaluate = printed(stages_table(Status("w", stages)))
    assert embed.endswith("encoding lyrics: 3 of 8")
    assert train.endswith("of another fuse")
    assert recommend.endswith("encoding lyrics: 3 of 8")
    assert evaluate.endswith(headline("evaluate", COUNTS["evaluate"]))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # Of a release that counted otherwise, and of a stage without a line of its own.
        ({"songs_without_plays": 3, "names": {"a": 1}}, "songs without plays 3"),
        ({"a": 1, "b": 0.5, "c": True, "d": "x", "e": 5}, "a 1, b 0.5, d x"),
        ({}, ""),
    ],
)
def test_counts_without_a_headline_are_named(counts, expected) -> None:
    for stage in ("ingest", "a stage of tomorrow"):
        assert headline(stage, counts) == expected


def test_every_headline_is_of_a_stage() -> None:
    assert set(HEADLINES) <= set(STAGES)


def test_one_stage_has_all_that_it_counted() -> None:
    counts = {"songs": 1234, "rejects": {"dropped": 2}, "lines": ["a", "b"], "best": None}
    lines = printed(stage_table(row("ingest", counts={**counts, "streamed": False})))
    text = " ".join(" ".join(line.replace("│", " ").split()) for line in lines)
    for part in ("took 12:34:56", "songs 1,234", "rejects: dropped 2", "lines a b", "best –"):
        assert part in text
    assert "streamed no" in text


def test_the_command_shows_one_stage_or_all(tmp_path) -> None:
    workspace = Workspace(str(tmp_path))
    run = workspace.begin("split", {})
    assert run is not None
    run.commit({"train": 8, "validation": 1, "test": 1, "artists": 5})
    workspace.point({"split": run.key})

    def told(*words: str) -> str:
        done = CliRunner().invoke(app, ["status", *words, "-w", str(tmp_path)])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "8 / 1 / 1 songs" in told()
    assert "artists" in told("split")
    assert json.loads(told("split", "--json"))["counts"]["artists"] == 5
    assert len(json.loads(told("--json"))["stages"]) == len(STAGES)


def test_an_unknown_stage_is_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match="STAGE splitt: must be one of ingest, split, "):
        app(["status", "splitt", "-w", str(tmp_path)], standalone_mode=False)
