"""What evaluate says of a run, against a plain computation from its lists."""

import shutil

import numpy as np
import pandas as pd
import pytest

from fusionrec.evaluation.intervals import bootstrap_mean
from pipelines.run import run
from pipelines.runtime.workspace import Workspace
from tests.pipelines.inline import load, without_ray


@pytest.mark.parametrize("by", ["song", "artist"])
def test_intervals_are_of_users_and_of_what_the_split_keeps_together(
    small, undisturbed, tmp_path, by
) -> None:
    place = shutil.copytree(undisturbed, tmp_path / "w")
    config = load(small, place, split__by=by, evaluate__resamples="500")
    with without_ray():
        found = run(config)["evaluate"]["counts"]
    workspace = Workspace(str(place))
    lists = workspace.read("recommend", "recommendations").to_pandas()
    songs = workspace.read("ingest", "songs", ["song_id", "artist_id"]).to_pandas()
    cells = lists.explode(["relevant_ranks", "relevant_songs"]).reset_index(drop=True)
    cells = cells.merge(songs, left_on="relevant_songs", right_on="song_id", how="left")
    cells = cells.sort_values(["user_id", "relevant_ranks"], kind="stable")
    ranks = cells["relevant_ranks"].astype(int)
    users = cells.groupby("user_id")
    above, relevant = users.cumcount(), users["user_id"].transform("size")
    group = cells["song_id"] if by == "song" else cells["artist_id"]
    # Lists are of 500 songs, and there are fewer.
    precision = (above + 1) / ranks / relevant
    right = (1 - (ranks - 1 - above) / (cells["candidates"] - relevant)) / relevant
    for name, share in (("map", precision), ("auc", right)):
        per_user = share.groupby(cells["user_id"]).sum().loc[lists["user_id"]]
        assert found[name] == pytest.approx(per_user.mean())
        both = pd.DataFrame({"total": share, "users": 1 / relevant}).groupby(group).sum()
        # Groups are numbered in the order of the songs' table.
        order = (songs["song_id"] if by == "song" else songs["artist_id"]).drop_duplicates()
        both = both.loc[[key for key in order if key in both.index]]
        expected = bootstrap_mean(
            per_user.to_numpy(),
            songs=(both["total"].to_numpy(), both["users"].to_numpy()),
            seed=config.seed,
            resamples=500,
        )
        assert found[f"{name}_interval"] == pytest.approx(expected)
        alone = bootstrap_mean(per_user.to_numpy(), seed=config.seed, resamples=500)
        assert np.diff(found[f"{name}_interval"]) > 1.1 * np.diff(alone)
