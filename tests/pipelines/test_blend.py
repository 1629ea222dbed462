"""The blend as a stage: what it may see, that it is ranked by, compared, and explained."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusionrec.errors import ConfigError, DataError, WorkspaceError
from fusionrec.signals.explain import REST
from fusionrec.signals.registry import SIGNALS
from fusionrec.signals.songs import Songs
from fusionrec.tables import matrix
from pipelines import blend, compare, embed, ladder, pretrain, recommend, split
from pipelines.blend.inputs import hidden_songs, read_inputs
from pipelines.blend.stage import _write as write_of_stage
from pipelines.blend.stage import fit
from pipelines.blend.vectors import read_users
from pipelines.cli.recommend import SongList, for_user, similar_to
from pipelines.cli.recommend import recommend as show
from pipelines.config import BlendRun
from pipelines.opened.catalogue import Catalogue
from pipelines.recommend.vectors import source
from pipelines.run import run, stages
from pipelines.runtime.rows import read_matrix
from pipelines.runtime.workspace import Manifest, Workspace
from tests.pipelines.inline import load, without_ray


@pytest.fixture(autouse=True)
def _no_ray() -> Iterator[None]:
    with without_ray():
        yield


BLEND = {"recommend__model": "blend"}


@pytest.fixture(scope="module")
def place(undisturbed, tmp_path_factory) -> Path:
    """A workspace whose lists are those of the blend."""
    return Path(shutil.copytree(undisturbed, tmp_path_factory.mktemp("blend") / "w"))


@pytest.fixture(scope="module")
def manifests(small, place) -> dict[str, Manifest]:
    with without_ray():
        return run(load(small, place, **BLEND))


def test_a_run_has_the_blend_only_where_it_ranks_by_it(small, place) -> None:
    assert blend.STAGE not in stages(load(small, place))
    names = [stage.name for stage in stages(load(small, place, **BLEND))]
    assert names[-4:] == ["train", "blend", "recommend", "evaluate"]


def test_it_finds_what_the_classes_do_not(manifests, undisturbed) -> None:
    found = manifests["evaluate"]["counts"]
    classes = Workspace(str(undisturbed)).require("evaluate")["counts"]
    assert found["users"] == classes["users"]
    assert found["candidates"] == classes["candidates"]
    assert found["map_interval"][0] > max(classes["map_interval"][1], found["random_map"])
    counts = manifests["blend"]["counts"]
    assert counts["other_songs"] == manifests["ingest"]["counts"]["other_songs"] > 0
    assert counts["dimensions"] <= 128


def test_the_weights_lie_where_people_look(manifests, place) -> None:
    with (place / "blend" / "weights.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["signal"] for row in rows] == list(SIGNALS)
    weights = {row["signal"]: float(row["weight"]) for row in rows if float(row["weight"])}
    assert weights == manifests["blend"]["counts"]["weights"]
    assert sum(int(row["dimensions"]) for row in rows) >= manifests["blend"]["counts"]["dimensions"]


def test_the_lists_are_the_order_of_the_products(manifests, place) -> None:
    workspace = Workspace(str(place))
    table = workspace.read("blend", "songs")
    F = dict(zip(table["song_id"].to_pylist(), matrix(table["vector"]), strict=True))
    users = workspace.read("ingest", "users")["user_id"].to_pylist()
    V = read_users(workspace, 0, len(users))
    for row in workspace.read("recommend", "recommendations").slice(0, 10).to_pylist():
        v = V[users.index(row["user_id"])]
        products = np.array([v @ F[song] for song in row["song_ids"]])
        np.testing.assert_allclose(products, row["scores"], rtol=1e-4, atol=1e-5)
        assert (np.diff(row["scores"]) <= 0).all()
    np.testing.assert_array_equal(read_users(workspace, 5, 9), V[5:9])


def test_the_lists_are_the_same_in_any_blocks_of_songs(manifests, small, place) -> None:
    whole = Workspace(str(place)).read("recommend", "recommendations")
    chosen = load(small, place, **BLEND, recommend__block_mb=0, recommend__users_per_shard=17)
    manifest = recommend.STAGE.run(chosen, current=False)
    assert len(recommend.song_blocks(chosen, Workspace(str(place)).of("blend"))) > 1
    again = Workspace(str(place), {"recommend": manifest["key"]})
    assert again.read("recommend", "recommendations").equals(whole)


def test_users_of_whom_the_blend_knows_nothing_are_left_out_and_counted(
    manifests, small, place, monkeypatch
) -> None:
    """Else all of their songs had the same score, and the catalogue's first came first."""
    before = Workspace(str(place)).read("recommend", "recommendations")
    users = Workspace(str(place)).read("ingest", "users")["user_id"].to_pylist()
    unknown = [users.index(user) for user in before["user_id"].to_pylist()[3:6]]

    def some_unknown(workspace: Workspace, start: int, stop: int, *where: str) -> np.ndarray:
        V = read_users(workspace, start, stop, *where)
        V[[user - start for user in unknown if start <= user < stop]] = 0
        return V

    monkeypatch.setattr(recommend.stage, "read_users", some_unknown)
    chosen = load(small, place, **BLEND, recommend__users_per_shard=13)
    manifest = recommend.STAGE.run(chosen, current=False)
    assert manifest["counts"]["users_left_out"][source(chosen).unknown] == 3
    assert manifest["counts"]["ranked"] == before.num_rows - 3
    found = Workspace(str(place), {"recommend": manifest["key"]})
    rest = pa.concat_tables([before.slice(0, 3), before.slice(6)])
    assert found.read("recommend", "recommendations").equals(rest)


# --- what may be seen --------------------------------------------------------------------


@pytest.mark.parametrize("by", ["song", "artist"])
def test_plays_of_hidden_songs_change_nothing(manifests, small, place, tmp_path, by) -> None:
    """Whatever users play of test songs, and with artists apart also of their other songs."""
    copy = Path(shutil.copytree(place, tmp_path / "w"))
    chosen = load(small, copy, **BLEND, split__by=by)
    for stage in (split.STAGE, pretrain.STAGE, embed.STAGE):
        stage.run(chosen)
    workspace = embed.STAGE.plan(chosen, Workspace(str(copy))).reading(Workspace(str(copy)))
    before, inputs = fit(chosen, workspace, chosen.blend, seed=0)
    plays_before = workspace.read("ingest", "plays")
    own = inputs.songs.own
    hidden = inputs.hidden
    for artifact, first, last in (("plays", 0, own), ("other_plays", own, len(hidden))):
        mask = hidden[first:last]
        for name in workspace.parts("ingest", artifact):
            path = workspace.path("ingest", artifact, name)
            table = pq.read_table(path)
            unseen = mask[table["song"].to_numpy()]
            assert by != "song" or artifact != "other_plays" or not unseen.any()
            plays = np.where(unseen, 7 * table["plays"].to_numpy() + 5, table["plays"].to_numpy())
            users = np.where(unseen, 3, table["user"].to_numpy())
            table = table.set_column(2, "plays", pa.array(plays, pa.int32()))
            pq.write_table(table.set_column(0, "user", pa.array(users, pa.int32())), path)
    assert not workspace.read("ingest", "plays").equals(plays_before)
    after, _ = fit(chosen, workspace, chosen.blend, seed=0)
    np.testing.assert_array_equal(before.F, after.F)
    np.testing.assert_array_equal(before.V, after.V)
    assert before.weights.tolist() == after.weights.tolist()


def songs_of(artists: list[str | None], own: int) -> Songs:
    ids = [f"S{number}" for number in range(len(artists))]
    releases = [f"R{number % 2}" for number in range(len(artists))]
    return Songs(pa.table({"song_id": ids, "artist_id": artists, "release": releases}), own)


def test_other_songs_by_a_test_artist_are_hidden_where_artists_are_apart() -> None:
    part = np.array(["train", "test", "none", "validation"], object)
    songs = songs_of(["a", "b", "c", "d", "a", "b", "b", "x", None], own=4)
    by_song = hidden_songs(part, songs, "song")
    by_artist = hidden_songs(part, songs, "artist")
    by_album = hidden_songs(part, songs, "album")
    own = [False, True, True, False]
    assert by_song.tolist() == [*own, False, False, False, False, False]
    assert by_artist.tolist() == [*own, False, True, True, False, True]
    # The test song is of album R1 of b, as is row 5.
    assert by_album.tolist() == [*own, False, True, False, False, True]


def test_inputs_are_the_corpus_without_what_is_hidden(manifests, place) -> None:
    workspace = Workspace(str(place)).of("blend")
    inputs = read_inputs(workspace, ["lyrics"], "song", other_plays=True)
    plays = workspace.read("ingest", "plays").to_pandas()
    other = workspace.read("ingest", "other_plays").to_pandas()
    other["song"] += inputs.songs.own
    part = workspace.read("split", "split")["part"].to_numpy(zero_copy_only=False)
    seen = plays[np.isin(part, ("train", "validation"))[plays["song"]]]
    assert inputs.histories.counts.sum() == seen["plays"].sum() + other["plays"].sum()
    row = seen.iloc[3]
    assert inputs.histories.counts[row["user"], row["song"]] >= row["plays"]
    lyrics = workspace.read("ingest", "lyrics")
    tracks = workspace.read("ingest", "songs")["track_id"].to_pylist()
    assert inputs.songs.lyrics is not None
    bag = lyrics.slice(2, 1).to_pylist()[0]
    found = inputs.songs.lyrics[[tracks.index(bag["track_id"])]].toarray()[0]
    assert found[bag["words"]].tolist() == bag["counts"]
    without = read_inputs(workspace, [], "song", other_plays=False)
    assert len(without.songs) == inputs.songs.own
    assert without.histories.counts.sum() == seen["plays"].sum()


# --- why ---------------------------------------------------------------------------------


def check_shares(found: SongList) -> None:
    for song in found.songs:
        assert song.why is not None
        for parts in (song.why.signals, song.why.modalities, song.why.kinds):
            assert sum(parts.values()) == pytest.approx(song.score, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("model", ["blend", "genre"])
def test_shares_add_up_to_the_score(manifests, place, undisturbed, model) -> None:
    workspace = Workspace(str(place if model == "blend" else undisturbed))
    user = workspace.read("recommend", "recommendations")["user_id"][4].as_py()
    found = for_user(workspace.uri, user, 6, why=True)
    check_shares(found)
    names = {"blend": {"content", "context", "popularity", REST}, "genre": {"content"}}[model]
    for song in found.songs:
        assert set(song.why.kinds) <= names
        shares = [heard.share for heard in song.why.songs]
        assert len(shares) <= 3
        assert shares == sorted(shares, reverse=True)
    assert any(song.why.songs for song in found.songs)
    matches = [song.match for song in found.songs]
    assert matches == sorted(matches, reverse=True)
    assert 0 <= matches[-1] <= matches[0] <= 1
    titles = workspace.read("ingest", "songs").slice(3, 1).to_pylist()[0]
    check_shares(
        similar_to(workspace.uri, f"{titles['artist_name']} - {titles['title']}", 5, why=True)
    )
    json.dumps([song.why.signals for song in found.songs])


@pytest.mark.parametrize("model", ["blend", "genre"])
def test_a_list_and_its_reasons_read_no_artifact_whole(
    manifests, place, undisturbed, monkeypatch, model
) -> None:
    workspace = Workspace(str(place if model == "blend" else undisturbed))
    lists = workspace.read("recommend", "recommendations").to_pylist()

    def whole(*_: object) -> None:
        raise AssertionError("a look at all parts")

    monkeypatch.setattr(Workspace, "read", whole)
    monkeypatch.setattr(Workspace, "parts", whole)
    for row in lists:
        found = for_user(workspace.uri, row["user_id"], 3, why=True)
        assert [song.song_id for song in found.songs] == row["song_ids"][:3]
        assert [song.score for song in found.songs] == row["scores"][:3]


def test_songs_like_a_song_are_all_others_of_the_catalogue(manifests, place) -> None:
    """Songs that have plays and nothing else are in histories, and in no list."""
    workspace = Workspace(str(place))
    songs = workspace.read("ingest", "songs").to_pylist()
    found = similar_to(workspace.uri, f"{songs[3]['artist_name']} - {songs[3]['title']}", 9_999)
    listed = [song.song_id for song in found.songs]
    assert sorted(listed) == sorted(row["song_id"] for row in songs if row is not songs[3])


def test_a_history_has_the_songs_outside_the_catalogue_behind_its_own(manifests, place) -> None:
    workspace = Workspace(str(place)).of("recommend")
    own = workspace.read("ingest", "songs", ["song_id"])["song_id"].to_pylist()
    other = workspace.read("ingest", "other_songs", ["song_id"])["song_id"].to_pylist()
    ids, rows = [*own, *other], np.arange(len(own) + len(other))
    catalogue = Catalogue(workspace)
    np.testing.assert_array_equal(catalogue.rows(ids), rows)
    assert catalogue.ids(rows[::-1]) == ids[::-1]
    assert len(read_matrix(workspace, "blend", "history", rows)) == len(ids)
    with pytest.raises(WorkspaceError):
        read_matrix(workspace, "blend", "features", rows)


def test_printed_parts_stand_below_the_score_that_they_add_up_to(manifests, place, capsys) -> None:
    workspace = Workspace(str(place))
    user = workspace.read("recommend", "recommendations")["user_id"][4].as_py()
    show(workspace=str(place), user=user, top=3, why=True)
    printed = " ".join(capsys.readouterr().out.split())
    assert "match: how many times as likely as the first of the list" in printed
    for song in for_user(str(place), user, 3).songs:
        assert f"{song.title} score {song.score:+.3f} by kind: " in printed


def test_the_songs_that_a_score_is_for_are_of_the_users_history(manifests, place) -> None:
    workspace = Workspace(str(place)).of("recommend")
    users = workspace.read("ingest", "users")["user_id"].to_pylist()
    ids = workspace.read("ingest", "songs")["song_id"].to_pylist()
    part = workspace.read("split", "split")["part"].to_pylist()
    row = workspace.read("recommend", "recommendations")["user_id"][2].as_py()
    plays = workspace.read("ingest", "plays", filters=[("user", "=", users.index(row))])
    heard = {ids[song] for song in plays["song"].to_pylist() if part[song] != "test"}
    heard |= set(workspace.read("ingest", "other_songs")["song_id"].to_pylist())
    for song in for_user(str(place), row, 5, why=True).songs:
        assert {each.song_id for each in song.why.songs} <= heard


# --- compared ----------------------------------------------------------------------------

RUNGS = (
    "[{change: the paper, fusion: {k: 4, modalities: [metadata]}},"
    " {change: deaf, fusion: {k: 4, modalities: [metadata, audio]}},"
    " {change: terms, method: blend, blend:"
    " {signals: [neighbours-terms], context: false, other_plays: false}},"
    " {change: aside, method: blend, beside: true, blend:"
    " {signals: [neighbours-terms], context: false}},"
    " {change: tags, method: blend, blend:"
    " {signals: [neighbours-terms, neighbours-tags], context: false, other_plays: false}}]"
)


def test_a_ladder_is_a_comparison_with_its_rungs_in_order(small, undisturbed, tmp_path) -> None:
    place = Path(shutil.copytree(undisturbed, tmp_path / "w"))
    chosen = load(
        small,
        place,
        ladder__rungs=RUNGS,
        compare__splits="[song]",
        compare__test_folds="[0]",
        compare__fold_seeds=2,
        compare__seeds=2,
        compare__resamples=100,
    )
    manifest = ladder.STAGE.run(chosen)
    found = json.loads((place / "ladder" / "ladder.json").read_text())
    steps = found["ladders"]["song"]
    assert [step["change"] for step in steps] == ["the paper", "terms", "aside", "tags"]
    assert found["left_out"].keys() == {"fusion k=4 metadata+audio"}
    assert steps[-1]["against"] == steps[1]["name"] == "blend neighbours-terms"
    # Two cuts of the songs, two seeds of four methods.
    assert manifest["counts"]["rankings"] == 2 * 2 * 4
    assert steps[1]["difference_low"] > 0
    # What it has computed, a comparison of the same methods takes from there.
    before = {f: f.stat().st_mtime_ns for f in (place / "methods").glob("*/manifest.json")}
    compare.STAGE.run(ladder.as_comparison(chosen))
    assert before == {f: f.stat().st_mtime_ns for f in (place / "methods").glob("*/manifest.json")}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"blend__signals": "[neighbors]"}, "names the signal 'neighbors': there are 'neigh"),
        (
            {"blend__signals": "[taste-context]", "blend__context": False},
            "which is of the context",
        ),
    ],
)
def test_signals_that_do_not_fit(small, tmp_path, wrong, message) -> None:
    with pytest.raises(ConfigError, match=message):
        blend.STAGE.run(load(small, tmp_path / "w", **wrong))


def test_without_context_no_signal_of_it_takes_part() -> None:
    names = blend.stage.signal_names(BlendRun(context=False))
    assert names
    assert not any(SIGNALS[name].context for name in names)
    assert set(blend.stage.signal_names(BlendRun())) == set(SIGNALS)


@pytest.mark.parametrize(("objective", "instead"), [("genre", "genre"), ("factors", "network")])
def test_where_no_signal_tells_songs_apart_what_else_ranks_is_named(
    tmp_path, monkeypatch, objective, instead
) -> None:
    def nothing(*_: object, **__: object) -> None:
        raise DataError("blend: no signal tells songs apart")

    monkeypatch.setattr("pipelines.blend.stage.fit", nothing)
    chosen = load(tmp_path, tmp_path / "w", recommend__model="blend", train__objective=objective)
    begun = Workspace(str(tmp_path / "w")).begin("blend", {})
    with pytest.raises(DataError, match=f"apart; or rank by .* alone: recommend.model {instead}"):
        write_of_stage(chosen, begun)
