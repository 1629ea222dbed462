"""The ladder's tables from a comparison's summary."""

import csv
import io

import pytest

from fusionrec.report import ladder
from fusionrec.report.ladder import Rung

RUNGS = [
    Rung("fusion", "the paper", context="none", beside=False),
    Rung("content", "signals & weights", context="none", beside=False),
    Rung("content, other", "other plays", context="none", beside=True),
    Rung("absent", "what failed", context="all", beside=False),
    Rung("context", "context", context="all", beside=False),
]
LEVELS = {"context": 0.3, "fusion": 0.1, "content": 0.2, "content, other": 0.25}


def summary() -> dict:
    rows = [
        {
            "name": name,
            "average_precision": level,
            "low": level - 0.02,
            "high": level + 0.02,
            "auc": 0.5 + level,
            "recall_short": level,
            "ndcg_short": level,
            "seeds": 2,
            "seconds": 44.0,
            "ranking_seconds": 4.0,
            "rankings": 10,
            "dimensions": 25,
        }
        for name, level in LEVELS.items()
    ]
    names = list(LEVELS)
    differences = [
        {
            "a": a,
            "b": b,
            "difference": LEVELS[a] - LEVELS[b],
            "low": LEVELS[a] - LEVELS[b] - 0.01,
            "high": LEVELS[a] - LEVELS[b] + 0.03,
            "p": 0.01,
        }
        for number, a in enumerate(names)
        for b in names[number + 1 :]
    ]
    return {"by": "song", "rows": rows, "differences": differences, "folds": {"users": 1_000}}


def test_each_rung_is_compared_with_the_one_before_it_that_is_on_the_way() -> None:
    found = ladder.steps(summary(), RUNGS)  # type: ignore[arg-type]
    assert [step["rung"] for step in found] == [1, 2, 3, 5]
    assert [step["against"] for step in found] == [None, "fusion", "content", "content"]
    assert [step["ratio"] for step in found] == pytest.approx([1, 2, 2.5, 3])
    assert found[0]["difference"] is None
    # The summary has `fusion` before `content`: the difference is turned, and its interval too.
    assert found[1]["difference"] == pytest.approx(0.1)
    assert found[1]["difference_low"] == pytest.approx(0.07)
    assert found[1]["difference_high"] == pytest.approx(0.11)
    assert found[3]["difference"] == pytest.approx(0.1)
    assert found[3]["difference_low"] == pytest.approx(0.09)
    # Three tests of p = 0.01 each.
    assert [step["p_holm"] for step in found[1:]] == pytest.approx([0.03, 0.03, 0.03])


def test_a_first_rung_that_finds_nothing_is_no_measure_of_the_others() -> None:
    found = summary()
    for row in found["rows"]:
        row["average_precision"] *= row["name"] != "fusion"
    steps = ladder.steps(found, RUNGS)  # type: ignore[arg-type]
    assert {step["ratio"] for step in steps} == {None}
    assert "| 0.2000 |" in ladder.markdown({"song": steps}, {})


def test_the_cost_of_a_rung_is_of_one_fold_and_of_one_user() -> None:
    (step, *_) = ladder.steps(summary(), RUNGS)  # type: ignore[arg-type]
    assert step["learning_seconds"] == pytest.approx(4)
    assert step["ranking_ms"] == pytest.approx(1000 * 4 / 2_000)
    assert step["bytes_a_song"] == 100


def test_all_files_say_the_same() -> None:
    found = ladder.steps(summary(), RUNGS)  # type: ignore[arg-type]
    files = ladder.files({"song": found}, {"absent": "no plays"})
    assert set(files) == {"ladder.md", "ladder.tex", "ladder.csv", "ladder.png", "ladder.svg"}
    rows = list(csv.DictReader(io.StringIO(files["ladder.csv"].decode())))
    assert [float(row["average_precision"]) for row in rows] == [0.1, 0.2, 0.25, 0.3]
    text = files["ladder.md"].decode()
    assert "+0.1000 (+0.0700 to +0.1100)" in text
    assert "*other plays (`content, other`)*" in text
    assert "- absent: no plays" in text
    assert r"signals \& weights" in files["ladder.tex"].decode()
    assert files["ladder.png"].startswith(b"\x89PNG")
