"""What `make compare` shows beside the baselines: the guide's method, and lists made elsewhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fusionrec.formats import user_lists
from pipelines import config, split
from pipelines.compare.folds import Fold
from pipelines.runtime.workspace import Workspace
from tests.pipelines.compare.comparing import configured, rows, run
from tests.pipelines.inline import without_ray

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"


def test_the_guides_method_runs(small, place, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    text = (ROOT / "docs/quality.md").read_text()
    (block,) = re.findall(r"```python\n(# mine\.py\n.*?)```", text, re.DOTALL)
    assert (EXAMPLES / "mine.py").read_text() == block
    found = rows(run(configured(small, place, compare__methods="[random, mine:Nearest]")))
    assert found["mine:Nearest"]["seeds"] == 1
    assert found["mine:Nearest"]["lift"] > 1


def test_make_compare_has_all_methods_and_it() -> None:
    text = (ROOT / "Makefile").read_text()
    (names,) = re.findall(r"^METHODS = (.*)$", text, re.MULTILINE)
    usual = config.load(None, []).compare.methods
    assert names.split(",") == [*usual, "mine:Nearest"]


@pytest.fixture
def by_both(small, place, tmp_path) -> Path:
    """The workspace, with a split by artist, too."""
    both = Path(shutil.copytree(place, tmp_path / "w"))
    with without_ray():
        split.STAGE.run(Fold("artist", 0).config(configured(small, both)))
    return both


def made(workspace: Path, out: Path) -> user_lists.UserLists:
    script = EXAMPLES / "nearest_lists.py"
    subprocess.run([sys.executable, script, workspace, out], check=True, capture_output=True)
    return user_lists.read(str(out))


def test_lists_made_elsewhere_see_nothing_that_is_hidden(small, by_both, tmp_path) -> None:
    file, workspace = tmp_path / "lists.parquet", Workspace(str(by_both))
    lists = made(by_both, file)
    songs = workspace.read("ingest", "songs")["song_id"].to_numpy()
    hidden = np.zeros(len(songs), bool)
    for by in ("song", "artist"):
        chosen = Fold(by, 0).config(configured(small, by_both))
        part = split.STAGE.plan(chosen, workspace).reading(workspace).read("split", "split")["part"]
        hidden |= part.to_numpy(zero_copy_only=False) == "test"
    counts = np.diff(lists.indptr)
    assert (counts == hidden.sum()).all()
    assert len(counts) == workspace.require("ingest")["counts"]["users"]
    assert set(lists.songs.to_pylist()) == set(songs[hidden])
    # Whatever is played of these songs, the lists are the same.
    folder = Path(workspace.path("ingest", "plays"))
    for path in folder.iterdir():
        plays = pd.read_parquet(path)
        plays[~hidden[plays["song"]]].to_parquet(path)
    again = made(by_both, tmp_path / "again.parquet")
    assert again.songs.equals(lists.songs)
    assert again.users.equals(lists.users)


def test_lists_made_elsewhere_leave_out_a_split_by_time(place, tmp_path) -> None:
    """Which has no folds; and where there is no other, they say so."""
    both = Path(shutil.copytree(place, tmp_path / "w"))
    expected = made(both, tmp_path / "lists.parquet")
    manifests = list((both / "split").glob("*/manifest.json"))
    by_time = Path(shutil.copytree(manifests[0].parent, both / "split" / ("f" * 24)))
    for path in (by_time / "split").iterdir():
        pd.read_parquet(path).assign(fold=np.int32(-1)).to_parquet(path)
    found = made(both, tmp_path / "again.parquet")
    assert found.songs.equals(expected.songs)
    for manifest in manifests:
        shutil.rmtree(manifest.parent)
    script = [sys.executable, EXAMPLES / "nearest_lists.py", both, tmp_path / "none.parquet"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{by_time}: a split by time, which has no folds, is left out" in done.stdout
    assert "has no split of its songs into folds" in done.stderr
    assert "Traceback" not in done.stderr


def test_lists_made_elsewhere_are_better_than_chance(small, place, tmp_path) -> None:
    file = tmp_path / "lists.parquet"
    made(place, file)
    more = {"compare__external": f"{{nearest songs: {file}}}", "compare__test_folds": "[0]"}
    table = run(configured(small, place, compare__methods="[random]", **more))
    row = rows(table)["nearest songs"]
    assert row["low"] <= row["average_precision"] <= row["high"]
    assert row["lift"] > 1.5
    assert row["auc"] > 0.55
    assert not any(n for name, n in table["external"]["nearest songs"].items() if name != "lists")
