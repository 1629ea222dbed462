"""What an update tells: what is new, how far it is from what there was, when a refit is due."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from fusionrec.features.words import FieldWord2Vec
from pipelines import update
from pipelines.opened.new_songs import NewSongs
from pipelines.runtime import tasks
from pipelines.runtime.workspace import Workspace
from pipelines.update import distance
from pipelines.update import songs as songs_of_update
from pipelines.update.distance import Measured
from tests.pipelines.update.places import given_songs, sound_plays


def test_it_tells_what_is_new_and_when_a_refit_is_due(places) -> None:
    place = places["genre"]
    workspace, late = place.workspace, place.late
    counts = workspace.require("update")["counts"]
    songs = {row[0] for row in late.songs[1]}
    early = {row[0] for row in late.songs[0]}
    assert counts["new_songs"] == len(songs)
    assert counts["songs_known_by_plays_before"] == 1
    plays = [row for row in late.plays[1] if sound_plays([row])]
    assert counts["new_plays"] == sum(row[1] in songs | early for row in plays)
    before = {row[0] for row in late.plays[0] if sound_plays([row])}
    assert counts["new_users"] == len({row[0] for row in plays} - before)
    assert counts["lists"] == len({row[0] for row in plays} | before)
    assert counts["lists_merged"] + counts["lists_ranked_anew"] == counts["lists"]
    assert counts["lists_merged"] > 0
    of_songs = len(songs) / len(songs | early)
    assert counts["share_of_all"]["songs"] == pytest.approx(of_songs)
    assert counts["refit_due"]
    assert counts["reasons"][0].startswith(f"{of_songs:.1%} of all songs are new")
    without = sum(row[0] not in late.vectors for row in {r[0]: r for r in late.songs[1]}.values())
    assert counts["distance"]["songs without sound"]["new"] == pytest.approx(without / len(songs))
    # Titles by the words of those that were fitted on.
    words = Workspace(str(place.folder / "w")).of("lists")
    known = NewSongs(words).words
    given = given_songs(late)
    each = [
        (word, name)
        for name in ("title", "release", "artist_name")
        for text in given[name].to_pylist()
        for word in (text or "").lower().split()
    ]
    share = sum(word not in known[name].words for word, name in each) / len(each)
    found = counts["distance"]["unknown words of metadata"]["new"]
    assert found == pytest.approx(share, abs=0.02)
    published = json.loads((place.folder / "w" / "update" / "report.json").read_text())
    assert published["distance"] == counts["distance"]
    assert published["refit_due"] is True


def test_what_it_measures_is_read_in_tasks_and_words_once(fresh, monkeypatch) -> None:
    """Nothing of the catalogue comes to the driver; and a process keeps what it has read."""
    fresh.late.write(fresh.tables, "2", late=True)
    depth, read = [0], Counter[str]()

    def within(function: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            depth[0] += 1
            try:
                return function(*arguments, **more)
            finally:
                depth[0] -= 1

        return call

    for name in ("submit", "run_task", "map_tasks"):
        monkeypatch.setattr(tasks, name, within(getattr(tasks, name)))
    parts, file = distance.OfRun.read, FieldWord2Vec.from_bytes

    def of_run(*arguments: Any) -> Any:
        assert depth[0]
        read["songs of the run"] += 1
        return parts(*arguments)

    def of_words(*arguments: Any) -> Any:
        read["words"] += 1
        return file(*arguments)

    monkeypatch.setattr(distance.OfRun, "read", of_run)
    monkeypatch.setattr(FieldWord2Vec, "from_bytes", of_words)
    # As in a worker, which has a workspace of its own for each task.
    each = songs_of_update._make
    monkeypatch.setattr(
        songs_of_update,
        "_make",
        lambda place, *more: each(pickle.loads(pickle.dumps(place)), *more),
    )
    update.STAGE.run(fresh.config())
    assert read["songs of the run"] == 2
    assert read["words"] == 3


def test_a_limit_is_what_draws_of_held_out_songs_show() -> None:
    """Of songs that are each an artist's own, a binomial distribution."""
    has = (np.arange(1000) % 10 == 0).astype(float)
    songs = Measured(np.arange(1000), {"x": (has, np.ones(1000))})
    found = distance.limit(songs, "x", 50, 0.01, np.random.default_rng(0))
    assert found == pytest.approx(binom.ppf(0.99, 50, 0.1) / 50, abs=0.021)
    # By few artists, all of whose songs have it or none: as wide as that.
    grouped = Measured(np.arange(1000) // 100, {"x": (np.repeat([1.0, 0.0], 500), np.ones(1000))})
    wide = distance.limit(grouped, "x", 100_000, 0.01, np.random.default_rng(0))
    assert wide == pytest.approx(binom.ppf(0.99, 10, 0.5) / 10)
    none = Measured(np.zeros(0, np.int64), {"x": (np.zeros(0), np.zeros(0))})
    assert distance.limit(none, "x", 50, 0.01, np.random.default_rng(0)) is None


def test_distances_are_those_of_uncorrelated_components() -> None:
    rows = np.random.default_rng(0).normal(3, [1, 5, 0.1], (5000, 3)).astype(np.float32)
    centre = distance.Centre.of(rows)
    inverse = np.linalg.inv(np.diag(np.var(rows.astype(float), axis=0)))
    from_mean = rows[:9] - rows.mean(axis=0, dtype=float)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", from_mean, inverse, from_mean))
    np.testing.assert_allclose(centre.distances(rows[:9]), expected, rtol=1e-5)
    assert (centre.distances(rows) > centre.limit).mean() == pytest.approx(0.01, abs=0.001)
