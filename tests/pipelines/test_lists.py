"""Lists for everyone: who gets one, of which songs, by what; how they are found and explained."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusionrec.baselines.factorisation import confidence
from fusionrec.errors import ConfigError, NotFoundError, WorkspaceError
from fusionrec.signals.explain import Layout
from fusionrec.tables import matrix
from pipelines import blend, config, lists, recommend, train
from pipelines.blend.vectors import ROTATION, read_users
from pipelines.cli.main import main
from pipelines.cli.recommend import for_user
from pipelines.config import Config
from pipelines.lists import lines
from pipelines.lists import stage as lists_stage
from pipelines.lists.known import Played, known_by
from pipelines.opened import stored
from pipelines.recommend.ranking import StoredSongs
from pipelines.run import stages
from pipelines.runtime.rows import read_arrays, read_matrix
from pipelines.runtime.workspace import StageRun, Workspace
from tests.pipelines.beside import TASTE
from tests.pipelines.conftest import arguments, overrides
from tests.pipelines.inline import load, without_ray

MODELS: dict[str, dict[str, object]] = {
    "genre": {},
    "blend": {"recommend__model": "blend"},
    "factors": {"train__objective": "factors", **TASTE},
    "ranking": {"train__objective": "ranking", **TASTE},
}

SILENT, ELSEWHERE, COLD = 3, 7, 9
"""Users without a play, with plays outside the catalogue only, and of test songs only."""
SEEN = range(20, 40)
"""Users without plays of test songs."""
NEW = (4, 11, 40, 75, 90, 120)
"""Songs that nobody played."""


@pytest.fixture(autouse=True)
def _no_ray(request) -> Iterator[None]:
    with nullcontext() if "ray_session" in request.fixturenames else without_ray():
        yield


def rewrite(workspace: Workspace, artifact: str, change: Any) -> None:
    for name in workspace.parts("ingest", artifact):
        path = workspace.path("ingest", artifact, name)
        table = pq.read_table(path)
        frame = change(table.to_pandas())
        pq.write_table(pa.Table.from_pandas(frame, table.schema, preserve_index=False), path)


@pytest.fixture(scope="module")
def base(undisturbed, tmp_path_factory) -> Path:
    """A workspace with such users and songs; its model of classes is finished."""
    place = Path(shutil.copytree(undisturbed, tmp_path_factory.mktemp("lists") / "w"))
    workspace = Workspace(str(place))
    part = workspace.read("split", "split")["part"].to_numpy(zero_copy_only=False)

    def plays(frame: pd.DataFrame) -> pd.DataFrame:
        tested = (part == "test")[frame["song"]]
        gone = frame["user"].isin([SILENT, ELSEWHERE]) | frame["song"].isin(NEW)
        gone |= frame["user"].isin(SEEN) & tested
        return frame[~gone & ((frame["user"] != COLD) | tested)]

    def others(frame: pd.DataFrame) -> pd.DataFrame:
        row = pd.DataFrame({"user": [ELSEWHERE], "song": [0], "plays": [2]}, dtype=np.int32)
        kept = frame[~frame["user"].isin([SILENT, ELSEWHERE, COLD])]
        return pd.concat([kept, row]).sort_values(["user", "song"], kind="stable")

    rewrite(workspace, "plays", plays)
    rewrite(workspace, "other_plays", others)
    # Of another model, and of other plays.
    shutil.rmtree(place / "recommend")
    shutil.rmtree(place / "evaluate")
    keys = json.loads((place / "current.json").read_text())
    for stage in ("recommend", "evaluate"):
        del keys["stages"][stage]
    (place / "current.json").write_text(json.dumps(keys))
    return place


@pytest.fixture(scope="module")
def places(small, base, tmp_path_factory) -> dict[str, Path]:
    """By model, a workspace with it, made once it is asked for."""

    class Places(dict[str, Path]):
        def __missing__(self, model: str) -> Path:
            self[model] = Path(shutil.copytree(base, tmp_path_factory.mktemp(model) / "w"))
            chosen = asked(self[model], model)
            if model != "genre":
                (blend if model == "blend" else train).STAGE.run(chosen)
            lists.STAGE.run(chosen)
            return self[model]

    def asked(place: Path, model: str) -> Config:
        return load(small, place, **MODELS[model], lists__users_per_shard=23)

    return Places()


@pytest.fixture(params=MODELS)
def model(request) -> str:
    name: str = request.param
    return name


def made(small: Path, place: Path, model: str = "genre", **more: object) -> Workspace:
    """The workspace with lists by other settings, which are not made current."""
    asked = {f"lists__{name}": value for name, value in more.items()}
    chosen = load(small, place, **MODELS[model], **{"lists__users_per_shard": 23, **asked})
    manifest = lists.STAGE.run(chosen, current=False)
    return Workspace(str(place), {**manifest["lineage"], "lists": manifest["key"]})


def catalogue(workspace: Workspace) -> pd.DataFrame:
    songs = workspace.read("ingest", "songs").to_pandas()
    return songs.assign(part=workspace.read("split", "split")["part"].to_pylist())


def plays_of(workspace: Workspace, artifact: str = "plays") -> list[dict[int, int]]:
    """What each user played, and how often."""
    users = workspace.require("ingest")["counts"]["users"]
    table = workspace.read("ingest", artifact).to_pandas()
    found: list[dict[int, int]] = [{} for _ in range(users)]
    for row in table.itertuples():
        found[row.user][row.song] = found[row.user].get(row.song, 0) + row.plays
    return found


# --- by hand -----------------------------------------------------------------------------


def vectors_by_hand(workspace: Workspace, model: str) -> tuple[np.ndarray, list[Any], Any]:
    """F of all songs, NaN for one without; V of each user, or None; and of who has none."""
    ids = catalogue(workspace)["song_id"].tolist()
    own, other = plays_of(workspace), plays_of(workspace, "other_plays")

    def by_id(stage: str, artifact: str, column: str) -> np.ndarray:
        table = workspace.read(stage, artifact)
        found = matrix(table[column]).astype(np.float64)
        F = np.full((len(ids), found.shape[1]), np.nan)
        F[[ids.index(song) for song in table["song_id"].to_pylist()]] = found
        return F

    if model == "genre":
        F = by_id("train", "song_vectors", "probabilities")
        has = ~np.isnan(F[:, 0])
        V = []
        for played in own:
            known = [song for song in played if has[song]]
            rows = [played[song] * F[song] for song in known]
            V.append(np.mean(rows, axis=0) if rows else None)
        return F, V, None
    if model == "blend":
        F = by_id("blend", "songs", "vector")
        layout = Layout.of_json(workspace.read_json("blend", "blend.json"))
        arrays = read_arrays(workspace, "blend", *ROTATION)
        table = workspace.read("blend", "users")
        V = []
        for user, (played, others) in enumerate(zip(own, other, strict=True)):
            songs = np.array([*played, *(len(ids) + song for song in others)], int)
            plays = np.array([*played.values(), *others.values()], int)
            atoms = read_matrix(workspace, "blend", "history", songs)
            told = np.array(table["told"][user].as_py(), np.float32)
            V.append(layout.user(atoms, plays, told) @ arrays["rotation"] if len(songs) else None)
        return F, V, arrays["nobody"] @ arrays["rotation"]
    F = by_id("train", "song_vectors", "vector")
    numbers = np.arange(len(ids))
    H = read_matrix(workspace, "train", "history", numbers).astype(np.float64)
    arrays = read_arrays(workspace, "train", "users", "arrays.safetensors")
    V = []
    if model == "ranking":
        for played in own:
            songs = np.array([song for song in played if H[song].any()], int)
            if not len(songs):
                V.append(None)
                continue
            v, plays = H[songs, :-1], np.array([played[song] for song in songs])
            logits = v @ arrays["query"] / np.sqrt(7)
            e = np.exp(logits + arrays["slope"] * np.log(np.log1p(plays)))
            V.append(np.append((e / e.sum()) @ v / np.sqrt(7), 1.0))
        return F, V, None
    for played in own:
        c, p = np.ones(len(ids)), np.zeros(len(ids))
        Y = H.copy()
        for song, plays in played.items():
            if not H[song].any() and not np.isnan(F[song, 0]):
                Y[song] = F[song]
            c[song], p[song] = confidence(np.array([plays]), 10.0, 1.0)[0], 1.0
        A = (Y.T * c) @ Y + 10.0 * np.eye(8)
        V.append(np.linalg.solve(A, (Y.T * c) @ p) if (Y * p[:, None]).any() else None)
    return F, V, None


def check_against_hand(workspace: Workspace, model: str, candidates: np.ndarray) -> None:
    F, V, nobody = vectors_by_hand(workspace, model)
    songs, own = catalogue(workspace), plays_of(workspace)
    code = {song: number for number, song in enumerate(songs["song_id"])}
    candidates = candidates & ~np.isnan(F[:, 0])
    listeners = np.array([sum(n in played for played in own) for n in range(len(songs))])
    table = workspace.read("lists", "lists").to_pylist()
    assert [row["user"] for row in table] == list(range(len(own)))
    assert [row["user_id"] for row in table] == workspace.read("ingest", "users")[
        "user_id"
    ].to_pylist()
    for row, v, played in zip(table, V, own, strict=True):
        assert row["fallback"] == (v is None)
        scores = listeners.astype(float) if v is None and nobody is None else None
        scores = F @ (nobody if v is None else v) if scores is None else scores
        left = [song for song in np.flatnonzero(candidates) if song not in played]
        best = sorted(left, key=lambda song: (-scores[song], song))[:500]
        listed = [code[song] for song in row["song_ids"]]
        assert len(listed) == len(set(listed)) == len(best)
        assert set(listed) <= set(left)
        # To rounding: songs whose scores are nearly the same may stand the other way round.
        near = {"rtol": 1e-3, "atol": 2e-4 * max(np.abs(scores[best]).max(initial=0), 1e-3)}
        np.testing.assert_allclose(row["scores"], scores[best], **near)
        np.testing.assert_allclose(row["scores"], scores[listed], **near)
        if v is None and nobody is None:
            assert listed == best


def test_lists_are_those_of_going_through_all_songs(places, model) -> None:
    workspace = Workspace(str(places[model]))
    check_against_hand(workspace, model, np.ones(len(catalogue(workspace)), bool))


def test_everybody_has_a_list_and_is_counted(places, model) -> None:
    workspace = Workspace(str(places[model]))
    counts = workspace.require("lists")["counts"]
    users = workspace.require("ingest")["counts"]["users"]
    table = workspace.read("lists", "lists")
    assert counts["users"] == table.num_rows == users
    alone = counts["fallback"]
    assert alone["no play"] == 1
    # A blend learns from songs outside the catalogue, too, and knows a user by them.
    assert alone["no play of a song of the catalogue"] == (model != "blend")
    assert counts["own"] + sum(alone.values()) == users
    assert sum(alone.values()) == sum(table["fallback"].to_pylist())
    assert table["fallback"][SILENT].as_py()
    assert not table["fallback"][COLD].as_py()
    by = "predicted popularity" if model == "blend" else "listeners"
    assert counts["fallback_by"] == by
    lengths = [len(songs) for songs in table["song_ids"].to_pylist()]
    assert min(lengths) > 0
    assert counts["short"] == users  # there are 150 songs


def test_users_without_plays_of_test_songs_are_as_the_model_has_them(small, places, model) -> None:
    if model == "genre":
        pytest.skip("no vectors of users are stored")
    place = places[model]
    workspace = Workspace(str(place)).of("lists")
    chosen = load(small, place, **MODELS[model])
    run = StageRun(workspace, "lists", workspace.key("lists") or "", {}, {}, 0.0)
    known = known_by(chosen, workspace, run, StoredSongs(None, (), 0.0))
    users = workspace.require("ingest")["counts"]["users"]
    found = known.vectors(workspace, Played.read(workspace, 0, users))
    where = ("blend", "users") if model == "blend" else ("train", "user_vectors")
    stored = read_users(workspace, 0, users, *where)
    same = [*SEEN, *([SILENT] if model == "blend" else [])]
    found.V[~found.own] = 0 if found.nobody is None else found.nobody
    scale = np.abs(stored).max()
    np.testing.assert_allclose(found.V[same], stored[same], rtol=1e-3, atol=1e-4 * scale)
    others = np.setdiff1d(np.flatnonzero(found.own), [*SEEN])
    assert (np.abs(found.V[others] - stored[others]).max(axis=1) > 1e-3 * scale).mean() > 0.5


def test_users_do_not_depend_on_how_the_work_is_cut(small, places, model) -> None:
    whole = Workspace(str(places[model])).read("lists", "lists")
    place, settings = places[model], {**MODELS[model], "recommend__block_mb": 0}
    chosen = load(small, place, **settings, lists__users_per_shard=7)
    manifest = lists.STAGE.run(chosen, current=False)
    assert len(recommend.song_blocks(chosen, Workspace(str(place)).of("lists"))) > 1
    assert Workspace(str(place), {"lists": manifest["key"]}).read("lists", "lists").equals(whole)


# --- which songs -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["new", "test", "train"])
def test_songs_are_those_that_nobody_played_or_of_a_part(small, places, name) -> None:
    workspace = made(small, places["genre"], candidates=name)
    songs = catalogue(workspace)
    wanted = songs.index.isin(NEW) if name == "new" else (songs["part"] == name).to_numpy()
    check_against_hand(workspace, "genre", wanted)
    counts = workspace.require("lists")["counts"]
    assert counts["candidates"] == counts["songs"] - counts["without_vector"]
    if name == "new":
        assert counts["songs"] >= len(NEW)


def test_what_was_played_comes_again_where_it_may(small, places) -> None:
    workspace = made(small, places["genre"], repeat=True)
    candidates = workspace.require("lists")["counts"]["candidates"]
    rows = workspace.read("lists", "lists")["song_ids"].to_pylist()
    assert {len(row) for row in rows} == {candidates}
    without = Workspace(str(places["genre"])).read("lists", "lists")["song_ids"].to_pylist()
    for row, less in zip(rows, without, strict=True):
        left = set(less)
        assert [song for song in row if song in left] == less


def test_filters_are_of_years_and_tags(small, places) -> None:
    songs = catalogue(Workspace(str(places["genre"])))
    tags = pd.Series([[*row.terms, *row.mbtags] for row in songs.itertuples()]).explode()
    tag = tags.value_counts().index[3]
    years = songs["year"].dropna().astype(int)
    low, high = int(years.quantile(0.2)), int(years.quantile(0.8))
    workspace = made(small, places["genre"], years=[low, high])
    wanted = songs["year"].between(low, high).to_numpy()
    check_against_hand(workspace, "genre", wanted)
    assert songs["year"].isna().any()
    workspace = made(small, places["genre"], tags=f"[{tag.upper()}, nothing of that name]")
    has = np.array([tag in [*row.terms, *row.mbtags] for row in songs.itertuples()])
    check_against_hand(workspace, "genre", has)
    counts = workspace.require("lists")["counts"]
    assert (
        counts["filtered_out"]
        == counts["songs"] - counts["without_vector"] - (counts["candidates"])
    )


@pytest.mark.parametrize("model", ["genre", "blend"])
@pytest.mark.parametrize("most", [1, 2])
def test_an_artist_has_few_songs_on_a_list(small, places, model, most) -> None:
    """The list without the limit, less what is too much of an artist."""
    place = places[model]
    songs = catalogue(Workspace(str(place)))
    artist = dict(zip(songs["song_id"], songs["artist_id"], strict=True))
    whole = made(small, place, model, repeat=True)
    limited = made(small, place, model, repeat=True, per_artist=most, top=12)
    for all_of, few in zip(
        whole.read("lists", "lists").to_pylist(),
        limited.read("lists", "lists").to_pylist(),
        strict=True,
    ):
        expected: list[str] = []
        for song in all_of["song_ids"]:
            already = [artist[other] for other in expected].count(artist[song])
            if already < most and len(expected) < 12:
                expected.append(song)
        assert few["song_ids"] == expected
        assert few["fallback"] == all_of["fallback"]


# --- of a file ---------------------------------------------------------------------------


def test_songs_of_a_file(small, places, tmp_path, caplog) -> None:
    songs = catalogue(Workspace(str(places["genre"])))
    ids = songs["song_id"].tolist()[10:60]
    file = tmp_path / "ids.txt"
    lines = [*ids, ids[0], "", "SOUNKNOWN1", "  SOUNKNOWN2 "]
    file.write_text("\n".join(lines))
    with caplog.at_level("WARNING"):
        workspace = made(small, places["genre"], candidates=file)
    check_against_hand(workspace, "genre", songs["song_id"].isin(ids).to_numpy())
    counts = workspace.require("lists")["counts"]
    assert counts["unknown_ids"] == 2
    assert counts["first_unknown_ids"] == ["SOUNKNOWN1", "SOUNKNOWN2"]
    assert "2 ids of" in caplog.text
    again = made(small, places["genre"], candidates=f"file://{file}")
    assert again.key("lists") == workspace.key("lists")
    file.write_text("\n".join(ids[:5]))
    assert made(small, places["genre"], candidates=file).key("lists") != workspace.key("lists")


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (None, {}, r"^lists.candidates: .*ids.txt: there is no such file; name one of song ids"),
        (" \n\n", {}, r"^lists.candidates: .*ids.txt: is empty; write song ids into it"),
        ("SOX\n", {}, r"^0 songs are left of lists.candidates: .* \(1 ids are in no catalogue\)"),
        ("all", {"least": 151}, r"and lists.least is 151: widen lists.candidates, or lower"),
        ("all", {"years": [1, 2]}, r"left out by lists.years\).* widen lists.candidates or lists"),
    ],
)
def test_too_few_songs_end_the_stage(small, places, tmp_path, content, settings, message) -> None:
    file = tmp_path / "ids.txt"
    if content not in (None, "all"):
        file.write_text(content)
    chosen = "all" if content == "all" else file
    with pytest.raises(ConfigError, match=message) as found:
        made(small, places["genre"], candidates=chosen, **settings)
    assert "\n" not in str(found.value)


# --- files -------------------------------------------------------------------------------


def test_formats_say_the_same(small, places) -> None:
    workspace = made(small, places["genre"], formats="[csv, jsonl]", top=7)
    expected = [
        (row["user_id"], rank, song, score)
        for row in workspace.read("lists", "lists").to_pylist()
        for rank, (song, score) in enumerate(
            zip(row["song_ids"], row["scores"], strict=True), start=1
        )
    ]
    folder = Path(workspace.path("lists"))
    parts = sorted((folder / "jsonl").iterdir())
    assert len(parts) == len(list((folder / "csv").iterdir())) == 3
    lines = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    rows = [
        row for part in sorted((folder / "csv").iterdir()) for row in csv.DictReader(part.open())
    ]
    for found in (lines, rows):
        assert [(row["user_id"], int(row["rank"]), row["song_id"]) for row in found] == [
            row[:3] for row in expected
        ]
        scores = np.array([row["score"] for row in found], np.float32)
        np.testing.assert_array_equal(scores, np.array([row[3] for row in expected], np.float32))


def test_what_comes_out_the_same_is_found_again(small, places) -> None:
    keys = [
        made(small, places["genre"], formats=formats, tags=tags, top=3).key("lists")
        for formats, tags in (
            ("[csv]", "[Rock, pop]"),
            ("[parquet, csv]", "[pop, rock]"),
            ("[csv, csv]", "[' POP', rock, Rock]"),
        )
    ]
    assert len(set(keys)) == 1


def test_lines_of_long_lists_are_made_some_at_a_time(small, places, monkeypatch) -> None:
    whole = made(small, places["genre"], formats="[csv, jsonl]", top=20)
    monkeypatch.setattr(lines, "_LINES_AT_ONCE", 50)
    pieces = made(small, places["genre"], formats="[jsonl, csv]", top=20, users_per_shard=22)
    for kind in ("csv", "jsonl"):
        texts = [
            [
                line
                for part in sorted(Path(each.path("lists", kind)).iterdir())
                for line in part.read_text().splitlines()
                if not line.startswith('"user_id"')
            ]
            for each in (whole, pieces)
        ]
        assert texts[0] == texts[1]


def test_without_text_there_is_none(places) -> None:
    workspace = Workspace(str(places["genre"]))
    assert not {"csv", "jsonl", "parquet"} & workspace.names("lists")


# --- resumed -----------------------------------------------------------------------------


def test_a_killed_run_goes_on_with_the_next_shard(small, places, tmp_path, monkeypatch) -> None:
    place = Path(shutil.copytree(places["genre"], tmp_path / "w"))
    done: list[int] = []
    whole = Workspace(str(place)).read("lists", "lists")

    def mortal(resolved: Any, run: Any, songs: Any, known: Any, shard: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(shard.part)
        return rank(resolved, run, songs, known, shard)

    rank = lists_stage._rank_shard
    monkeypatch.setattr(lists_stage, "_rank_shard", mortal)
    shutil.rmtree(place / "lists")
    with pytest.raises(KeyboardInterrupt):
        made(small, place)
    done.clear()
    workspace = made(small, place)
    assert done == [2]
    assert workspace.read("lists", "lists").equals(whole)


# --- shown -------------------------------------------------------------------------------


def test_a_list_is_found_and_explained(places, model, monkeypatch) -> None:
    workspace = Workspace(str(places[model]))
    rows = workspace.read("lists", "lists").to_pylist()
    songs = catalogue(workspace)
    heard = plays_of(workspace)

    def whole(*_: object) -> None:
        raise AssertionError("a look at all parts")

    monkeypatch.setattr(Workspace, "read", whole)
    monkeypatch.setattr(Workspace, "parts", whole)
    for user in (SILENT, ELSEWHERE, COLD, 20, 45):
        row = rows[user]
        found = for_user(workspace.uri, row["user_id"], 5, why=True)
        assert "list for everyone" in found.title
        assert [song.song_id for song in found.songs] == row["song_ids"][:5]
        matches = [song.match for song in found.songs]
        assert matches == sorted(matches, reverse=True)
        assert 0 <= matches[-1] <= matches[0] <= 1
        own = set(songs["song_id"].iloc[list(heard[user])])
        for song in found.songs:
            for parts in (song.why.signals, song.why.modalities, song.why.kinds):
                assert sum(parts.values()) == pytest.approx(song.score, rel=1e-3, abs=1e-3)
            because = {each.song_id for each in song.why.songs}
            assert because <= own or (model == "blend" and user != COLD)
        if user == COLD:
            assert any(song.why.songs for song in found.songs)
    assert any(song.why.songs for song in found.songs)


def test_what_explains_a_list_has_its_scores(places, model) -> None:
    """So that it is made of the plays that the list is made of."""
    workspace = Workspace(str(places[model])).of("lists")
    rows = workspace.read("lists", "lists").to_pylist()
    for user in (*((SILENT, ELSEWHERE) if model == "blend" else ()), COLD, 20, 45):
        explains, listed = stored.of_everyone(workspace, user), np.array(rows[user]["scores"])
        if model == "ranking":  # `scores` are without the songs' biases
            reasons = explains.reasons(rows[user]["song_ids"], listed.tolist())
            found = np.array([sum(reason.signals.values()) for reason in reasons])
        else:
            ids, scores = explains.scores()
            of = dict(zip(ids.to_pylist(), scores.tolist(), strict=True))
            found = np.array([of[song] for song in rows[user]["song_ids"]])
        np.testing.assert_allclose(found, listed, rtol=1e-3, atol=2e-4 * np.abs(listed).max())


def test_an_empty_list_says_why(small, places, tmp_path, model) -> None:
    songs = catalogue(Workspace(str(places[model])))["song_id"].tolist()
    place = Path(shutil.copytree(places[model], tmp_path / "w"))
    played = next(iter(plays_of(Workspace(str(place)))[COLD]))
    file = tmp_path / "ids.txt"
    file.write_text(songs[played])
    lists.STAGE.run(load(small, place, **MODELS[model], lists__candidates=file))
    user = Workspace(str(place)).read("ingest", "users")["user_id"][COLD].as_py()
    with pytest.raises(NotFoundError, match=r"played all 1 songs .* or set lists.repeat"):
        for_user(str(place), user, 5, why=True)


def test_a_blend_without_popularity_leaves_it_to_listeners(small, base, tmp_path) -> None:
    """Also of a task that has nobody else, with songs in several blocks."""
    place = Path(shutil.copytree(base, tmp_path / "w"))
    signals = {"blend__signals": "[neighbours-terms, neighbours-artist]"}
    chosen = load(small, place, recommend__model="blend", **signals)
    blend.STAGE.run(chosen)
    asked = {"lists__users_per_shard": 1, "recommend__block_mb": 0, "lists__top": 9}
    lists.STAGE.run(load(small, place, recommend__model="blend", **signals, **asked))
    workspace = Workspace(str(place)).of("lists")
    counts = workspace.require("lists")["counts"]
    assert counts["fallback_by"] == "listeners"
    assert counts["fallback"]["no play"] == 1
    own = plays_of(workspace)
    songs = catalogue(workspace)["song_id"].tolist()
    listeners = [sum(n in played for played in own) for n in range(len(songs))]
    best = sorted(range(len(songs)), key=lambda n: (-listeners[n], n))[:9]
    row = workspace.read("lists", "lists").to_pylist()[SILENT]
    assert row["fallback"]
    assert row["song_ids"] == [songs[n] for n in best]
    assert row["scores"] == [listeners[n] for n in best]
    found = for_user(str(place), row["user_id"], 3, why=True)
    assert [song.why.signals["listeners"] for song in found.songs] == row["scores"][:3]


def test_the_list_shown_is_of_the_current_models(small, places, tmp_path) -> None:
    """Or of who is asked for."""
    place = Path(shutil.copytree(places["genre"], tmp_path / "w"))
    chosen = load(small, place)
    with pytest.raises(WorkspaceError, match="recommend"):
        for_user(str(place), "U", 3, stage="recommend")
    recommend.STAGE.run(chosen)
    user = Workspace(str(place)).read("recommend", "recommendations")["user_id"][0].as_py()
    titles = [for_user(str(place), user, 3, stage=s).title for s in (None, "lists", "recommend")]
    assert ["everyone" in title for title in titles] == [True, True, False]
    train.STAGE.run(load(small, place, train__eta=0.01))
    assert "evaluation" in for_user(str(place), user, 3).title
    train.STAGE.run(chosen)
    assert "everyone" in for_user(str(place), user, 3).title
    blend.STAGE.run(load(small, place, recommend__model="blend"))
    recommend.STAGE.run(load(small, place, recommend__model="blend"))
    assert "evaluation" in for_user(str(place), user, 3).title


@pytest.mark.parametrize("kind", ["genre", "blend"])
def test_who_has_no_list_is_told_why(small, places, tmp_path, monkeypatch, kind) -> None:
    """Without a look at the catalogue, and as the manifest counts them."""
    place = Path(shutil.copytree(places[kind], tmp_path / "w"))
    recommend.STAGE.run(load(small, place, **MODELS[kind]))
    workspace = Workspace(str(place)).of("recommend")
    users = workspace.read("ingest", "users")["user_id"].to_pylist()
    left_out = workspace.read("recommend", "left_out").to_pandas()
    listed = workspace.read("recommend", "recommendations")["user"].to_pylist()
    assert sorted([*left_out["user"], *listed]) == list(range(len(users)))
    assert left_out["user"].is_monotonic_increasing
    counted = workspace.require("recommend")["counts"]["users_left_out"]
    assert left_out["reason"].value_counts().to_dict() == {k: n for k, n in counted.items() if n}

    def whole(*_: object) -> None:
        raise AssertionError("a look at all parts")

    monkeypatch.setattr(Workspace, "read", whole)
    monkeypatch.setattr(Workspace, "parts", whole)
    reasons = dict(left_out.itertuples(index=False))
    assert reasons[SILENT] == "no play of a known song"
    assert reasons[SEEN[0]] == "no song in profile"
    for user, reason in reasons.items():
        with pytest.raises(
            NotFoundError, match=re.escape(f"left the user out ({reason});")
        ) as found:
            for_user(str(place), users[user], 3, stage="recommend")
        assert "`fusionrec recommend --for everyone` makes a list" in str(found.value)
    for stage in ("recommend", "lists"):
        with pytest.raises(NotFoundError, match="no such user in the plays"):
            for_user(str(place), "nobody", 3, stage=stage)


def test_a_result_that_does_not_say_why_is_read_as_well(small, places, tmp_path) -> None:
    place = Path(shutil.copytree(places["genre"], tmp_path / "w"))
    recommend.STAGE.run(load(small, place))
    workspace = Workspace(str(place)).of("recommend")
    workspace.delete("recommend", "left_out")  # as before it was written
    user = workspace.read("ingest", "users")["user_id"][SILENT].as_py()
    with pytest.raises(NotFoundError, match="which left the user out; `fusionrec"):
        for_user(str(place), user, 3, stage="recommend")


def test_a_list_for_everyone_is_shown_without_ray(small, places, tmp_path) -> None:
    """And so is why somebody has none in the evaluation."""
    workspace = Workspace(str(shutil.copytree(places["blend"], tmp_path / "w")))
    recommend.STAGE.run(load(small, Path(workspace.uri), **MODELS["blend"]))
    users = workspace.read("lists", "lists")["user_id"]
    code = (
        "import sys; from pipelines.cli import main as cli\n"
        "try:\n cli.main(sys.argv[1:])\n"
        "finally:\n print('RAY' if {'ray','torch'} & set(sys.modules) else 'LIGHT')\n"
        " print('QUICK' if not {'pandas','scipy.linalg'} & set(sys.modules) else 'SLOW')"
    )

    def told(user: int, *words: str) -> subprocess.CompletedProcess[str]:
        asked = ["recommend", "-w", workspace.uri, "--user", users[user].as_py(), *words]
        return subprocess.run(
            [sys.executable, "-c", code, *asked], capture_output=True, text=True, check=False
        )

    done = told(COLD, "-n", "5", "--why")
    assert done.returncode == 0
    assert "LIGHT" in done.stdout
    assert "list for everyone" in done.stdout
    assert done.stdout.count("% │") == 5
    alone = told(COLD, "-n", "5")
    assert "QUICK" in alone.stdout
    assert alone.stdout.count("% │") == 5
    none = told(SILENT, "--for", "evaluation")
    assert "QUICK" in none.stdout
    assert none.returncode == 2
    assert "LIGHT" in none.stdout
    assert "left the user out (no play of a known song)" in none.stderr


def test_the_command_makes_and_shows_them(finished, corpus, ray_session, tmp_path, capsys) -> None:
    """By tasks of Ray, the same as without."""

    def told(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["recommend", *words])
        assert not end.value.code
        return str(capsys.readouterr().out)

    place = Path(shutil.copytree(finished, tmp_path / "w"))
    asked = {"lists__top": 20, "lists__per_artist": 1, "lists__users_per_shard": 150}
    assert "fallback by" in told("--for", "everyone", *arguments(corpus, place, **asked))
    workspace = Workspace(str(place))
    found = workspace.read("lists", "lists")
    assert found.num_rows == workspace.require("ingest")["counts"]["users"]
    assert workspace.require("lists")["counts"]["short"] == 0
    workspace.delete("lists")
    with without_ray():
        lists.STAGE.run(config.load(None, overrides(corpus, place, **asked)))
    assert workspace.read("lists", "lists").equals(found)
    user = found["user_id"][5].as_py()
    for whose, title in (("everyone", "list for everyone"), ("evaluation", "of the evaluation")):
        shown = told("-w", str(place), "--user", user, "-n", "3", "--for", whose)
        assert title in " ".join(shown.split())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--for", "all", "--user", "U"], "--for all: must be everyone or evaluation"),
        (["--for", "everyone", "--like", "a - b"], "leave it out with --like"),
        (["--set", "lists.years=[1999, 1990]"], "must be [from, to]: 1999 is after 1990"),
        (["--set", "lists.tags=[rock, ' ']"], "has an empty tag: leave it out"),
    ],
)
def test_what_cannot_be_asked(tmp_path, capsys, asked, message) -> None:
    with pytest.raises(SystemExit) as end:
        main(["recommend", "-w", str(tmp_path), *asked])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_run_has_them_where_it_is_told_so(small, tmp_path) -> None:
    assert lists.STAGE not in stages(load(small, tmp_path))
    assert stages(load(small, tmp_path, lists__run=True))[-1] is lists.STAGE
