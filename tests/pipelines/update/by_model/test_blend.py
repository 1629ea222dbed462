"""By a blend: songs like a new one, what it tells, and what it must have kept."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from fusionrec.errors import WorkspaceError
from fusionrec.tables import matrix
from pipelines import update
from pipelines.opened import Recommender
from pipelines.opened.new_by_blend import NewByBlend
from pipelines.runtime.rows import read_matrix
from tests.pipelines.update.by_hand import WEIGHTS
from tests.pipelines.update.places import given_to


def test_songs_like_a_new_one_and_reasons_by_it_are_a_blends(places) -> None:
    """By all signals, in the blend's D dimensions: as its arrays say."""
    place = places["blend"]
    workspace = place.workspace.of("lists")
    about = workspace.read_json("blend", "blend.json")
    made = NewByBlend(workspace).make(given_to(place))
    assert made.features is not None
    assert made.atoms is not None
    old = workspace.read("ingest", "songs")["song_id"].to_pylist()
    features = read_matrix(workspace, "blend", "features", np.arange(len(old)))
    features = np.concatenate([features, made.features]).astype(np.float64)
    ids = [*old, *made.ids.to_pylist()]
    at = int(np.flatnonzero(made.present)[3])
    slices = {
        name: slice(*of)
        for name, of in about["slices"].items()
        if about["weightings"][name] is not None and about["kinds"][name] != "popularity"
    }
    u = np.zeros(features.shape[1])
    for of in slices.values():
        u[of] = made.atoms[at, of]
    recommender = Recommender.open(place.folder / "w")
    like = recommender.similar(ids[len(old) + at], 500)
    known = np.append(np.ones(len(old), bool), made.present)
    assert set(like["song_id"].to_pylist()) == set(np.array(ids)[known]) - {ids[len(old) + at]}
    expected = [features[ids.index(song)] @ u for song in like["song_id"].to_pylist()]
    near = {"rtol": 1e-3, "atol": 1e-4 * np.abs(expected).max()}
    np.testing.assert_allclose(like["score"].to_numpy(), expected, **near)
    # Of somebody who played a new and an old song, for another new one.
    other = next(
        ids.index(song) - len(old)
        for song in like["song_id"].to_pylist()
        if song in made.ids.to_pylist()
    )
    history = read_matrix(workspace, "blend", "history", np.array([5])).astype(np.float64)
    rows, plays = np.concatenate([history, made.atoms[[at]]]), np.array([1.0, 4.0])
    why = recommender.explain({ids[5]: 1, ids[len(old) + at]: 4}, ids[len(old) + other])
    adds = np.zeros(2)
    for name, of in slices.items():
        weights = WEIGHTS[about["weightings"][name]](plays)
        parts = weights * (rows[:, of] @ made.features[other, of])
        assert why.signals[name] == pytest.approx(parts.sum(), rel=1e-3, abs=1e-5)
        adds += parts
    assert adds[1] > 0
    of_songs = dict(zip((ids[5], ids[len(old) + at]), adds.tolist(), strict=True))
    of_songs = {song: part for song, part in of_songs.items() if part > 0}
    assert dict(why.songs) == pytest.approx(of_songs, rel=1e-3)


def test_by_a_blend_it_tells_what_can_be_told(places) -> None:
    place, other = places["blend"], places["genre"]
    found, of_genre = (p.workspace.require("update")["counts"] for p in (place, other))
    same = ("unknown words of metadata", "songs without lyrics", "songs without sound")
    for name in same:
        assert found["distance"][name]["new"] == of_genre["distance"][name]["new"]
    assert found["unknown_words_of_lyrics"] == of_genre["unknown_words_of_lyrics"]
    workspace = place.workspace.of("lists")
    part = np.array(workspace.read("split", "split")["part"].to_pylist(), object)
    has = np.array(workspace.read("embed", "sound")["present"].to_pylist())
    share = found["distance"]["songs without sound"]["held_out"]
    assert share == pytest.approx((~has[part == "test"]).mean())
    nothing = found["distance"]["songs without a vector"]
    made = NewByBlend(workspace).make(given_to(place))
    assert nothing["new"] == pytest.approx((~made.present).mean())
    assert nothing["held_out"] is None
    assert nothing["limit"] is None
    # From the middle of the training songs, in the standard deviations of each dimension.
    F = matrix(workspace.read("blend", "songs")["vector"]).astype(float)
    trained = F[part == "train"]
    far, middle = trained.std(axis=0), trained.mean(axis=0)
    distances = [
        np.sqrt((((rows - middle) / far) ** 2).sum(axis=1))
        for rows in (trained, made.F[made.present])
    ]
    limit = np.quantile(distances[0], 0.99)
    assert found["distance"]["songs far from all"]["new"] == pytest.approx(
        (distances[1] > limit).mean()
    )


def test_a_blend_that_kept_nothing_of_new_songs_is_refused(places, tmp_path) -> None:
    place = places["blend"].copy(tmp_path)
    for folder in (place.folder / "w" / "blend").glob("*/unseen"):
        shutil.rmtree(folder)
    with pytest.raises(WorkspaceError, match=r"blend is of an earlier version, .*: run again"):
        update.STAGE.run(place.config())
