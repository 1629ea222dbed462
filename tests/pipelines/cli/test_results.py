"""The tables of results: each names its measure, and no path is cut."""

import io
import json
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytest
from rich.console import Console

from fusionrec.report.trials import Trial
from pipelines import blend, compare, ladder, report, tune
from pipelines.cli import options, results, stages
from pipelines.cli.recommend import ListedSong, SongList, list_table
from pipelines.cli.remarks import OTHER_SONGS, LeftOut
from pipelines.config import STAGES
from pipelines.runtime.workspace import Workspace
from tests.pipelines.cli.test_remarks import GOOD
from tests.pipelines.inline import load

RESULTS = replace(
    GOOD,
    test_accuracy=None,
    train_accuracy=0.75,
    majority_share=None,
    test_songs=0,
    map=0.0785,
    recall=1.0,
    candidates=392.9,
    candidate_songs=398,
    level=0.9,
    top=100,
)


def printed(table: object, width: int = 80) -> str:
    out = Console(file=io.StringIO(), width=width, markup=False, emoji=False)
    out.print(table)
    return out.file.getvalue()


def test_the_results_name_protocol_split_measures_and_how_many() -> None:
    text = printed(results.results_table(RESULTS, "heldout", "artist"), 100)
    for part in ("protocol heldout, split by artist", "mAP@100", "recall@100", "90 % interval"):
        assert part in text
    assert "test accuracy, 8 classes, 0 songs" in text
    assert "train accuracy, 1,200 songs" in text
    assert "75.0%" in text


def test_where_there_are_no_classes_there_is_no_accuracy() -> None:
    taste = replace(RESULTS, classes=None, train_accuracy=None)
    text = printed(results.results_table(taste, "heldout", "song", RESULTS), 100)
    assert "accuracy" not in text
    assert "mAP@100 by classes alone" in text


def test_the_results_of_a_blend_have_those_of_the_classes_beside_them() -> None:
    classes = replace(RESULTS, map=0.0312, map_interval=[0.03, 0.0334], auc=0.6001)
    text = printed(results.results_table(RESULTS, "heldout", "song", classes), 100)
    lines = {line.split("│")[1].strip(): line for line in text.splitlines() if "│" in line}
    assert "0.0785" in lines["mAP@100"]
    assert "0.0312" in lines["mAP@100 by classes alone"]
    assert "0.0300 to 0.0334" in lines["mAP@100 by classes alone"]
    assert "0.6001" in lines["AUC by classes alone"]
    assert "by classes" not in printed(results.results_table(RESULTS, "heldout", "song"))


def test_the_trials_name_their_measure() -> None:
    row = {"trial": 0, "label.k": 3, "validation_map": 0.1, "validation_accuracy": 0.5}
    row |= {"epoch": 5, "epochs": 5, "seconds": 1.0, "error": None, "train_accuracy": 0.6}
    failed = {**row, "trial": 1, "validation_map": None, "error": "out of [memory]"}
    table = results.trials_table([Trial.of(failed), Trial.of(row)], "validation_map", 500, "oord")
    text = printed(table, 120)
    assert "best mAP@500 first" in text
    assert "protocol oord" in text
    assert text.index("trained") < text.index("out of [memory]")


def test_what_was_left_out_is_a_line_each() -> None:
    rows = [LeftOut("plays", 15_384, 23_128, "song not in the corpus")]
    assert "plays  15,384  of 23,128  song not in the corpus" in printed(
        results.left_out_table(rows)
    )


KEYS = {name: f"key-of-{name}" for name in STAGES}


@pytest.mark.parametrize("what", ["run", "blend", "lists", "tune", "report", "compare", "ladder"])
@pytest.mark.parametrize("uri", ["w", "/data/" + "deep/" * 30 + "workspace", "s3://bucket/w"])
@pytest.mark.parametrize("width", [20, 80, 400])
def test_the_path_of_an_artifact_is_whole_on_a_line(what, uri, width) -> None:
    head, *lines = results.artifact_lines(uri, KEYS, what, width)
    assert head == "Artifacts"
    paths = [line.split("  ")[0] for line in lines if not line.startswith(" ")]
    assert len(paths) == (len(lines) if len(lines) == len(paths) else len(lines) / 2)
    assert all(path.startswith(f"{uri}/") for path in paths)
    if width == 400:
        assert len(lines) == len(paths)
        assert all(len(line) <= width for line in lines)


def test_parquet_is_named_where_its_key_puts_it_and_published_files_above_all_keys() -> None:
    assert f"w/train/{KEYS['train']}/  " in "\n".join(results.artifact_lines("w", KEYS, "run", 400))
    assert "w/tune/best.yaml  " in "\n".join(results.artifact_lines("w", KEYS, "tune", 400))


@pytest.mark.parametrize(
    "stage", [blend.STAGE, tune.STAGE, report.STAGE, compare.STAGE, ladder.STAGE]
)
def test_a_file_that_is_named_above_all_keys_is_published(stage) -> None:
    lines = results.artifact_lines("w", KEYS, stage.name, 400)[1:]
    names = [line.split("  ")[0].split("/") for line in lines]
    found = [name[2] for name in names if name[1] == stage.name and len(name) == 3]
    assert found
    assert all(any(fnmatch(name, pattern) for pattern in stage.published) for name in found)


def song(rank: int, artist: str, title: str, match: float) -> ListedSong:
    return ListedSong(rank, artist, title, "r" * 60, match, 5.0, "SO1")


def test_a_list_has_artist_and_title_first_and_says_what_its_score_is() -> None:
    songs = [song(1, "Ann [live]", "Love :heart: [/b]", 0.796), song(2, "B", "C", 0.5)]
    text = printed(list_table(SongList("For user u", "u", "how likely", songs)), 140)
    header = next(line for line in text.splitlines() if "artist" in line)
    assert header.replace("┃", " ").split() == ["artist", "title", "match", "release"]
    assert "match: how likely" in text
    assert "79.6%" in text
    # Brackets and colons in a title are not rich's markup.
    assert "Ann [live]" in text
    assert "Love :heart: [/b]" in text


def test_what_prints_results_takes_text_as_text(capsys) -> None:
    options.console().print("[bold]x[/bold] [/] :heart:")
    assert capsys.readouterr().out == "[bold]x[/bold] [/] :heart:\n"


def test_artifacts_are_said_to_lie_where_they_do(small, undisturbed, monkeypatch) -> None:
    """Not below the current results, which may be another run's by now."""
    shown: list[str] = []
    monkeypatch.setattr(stages, "print", shown.append, raising=False)
    resolved = load(small, undisturbed)
    manifest = Workspace(str(undisturbed)).require("evaluate")
    monkeypatch.setattr(Workspace, "current", lambda workspace: {"train": "another"})
    stages._print_artifacts(resolved, "run", manifest)
    assert all(Path(line.split("  ")[0]).is_dir() for line in shown if line.startswith("/"))
    assert str(undisturbed / "train" / manifest["lineage"]["train"]) in "".join(shown)


def test_a_run_says_what_it_left_out_and_what_its_results_do_not_mean(
    small, undisturbed, capsys
) -> None:
    resolved = load(small, undisturbed)
    workspace = Workspace(str(undisturbed))
    manifests = {stage: workspace.require(stage) for stage in workspace.current()}
    stages._print_results(resolved, manifests, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    counts = manifests["ingest"]["counts"]
    other = counts["triplets"] - counts["triplets_on_corpus"]
    (line,) = (line for line in lines if OTHER_SONGS in line)
    assert line.split()[:2] == ["plays", f"{other:,}"]
    remark = f"Remark: Only {manifests['evaluate']['counts']['users']} users are in the means"
    assert any(line.startswith(remark) for line in lines)
    stages._print_results(resolved, manifests, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert {"what": "plays", "count": other} in [
        {name: row[name] for name in ("what", "count")} for row in found["left_out"]
    ]
    assert any(remark.removeprefix("Remark: ") in each for each in found["remarks"])
