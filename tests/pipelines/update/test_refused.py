"""What an update refuses, in one line."""

from __future__ import annotations

import numpy as np
import pytest

from fusionrec.errors import ConfigError, SourceError, WorkspaceError
from pipelines import config, update


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"source__format": "msd", "source__tables": "{}", "embed__modalities": "[metadata]"},
            "msd",
        ),
        ({"lists__candidates": "new"}, "lists.candidates: new"),
        ({"lists__per_artist": 2}, "lists: lists.per_artist: "),
        ({"lists__top": 31}, "lists: lists.top: 30 there, 31 here"),
        ({"train__epochs": 5}, "train: train.epochs: 4 there, 5 here"),
        ({"source__tables__vocabulary": 7}, "ingest: source.tables.vocabulary: 5000 there, 7 here"),
        ({"recommend__model": "blend"}, r"lists by recommend\.model: genre there, blend here;"),
        (
            {"recommend__model": "blend", "lists__top": 7},
            r"lists by lists: lists\.top: 30 there, 7 here, recommend\.model: genre there, blend",
        ),
        ({"recommend__weighting": "binary"}, r"lists by recommend\.weighting: raw there, binary"),
    ],
)
def test_what_new_songs_and_plays_would_change_otherwise(places, changed, message) -> None:
    chosen = places["genre"].config(**changed)
    with pytest.raises((ConfigError, SourceError), match=message):
        update.STAGE.run(chosen)


def test_lists_must_be_there_and_of_what_is_current(early, fresh) -> None:
    with pytest.raises(WorkspaceError, match="there are no lists for everyone"):
        update.STAGE.run(early.config(workspace=fresh.folder / "elsewhere"))
    key = fresh.workspace.require("label")["key"]
    fresh.workspace.point({"train": "0" * len(key)})
    with pytest.raises(WorkspaceError, match="of another train than the current one"):
        update.STAGE.run(fresh.config())


def test_a_table_that_the_run_did_not_have_is_refused(fresh) -> None:
    np.save(fresh.tables / "more.npy", np.zeros((1, 24), np.float32))
    tables = fresh.config().source.tables.model_dump(mode="json")
    tables["features"]["sound"]["paths"].append("more.npy")
    with pytest.raises(SourceError, match=r"more.npy: source.tables.features.sound.ids"):
        update.STAGE.run(config.replaced(fresh.config(), {"source.tables": tables}))
