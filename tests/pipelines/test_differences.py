"""What is said of two results that differ: the setting, the version, the file."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusionrec.errors import SourceError, WorkspaceError
from pipelines import evaluate, ingest
from pipelines.ingest import stage as ingest_stage
from pipelines.run import run
from pipelines.runtime.differences import of_contents, of_sources
from tests.pipelines.inline import load, without_ray

SECOND = 10**9


@pytest.fixture(autouse=True)
def _no_ray() -> Iterator[None]:
    with without_ray():
        yield


@pytest.fixture
def corpus(small, tmp_path) -> Path:
    """One of its own, which may be changed."""
    return Path(shutil.copytree(small, tmp_path / "corpus"))


def test_files_are_named_with_size_and_time() -> None:
    there = [["a.txt", 1000, 0], ["b.txt", 5, 7 * SECOND], ["tree", 20, "0123456789"], ["c", 1, 1]]
    here = [["a.txt", 1200, 0], ["b.txt", 5, 7 * SECOND + 1], ["tree", 20, "f" * 32], ["d", 1, 1]]
    a, b, c, d, tree = of_sources(there, here)
    assert a.startswith("a.txt: 1,000 bytes of ")
    assert " there, 1,200 bytes of " in a
    assert b.split(" there, ")[0].endswith(".000000000")
    assert b.endswith(".000000001 here")
    assert c.endswith(" there, not read here")
    assert d.startswith("d: not read there, 1 bytes of ")
    assert (
        tree == "tree: 20 files with the hash 01234567 there, 20 files with the hash ffffffff here"
    )


def test_what_is_known_by_its_content_is_named_too() -> None:
    assert of_sources({"encoder": "abcdefghij"}, {"encoder": "jihgfedcba"}) == [
        "encoder: the hash abcdefgh there, the hash jihgfedc here"
    ]
    assert of_sources({"encoder": "a"}, {"encoder": "a"}) == of_sources(None, None) == []
    assert of_sources([["a.txt", 1, 1]], None) == ["of another state of its source"]


def test_a_difference_of_each_kind() -> None:
    there = {"settings": {"train": {"eta": 1}}, "inputs": {"label": "a"}, "version": {"train": 1}}
    here = {"settings": {"train": {"eta": 2}}, "inputs": {"label": "b"}, "version": {"train": 2}}
    assert of_contents(there, here) == [
        "train.eta: 1 there, 2 here",
        "of another result of label",
        "computed by another version of fusionrec",
    ]
    assert of_contents(there, there) == []


def test_the_file_that_made_another_result_of_ingest_is_named(corpus, tmp_path) -> None:
    chosen = load(corpus, tmp_path / "w")
    run(chosen)
    (plays,) = (corpus / path for path in chosen.source.plays)
    size = plays.stat().st_size
    with plays.open("a") as file:
        file.write(plays.read_text().splitlines()[0] + "\n")
    ingest.STAGE.run(chosen)
    with pytest.raises(WorkspaceError, match="of another result of ingest") as caught:
        evaluate.STAGE.run(chosen)
    told = str(caught.value)
    assert f"{plays}: {size:,} bytes of " in told
    assert f"there, {plays.stat().st_size:,} bytes of " in told
    assert str(corpus / "MillionSong") not in told


def test_a_file_that_changes_while_it_is_read_is_named(corpus, tmp_path, monkeypatch) -> None:
    chosen = load(corpus, tmp_path / "w")
    (plays,) = (corpus / path for path in chosen.source.plays)
    merge = ingest_stage.merge_rejects

    def changing(begun, artifacts):
        os.utime(plays)
        return merge(begun, artifacts)

    monkeypatch.setattr(ingest_stage, "merge_rejects", changing)
    with pytest.raises(SourceError, match=rf"changed while they were being read \({plays}: "):
        ingest.STAGE.run(chosen)
