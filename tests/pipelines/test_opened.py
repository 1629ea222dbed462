"""A finished workspace as an object: its lists, reasons and vectors are those of the stages."""

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fusionrec import schemas
from fusionrec.errors import ConfigError, DataError, NotFoundError, WorkspaceError
from fusionrec.features.lyrics.encoder import load_encoder
from fusionrec.signals.explain import Layout
from fusionrec.tables import matrix
from pipelines import embed
from pipelines.cli.recommend import for_user, similar_to
from pipelines.opened import Recommender, new_lyrics
from pipelines.opened.new_lyrics import NewLyrics
from pipelines.run import run
from pipelines.runtime.rows import read_arrays, read_matrix
from pipelines.runtime.workspace import Workspace
from tests.pipelines.beside import TASTE
from tests.pipelines.conftest import told_by
from tests.pipelines.inline import load, without_ray

COMMON = {"recommend__protocol": "oord", "lists__run": True}
MODELS: dict[str, dict[str, object]] = {
    "genre": {"recommend__weighting": "log"},
    "blend": {"recommend__model": "blend"},
    "factors": {"train__objective": "factors", **TASTE},
    "ranking": {"train__objective": "ranking", **TASTE},
}

Played = dict[str, dict[str, int]]


@pytest.fixture(scope="module")
def places(small, undisturbed, tmp_path_factory) -> dict[str, Path]:
    """By model, a workspace with lists of it, made once it is asked for."""

    class Places(dict[str, Path]):
        def __missing__(self, model: str) -> Path:
            place = Path(shutil.copytree(undisturbed, tmp_path_factory.mktemp(model) / "w"))
            with without_ray():
                run(load(small, place, **COMMON, **MODELS[model]))
            self[model] = place
            return place

    return Places()


@pytest.fixture(params=MODELS)
def model(request) -> str:
    name: str = request.param
    return name


def all_plays(workspace: Workspace) -> pd.DataFrame:
    """Every play, also of other songs, by ids, with the part of the split that the song is in."""
    users = workspace.read("ingest", "users")["user_id"].to_pandas()
    part = workspace.read("split", "split")["part"].to_pandas()
    frames = []
    for artifact, songs in (("plays", "songs"), ("other_plays", "other_songs")):
        frame = workspace.read("ingest", artifact).to_pandas()
        ids = workspace.read("ingest", songs, ["song_id"])["song_id"].to_pandas()
        frames.append(
            pd.DataFrame(
                {
                    "user_id": users[frame["user"]].to_numpy(),
                    "song_id": ids[frame["song"]].to_numpy(),
                    "plays": frame["plays"],
                    "part": part[frame["song"]].to_numpy() if songs == "songs" else "other",
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def by_user(plays: pd.DataFrame) -> Played:
    found: Played = defaultdict(dict)
    for row in plays.itertuples():
        found[row.user_id][row.song_id] = found[row.user_id].get(row.song_id, 0) + row.plays
    return found


def lists_in(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["user_id"]: row for row in table.to_pylist()}


# --- lists -------------------------------------------------------------------------------


def test_lists_of_all_plays_are_those_for_everyone(places, model) -> None:
    workspace = Workspace(str(places[model]))
    expected = lists_in(workspace.read("lists", "lists"))
    plays = all_plays(workspace).sample(frac=1.0, random_state=1)
    found = lists_in(Recommender.open(workspace.uri).recommend(pa.Table.from_pandas(plays)))
    assert len(found) == plays["user_id"].nunique() > 50
    for user, row in found.items():
        for column in ("song_ids", "scores", "fallback"):
            assert row[column] == expected[user][column], (user, column)


def test_lists_of_what_the_model_saw_are_those_of_the_evaluation(places, model) -> None:
    workspace = Workspace(str(places[model]))
    expected = lists_in(workspace.read("recommend", "recommendations"))
    plays = all_plays(workspace)
    hidden = plays["part"] == "test"
    if model != "blend":
        hidden |= plays["part"] == "other"
    recommender = Recommender.open(workspace.uri)
    found = lists_in(recommender.recommend(plays[~hidden], candidates="test"))
    assert len(expected) > 40
    for user, row in expected.items():
        if model == "genre":
            assert found[user]["song_ids"] == row["song_ids"]
            assert found[user]["scores"] == row["scores"]
        else:  # whose vectors are summed in another order: near scores may change places
            scores = np.array(row["scores"])
            near = {"rtol": 1e-3, "atol": 2e-4 * np.abs(scores).max()}
            np.testing.assert_allclose(found[user]["scores"], scores, **near)
            assert set(found[user]["song_ids"]) == set(row["song_ids"])


def test_a_stranger_is_known_by_the_plays_alone(places, model) -> None:
    """By hand: v of the stored songs, and the order of its products with all songs."""
    workspace = Workspace(str(places[model]))
    plays = all_plays(workspace)
    others = set(plays["user_id"][plays["part"] == "other"])  # known by more than songs here
    plays = plays[plays["part"].isin(["train", "validation"]) & ~plays["user_id"].isin(others)]
    user, played = max(by_user(plays).items(), key=lambda item: len(item[1]))
    recommender = Recommender.open(workspace.uri)
    table = recommender.recommend({"stranger": played}, top=10)
    ids, F = recommender.vectors()["song_id"].to_pylist(), matrix(recommender.vectors()["vector"])
    songs = workspace.read("ingest", "songs", ["song_id"])["song_id"].to_pylist()
    numbers = np.array([songs.index(song) for song in played])
    counts = np.array([*played.values()])
    if model == "genre":
        known = [song for song in played if song in ids]
        v = np.mean([np.log1p(played[s]) * F[ids.index(s)] for s in known], axis=0)
    elif model == "blend":
        rotation = read_arrays(workspace, "blend", "rotation", "arrays.safetensors")["rotation"]
        layout = Layout.of_json(workspace.read_json("blend", "blend.json"))
        atoms = read_matrix(workspace, "blend", "history", numbers)
        code = workspace.read("ingest", "users")["user_id"].to_pylist().index(user)
        # What no history gives is what the blend has of a user of the same plays.
        told = workspace.read("blend", "users")["told"].to_pylist()[code]
        v = layout.user(atoms, counts, np.array(told)) @ rotation
    else:  # the stored users of a training on taste are of the same plays
        code = workspace.read("ingest", "users")["user_id"].to_pylist().index(user)
        v = np.array(workspace.read("train", "user_vectors")["vector"].to_pylist()[code])
    scores = F @ v
    left = [i for i, song in enumerate(ids) if song not in played]
    best = sorted(left, key=lambda i: -scores[i])[:10]
    (row,) = table.to_pylist()
    assert not row["fallback"]
    assert row["used"] + row["unused"] == len(played)
    near = {"rtol": 1e-3, "atol": 2e-4 * np.abs(scores).max()}
    np.testing.assert_allclose(row["scores"], scores[best], **near)
    np.testing.assert_allclose(
        [scores[ids.index(s)] for s in row["song_ids"]], scores[best], **near
    )


def test_unknown_songs_are_counted_and_named(places, model, caplog) -> None:
    recommender = Recommender.open(places[model])
    song = recommender.vectors("train")["song_id"][0].as_py()
    plays = {"a": {"SONOWHERE1": 2, song: 1}, "b": ["SONOWHERE1", "SONOWHERE2"], "c": {}}
    with caplog.at_level("WARNING"):
        rows = recommender.recommend(plays, top=5).to_pylist()
    assert [row["user_id"] for row in rows] == ["a", "b", "c"]
    assert [row["unknown"] for row in rows] == [1, 2, 0]
    assert [row["used"] + row["unused"] for row in rows] == [1, 0, 0]
    assert [row["fallback"] for row in rows[1:]] == [True, True]
    assert rows[1]["song_ids"] == rows[2]["song_ids"]
    assert len(rows[1]["song_ids"]) == 5
    assert "the plays: 2 song ids are not in" in caplog.text
    assert "SONOWHERE1, SONOWHERE2" in caplog.text


def test_forms_of_plays_say_the_same(places) -> None:
    workspace = Workspace(str(places["genre"]))
    recommender = Recommender.open(workspace.uri)
    plays = all_plays(workspace)[["user_id", "song_id", "plays"]].head(200)
    twice = pd.concat([plays, plays.head(20)])
    forms = [twice, pa.Table.from_pandas(twice, preserve_index=False), by_user(twice)]
    first, *others = (recommender.recommend(form, top=7) for form in forms)
    for other in others:
        assert other.equals(first)
    ones = recommender.recommend(plays.drop(columns="plays"), top=7)
    assert ones.equals(recommender.recommend(plays.assign(plays=1.0), top=7))


def test_candidates(places, caplog) -> None:
    workspace = Workspace(str(places["genre"]))
    recommender = Recommender.open(workspace.uri)
    played = by_user(all_plays(workspace))
    user, heard = max(played.items(), key=lambda item: len(item[1]))
    mine = {user: heard}

    def listed(**more: Any) -> list[str]:
        ids: list[str] = recommender.recommend(mine, **more)["song_ids"][0].as_py()
        return ids

    everything = listed()
    assert not set(everything) & set(heard)
    assert len(everything) == len(set(everything))
    again = listed(exclude_heard=False)
    assert set(again) == set(recommender.vectors()["song_id"].to_pylist())
    assert [song for song in again if song not in heard] == everything
    songs = workspace.read("ingest", "songs", ["song_id"])["song_id"].to_pylist()
    part = dict(zip(songs, workspace.read("split", "split")["part"].to_pylist(), strict=True))
    assert listed(candidates="test") == [song for song in everything if part[song] == "test"]
    anybody = {song for played_by in played.values() for song in played_by}
    new = [song for song in everything if song not in anybody]
    if new:
        assert listed(candidates="new") == new
    some = everything[3:30:4]
    with caplog.at_level("WARNING"):
        assert listed(candidates=[*reversed(some), "SONOWHERE"]) == some
    assert "the candidates: 1 song ids are not in" in caplog.text
    table = recommender.vectors()
    assert listed(candidates=table) == listed(candidates=table.to_pandas()) == everything


def test_candidates_without_a_vector_are_left_out_and_move_no_other(places, caplog) -> None:
    """Of lists of any length, as Arrow and pandas make them."""
    recommender = Recommender.open(places["genre"])
    table = recommender.vectors().select(["song_id", "vector"])
    song = table["song_id"][0].as_py()
    expected = recommender.recommend({"me": [song]}, candidates=table.slice(2, 20))
    rows = table.slice(0, 22).to_pydict()
    rows["vector"][:2] = [None, None]
    fixed = pa.table({**rows, "vector": pa.array(rows["vector"], table["vector"].type)})
    with caplog.at_level("WARNING"):
        for given in (fixed, pa.table(rows), pd.DataFrame(rows)):
            assert recommender.recommend({"me": [song]}, candidates=given).equals(expected)
    assert caplog.text.count("the candidates: 2 have no vector, and are left out") == 3


@pytest.mark.parametrize("model", ["genre", "factors", "ranking"])
def test_songs_of_most_listeners_are_for_whom_nothing_is_known_of(places, model) -> None:
    """In a table of candidates, too; songs of no catalogue, which nobody played, come last."""
    workspace = Workspace(str(places[model]))
    recommender = Recommender.open(workspace.uri)
    expected = recommender.recommend({"nobody": []}, top=30).to_pylist()[0]
    assert expected["fallback"]
    played = all_plays(workspace).drop_duplicates(["user_id", "song_id"])["song_id"].value_counts()
    assert expected["scores"] == [played.get(song, 0) for song in expected["song_ids"]]
    assert expected["scores"][0] > expected["scores"][-1] > 0
    table = recommender.vectors()
    new = table.slice(0, 3).set_column(0, "song_id", pa.array(["x", "y", "z"]))
    candidates = pa.concat_tables([new, table])
    found = recommender.recommend({"nobody": []}, len(candidates), candidates).to_pylist()[0]
    assert found["song_ids"][:30] == expected["song_ids"]
    assert found["scores"][:30] == expected["scores"]
    of = dict(zip(found["song_ids"], found["scores"], strict=True))
    assert [of[song] for song in "xyz"] == [0, 0, 0]


# --- like one, and why -------------------------------------------------------------------


def test_similar_songs_are_those_of_like(places, model) -> None:
    recommender = Recommender.open(places[model])
    song = recommender.vectors("train")["song_id"][3].as_py()
    names = recommender.song(song)
    expected = similar_to(str(places[model]), f"{names['artist_name']} - {names['title']}", 6)
    if expected.id != song:
        pytest.skip("two songs of the sample have the same name")
    found = recommender.similar(song, top=6).to_pylist()
    assert [row["song_id"] for row in found] == [row.song_id for row in expected.songs]
    assert [row["title"] for row in found] == [row.title for row in expected.songs]
    assert [row["score"] for row in found] == pytest.approx([r.score for r in expected.songs])
    found_ids = recommender.search(f"{names['title']} {names['artist_name'].upper()}")["song_id"]
    assert song in found_ids.to_pylist()


def test_reasons_are_those_of_why(places, model) -> None:
    workspace = Workspace(str(places[model]))
    recommender = Recommender.open(workspace.uri)
    for user in workspace.read("ingest", "users")["user_id"].to_pylist()[20:24]:
        for listed in for_user(workspace.uri, user, 3, why=True).songs:
            found = recommender.explain(user, listed.song_id)
            assert listed.why is not None
            for parts in ("signals", "modalities", "kinds"):
                expected = getattr(listed.why, parts)
                assert getattr(found, parts) == pytest.approx(expected, rel=1e-5, abs=1e-6)
            heard = [(song.song_id, song.share) for song in listed.why.songs]
            assert [song for song, _ in found.songs] == [song for song, _ in heard]
            assert found.score == pytest.approx(listed.score, rel=1e-3, abs=1e-3)


def test_reasons_of_any_plays_add_up_to_the_score(places, model) -> None:
    workspace = Workspace(str(places[model]))
    recommender = Recommender.open(workspace.uri)
    played = next(iter(by_user(all_plays(workspace)).values()))
    (row,) = recommender.recommend({"stranger": played}, top=4).to_pylist()
    for song, score in zip(row["song_ids"], row["scores"], strict=True):
        found = recommender.explain(played, song)
        for parts in (found.signals, found.modalities, found.kinds):
            assert sum(parts.values()) == pytest.approx(score, rel=1e-3, abs=1e-4)
        assert {song for song, _ in found.songs} <= set(played)
        assert found.songs or model == "blend"
    user = next(iter(by_user(all_plays(workspace))))
    if model != "blend":  # which has learned more of its own users
        of_id = recommender.explain(user, row["song_ids"][0])
        assert of_id.kinds == pytest.approx(
            recommender.explain(by_user(all_plays(workspace))[user], row["song_ids"][0]).kinds
        )


# --- new songs ---------------------------------------------------------------------------


def corpus_songs(workspace: Workspace) -> pd.DataFrame:
    """The songs of a workspace as somebody gives new ones, shuffled, with their lyrics."""
    songs = workspace.read("ingest", "songs").to_pandas()
    lyrics = workspace.read("ingest", "lyrics").to_pandas()
    words = workspace.read("ingest", "vocabulary")["word"].to_numpy()
    lyrics["words"] = [words[row].tolist() for row in lyrics["words"]]
    given = songs.merge(lyrics[["track_id", "words", "counts"]], how="left", on="track_id")
    given["words"] = [list(w) if isinstance(w, list) else [] for w in given["words"]]
    given["counts"] = [list(c) if isinstance(c, np.ndarray) else [] for c in given["counts"]]
    return given.sample(frac=1.0, random_state=2)


def check_vectors(found: pa.Table, workspace: Workspace, column: str) -> None:
    expected = workspace.read("train", "song_vectors", ["song_id", column])
    F = dict(zip(expected["song_id"].to_pylist(), matrix(expected[column]), strict=True))
    rows = matrix(found["vector"])
    assert found["present"].to_pylist() == [song in F for song in found["song_id"].to_pylist()]
    assert sum(found["present"].to_pylist()) > 100
    for song, present, row in zip(
        found["song_id"].to_pylist(), found["present"].to_pylist(), rows, strict=True
    ):
        np.testing.assert_allclose(row, F[song] if present else 0, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", ["genre", "factors", "ranking"])
def test_songs_of_the_corpus_get_the_rows_of_the_stages(places, model) -> None:
    workspace = Workspace(str(places[model]))
    given = corpus_songs(workspace)
    column = "probabilities" if model == "genre" else "vector"
    check_vectors(Recommender.open(workspace.uri).song_vectors(given), workspace, column)


@pytest.mark.parametrize("missing", ["learned", "drop"])
def test_also_where_modalities_are_told_apart_or_songs_are_left_out(
    small, undisturbed, tmp_path, missing
) -> None:
    place = Path(shutil.copytree(undisturbed, tmp_path / "w"))
    asked = {"embed__modalities": "[metadata, lyrics, audio]", "fuse__missing": missing}
    asked |= {"ingest__segments": "stats"}
    with without_ray():
        run(load(small, place, **asked))
    workspace = Workspace(str(place))
    given, statistics = corpus_songs(workspace), workspace.read("ingest", "segment_statistics")
    found = Recommender.open(place).song_vectors(pa.Table.from_pandas(given), statistics)
    check_vectors(found, workspace, "probabilities")
    if missing == "drop":
        assert not all(found["present"].to_pylist())


def test_a_new_song_is_recommended_to_who_likes_its_kind(places, caplog) -> None:
    """A copy of a song under another id has its vector, and stands beside it on lists."""
    workspace = Workspace(str(places["genre"]))
    recommender = Recommender.open(workspace.uri)
    given = corpus_songs(workspace)
    copies = given.head(5).assign(song_id=[f"new-{i}" for i in range(5)], track_id=None)
    copies = pa.Table.from_pandas(copies.drop(columns="track_id"))
    new = recommender.song_vectors(copies)
    np.testing.assert_allclose(
        matrix(new["vector"]),
        matrix(recommender.song_vectors(given.head(5))["vector"]),
        rtol=1e-4,
        atol=1e-5,
    )
    candidates = pa.concat_tables([recommender.vectors(), new])
    played = next(iter(by_user(all_plays(workspace)).values()))
    plays = {"me": {**played, "new-1": 3}}
    listed = recommender.recommend(plays, candidates=candidates).to_pylist()[0]
    assert {"new-0", "new-2", "new-3", "new-4"} <= set(listed["song_ids"])
    assert "new-1" not in listed["song_ids"]
    assert listed["unknown"] == 1
    of = dict(zip(listed["song_ids"], listed["scores"], strict=True))
    for number, song in enumerate(given.head(5)["song_id"]):
        if song in of and number != 1:
            assert of[f"new-{number}"] == pytest.approx(of[song], rel=1e-3)


def test_lyrics_are_of_the_song_whose_row_they_are_in(places) -> None:
    """Whatever track ids are missing: all of them, or some."""
    workspace = Workspace(str(places["genre"]))
    vectors = NewLyrics(Workspace(workspace.uri)).vectors
    recommender = Recommender.open(workspace.uri)
    given = corpus_songs(workspace)
    given = given[given["words"].map(len) > 3].head(4)
    expected = matrix(recommender.song_vectors(given)["vector"])
    for tracks in ([None] * 4, [None, given["track_id"].iloc[1], None, "t"]):
        table = pa.Table.from_pandas(given.drop(columns="track_id"), preserve_index=False)
        table = table.append_column("track_id", pa.array(tracks, pa.string()))
        found = matrix(recommender.song_vectors(table)["vector"])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        rows, present = vectors(table, table)
        assert present.all()
        assert len(np.unique(rows.round(4), axis=0)) == 4
    twice = given.assign(track_id=["t", None, "u", "t"])
    with pytest.raises(DataError, match=r"^songs: track_id t is there twice"):
        recommender.song_vectors(twice)


def test_songs_may_have_an_id_and_nothing_else_or_lyrics_as_text(places, caplog) -> None:
    workspace = Workspace(str(places["genre"]))
    recommender = Recommender.open(workspace.uri)
    bare = recommender.song_vectors(pa.table({"song_id": [7, 8]}))
    assert bare["song_id"].to_pylist() == ["7", "8"]
    assert matrix(bare["vector"]).sum(axis=1) == pytest.approx([1, 1], rel=1e-5)
    word, other = workspace.read("ingest", "vocabulary")["word"].to_pylist()[5:7]
    text = f"{word.upper()} {other}, {word} nothingofthiskind"
    with caplog.at_level("WARNING"):
        as_text = recommender.song_vectors(pa.table({"song_id": ["x"], "text": [text]}))
    assert "1 words of the lyrics are not in the vocabulary" in caplog.text
    columns = {"song_id": ["x"], "words": [[word, other]], "counts": [[2, 1]]}
    as_bag = recommender.song_vectors(pa.table(columns))
    np.testing.assert_array_equal(matrix(as_text["vector"]), matrix(as_bag["vector"]))
    assert np.abs(matrix(as_bag["vector"]) - matrix(bare["vector"])[0]).max() > 0


def test_lyrics_are_read_as_they_stand_where_those_of_the_corpus_were(
    small, undisturbed, tmp_path, monkeypatch, caplog
) -> None:
    place = Path(shutil.copytree(undisturbed, tmp_path / "w"))
    folder = shutil.copytree(Workspace(str(place)).path("pretrain", "model"), tmp_path / "encoder")
    with without_ray():
        embed.STAGE.run(load(small, place, embed__lyrics__encoder=folder))
    workspace = Workspace(str(place)).of("embed")
    # Three times the same word, of which a bag's text has one.
    texts = ["love love love in the rain", "  ", None, "the night"]
    songs = pa.table({"song_id": list("abcd"), "track_id": list("abcd"), "text": texts})
    by_words, _ = NewLyrics(workspace).vectors(songs, songs)
    text = pa.table({"track_id": ["t"], "text": ["of the source"]}, schema=schemas.LYRICS_TEXT)
    workspace.write_table(text, "ingest", "lyrics_text", "part-00000.parquet")
    caplog.clear()
    with monkeypatch.context() as patched:  # no word is weighed that nobody asks for
        patched.setattr(new_lyrics, "stored_weights", None)
        found, present = NewLyrics(workspace).vectors(songs, songs)
    assert "not in the vocabulary" not in caplog.text
    expected = load_encoder(str(folder)).encode([texts[0], texts[3]], pooling="cls")
    assert present.tolist() == [True, False, False, True]
    np.testing.assert_allclose(found[present], expected, rtol=1e-4, atol=1e-5)
    assert not found[~present].any()
    assert np.abs(by_words[0] - found[0]).max() > 1e-4
    bags = {"words": [["love", "night"], None, None, None], "counts": [[1, 1], None, None, None]}
    beside = pa.table({"song_id": list("abcd"), "text": [None, *texts[1:]], **bags})
    mixed, present = NewLyrics(workspace).vectors(beside, beside)
    assert present.tolist() == [True, False, False, True]
    np.testing.assert_allclose(mixed[3], found[3], rtol=1e-4, atol=1e-5)


# --- what is wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plays", "message"),
    [
        (3, r"^plays: are of type int: give a pyarrow Table"),
        ({"a": 3}, r"^plays: of user a: 3 is neither"),
        (pa.table({"user_id": ["a"]}), r"^plays: have no column song_id, but user_id"),
        (pa.table({"user_id": ["a"], "song_id": [1.5]}), r"column song_id is of type double"),
        (pa.table({"user_id": ["a", None], "song_id": ["s", "t"]}), r"row 2 has no user_id"),
        ({"a": {"s": 1, "t": 0}}, r"^plays: row 2: plays is 0: give a whole number from 1 to "),
        ({"a": {"s": 1.5}}, r"row 1: plays is 1.5"),
    ],
)
def test_plays_that_cannot_be_read(undisturbed, plays, message) -> None:
    with pytest.raises(DataError, match=message) as found:
        Recommender.open(undisturbed).recommend(plays)
    assert "\n" not in str(found.value)


def bag(words: list[str | None], counts: list[float | None]) -> pa.Table:
    """Lyrics of the second of two songs."""
    return pa.table({"song_id": ["a", "b"], "words": [["x"], words], "counts": [[1], counts]})


@pytest.mark.parametrize(
    ("songs", "message"),
    [
        ([1], r"^songs: are of type list"),
        (pa.table({"title": ["a"]}), r"^songs: have no column song_id, but title"),
        (pa.table({"song_id": ["a", "a"]}), r"^songs: song_id a is there twice"),
        (pa.table({"song_id": ["a"], "year": ["old"]}), r"^songs: column year must be int32"),
        (pa.table({"song_id": ["a"], "words": [["x"]]}), r"column words has no column counts"),
        (
            pa.table({"song_id": ["a"], "words": [["x"]], "counts": [[1, 2]]}),
            r"^songs: row 1: 1 words and 2 counts",
        ),
        (bag(["x"], [2.5]), r"^songs: row 2: the count of x is 2\.5: give a whole number of 1 or"),
        (bag(["x", "y"], [2, -4]), r"^songs: row 2: the count of y is -4"),
        (bag(["x", "y"], [None, 2]), r"^songs: row 2: the count of x is None"),
        (bag(["x", None], [1, 2]), r"^songs: row 2: a word is None: give words as text"),
        (
            pa.table({"song_id": ["a"], "words": ["xy"], "counts": [[1, 2]]}),
            r"^songs: row 1: words is 'xy': give a list",
        ),
    ],
)
def test_songs_that_cannot_be_read(undisturbed, songs, message) -> None:
    with pytest.raises(DataError, match=message) as found:
        Recommender.open(undisturbed).song_vectors(songs)
    assert "\n" not in str(found.value)


def test_what_is_not_there_is_named(undisturbed, places, tmp_path) -> None:
    recommender = Recommender.open(undisturbed)
    song = recommender.vectors()["song_id"][0].as_py()
    with pytest.raises(NotFoundError, match=r"^song SONOWHERE: is not in the catalogue of "):
        recommender.similar("SONOWHERE")
    with pytest.raises(NotFoundError, match=r"^user nobody: no such user in "):
        recommender.explain("nobody", song)
    with pytest.raises(NotFoundError, match=r"knows nothing of these plays"):
        recommender.explain({"SONOWHERE": 1}, song)
    with pytest.raises(ConfigError, match=r"^candidates: 'some' is none of all, new"):
        recommender.recommend({"a": [song]}, candidates="some")
    with pytest.raises(DataError, match=r"^candidates: none of them has a vector"):
        recommender.recommend({"a": [song]}, candidates=["SONOWHERE"])
    short = pa.table({"song_id": ["x"], "vector": pa.array([[1.0]], pa.list_(pa.float32(), 1))})
    with pytest.raises(DataError, match=r"^candidates: row 1: vector must be \d+ finite numbers"):
        recommender.recommend({"a": [song]}, candidates=short)
    for asked in (
        lambda: recommender.recommend({"a": [song]}, top=0),
        lambda: recommender.similar(song, top=-3),
        lambda: recommender.search("love", top=0),
    ):
        with pytest.raises(ConfigError, match=r"^top: is (0|-3): ask for one song or more"):
            asked()
    with pytest.raises(ConfigError, match=r"^model: 'best' is none of genre, network, blend"):
        Recommender.open(undisturbed, "best")
    with pytest.raises(WorkspaceError, match=r"its training is on classes, which is opened by"):
        Recommender.open(undisturbed, "network")
    with pytest.raises(WorkspaceError, match=r"blend: this stage is not finished"):
        Recommender.open(undisturbed, "blend")
    with pytest.raises(WorkspaceError, match=r"not finished"):
        Recommender.open(tmp_path / "empty")


def test_a_workspace_of_a_blend_is_also_opened_by_its_classes(places) -> None:
    workspace = Workspace(str(places["blend"]))
    by_classes = Recommender.open(workspace.uri, "genre")
    given = corpus_songs(workspace)
    check_vectors(by_classes.song_vectors(given), workspace, "probabilities")
    user = workspace.read("ingest", "users")["user_id"][20].as_py()
    with pytest.raises(ConfigError, match=r"^explain: the lists of .* are of another model"):
        by_classes.explain(user, given["song_id"].iloc[0])


SCRIPT = """
import sys
from pipelines.opened import Recommender
import pyarrow as pa
assert "torch" not in sys.modules and "transformers" not in sys.modules
for place in sys.argv[2:]:
    opened = Recommender.open(place)
    song, other = opened.vectors()["song_id"].to_pylist()[:2]
    opened.recommend({"me": {song: 2}}, top=3)
    opened.similar(song)
    opened.explain({song: 2}, other)
    opened.song_vectors(pa.table({"song_id": ["x"], "words": [["love"]], "counts": [[1]]}))
print([name for name in sys.modules if name == "ray" or name.startswith("ray.")])
"""


def test_no_ray_is_imported(places, tmp_path) -> None:
    assert told_by(SCRIPT, tmp_path, *(str(places[model]) for model in MODELS)) == "[]\n"
