"""Lists as CSV and as lines of JSON."""

import csv
import json
from pathlib import Path

import numpy as np

from pipelines.lists import lines
from pipelines.runtime.workspace import Workspace
from tests.pipelines.lists.making import (
    made,
)


def test_formats_say_the_same(small, places) -> None:
    workspace = made(small, places["genre"], formats="[csv, jsonl]", top=7)
    expected = [
        (row["user_id"], rank, song, score)
        for row in workspace.read("lists", "lists").to_pylist()
        for rank, (song, score) in enumerate(
            zip(row["song_ids"], row["scores"], strict=True), start=1
        )
    ]
    folder = Path(workspace.path("lists"))
    parts = sorted((folder / "jsonl").iterdir())
    assert len(parts) == len(list((folder / "csv").iterdir())) == 3
    lines = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    rows = [
        row for part in sorted((folder / "csv").iterdir()) for row in csv.DictReader(part.open())
    ]
    for found in (lines, rows):
        assert [(row["user_id"], int(row["rank"]), row["song_id"]) for row in found] == [
            row[:3] for row in expected
        ]
        scores = np.array([row["score"] for row in found], np.float32)
        np.testing.assert_array_equal(scores, np.array([row[3] for row in expected], np.float32))


def test_what_comes_out_the_same_is_found_again(small, places) -> None:
    keys = [
        made(small, places["genre"], formats=formats, tags=tags, top=3).key("lists")
        for formats, tags in (
            ("[csv]", "[Rock, pop]"),
            ("[parquet, csv]", "[pop, rock]"),
            ("[csv, csv]", "[' POP', rock, Rock]"),
        )
    ]
    assert len(set(keys)) == 1


def test_lines_of_long_lists_are_made_some_at_a_time(small, places, monkeypatch) -> None:
    whole = made(small, places["genre"], formats="[csv, jsonl]", top=20)
    monkeypatch.setattr(lines, "_LINES_AT_ONCE", 50)
    pieces = made(small, places["genre"], formats="[jsonl, csv]", top=20, users_per_shard=22)
    for kind in ("csv", "jsonl"):
        texts = [
            [
                line
                for part in sorted(Path(each.path("lists", kind)).iterdir())
                for line in part.read_text().splitlines()
                if not line.startswith('"user_id"')
            ]
            for each in (whole, pieces)
        ]
        assert texts[0] == texts[1]


def test_without_text_there_is_none(places) -> None:
    workspace = Workspace(str(places["genre"]))
    assert not {"csv", "jsonl", "parquet"} & workspace.names("lists")
