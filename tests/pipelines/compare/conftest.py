"""A workspace with a comparison, a module of one's own, and lists made elsewhere."""

import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.compare.folds import Fold, fold_workspace, read_evaluation, read_factors
from pipelines.ingest.by_user import user_ids_of
from pipelines.runtime.workspace import Workspace
from tests.pipelines.compare.comparing import MODULE, configured, run


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Where the user's own code lies, in a package of one's own."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "tried_here.py").write_text(MODULE)
    (folder / "broken_here.py").write_text("import nothing_of_this_name\n")
    return folder


@pytest.fixture
def there(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


@pytest.fixture(scope="session")
def place(small, tmp_path_factory) -> Path:
    """A workspace with a comparison of built-in methods only."""
    place = tmp_path_factory.mktemp("own") / "w"
    run(configured(small, place, compare__methods="[popularity, wmf]"))
    return place


@pytest.fixture(scope="session")
def of_wmf(small, place) -> dict[str, list[str]]:
    """The lists of `wmf` of both folds, one list a user."""
    lists: dict[str, list[str]] = {}
    for number in (0, 1):
        chosen = Fold("song", number).config(configured(small, place))
        fold = fold_workspace(chosen, Workspace(str(place)))
        X, Y = read_factors(fold, "all")
        songs = fold.read("ingest", "songs", ["song_id"])["song_id"].to_pylist()
        ids = user_ids_of(fold, 0, len(X)).to_pylist()
        evaluation = read_evaluation(fold)
        for user in evaluation.users:
            order = np.argsort(-(Y[evaluation.candidates] @ X[user]), kind="stable")
            lists.setdefault(ids[user], []).extend(
                songs[song] for song in evaluation.candidates[order]
            )
    return lists
