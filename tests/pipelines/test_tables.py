"""Tables of one's own: the same results as from the official files, and every defect listed."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusionrec.errors import ConfigError, DataError, SourceError, TooManyRejectsError
from pipelines import config, ingest
from pipelines.check import check
from pipelines.config import Config
from pipelines.ingest import catalogue, listing, song_codes, song_groups, table_songs, vocabulary
from pipelines.ingest.sources import path_in_source
from pipelines.ingest.vectors import artifact_of
from pipelines.run import run
from pipelines.runtime.workspace import Workspace
from tests.pipelines import as_tables
from tests.pipelines.conftest import overrides
from tests.pipelines.inline import SMALL, load, without_ray

ALL = {
    "source__format": "tables",
    "source__tables__songs": "songs.parquet",
    "source__tables__plays": "{paths: plays.csv, columns: {plays: how often, user_id: listener}}",
    "source__tables__lyrics": "[lyrics.csv, lyrics.parquet]",
}


@pytest.fixture(scope="module")
def official(small, tmp_path_factory) -> Workspace:
    """Finished on the official files, whose words are in the order that tables give them."""
    place = tmp_path_factory.mktemp("official")
    corpus = Path(shutil.copytree(small, place / "corpus"))
    with (corpus / "musixmatch/mxm_dataset_train.txt").open("a") as lyrics:
        print("TRZZZZZ128F0000001,1,1:2,5:1", file=lyrics)  # of no song
    with without_ray():
        ingest.STAGE.run(load(corpus, place / "first"))
        as_tables.reorder_words(corpus, as_tables.words_by_songs(Workspace(str(place / "first"))))
        run(load(corpus, place / "w"))
    return Workspace(str(place / "w"))


@pytest.fixture(scope="module")
def tables(official, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tables") / "tables"
    as_tables.write_tables(official, folder)
    return folder


@pytest.fixture(scope="module")
def own(tables, tmp_path_factory) -> Workspace:
    """Finished on the same as tables, cut into many shards."""
    place = tmp_path_factory.mktemp("own") / "w"
    cut = {"ingest__rows_per_shard": 40, "ingest__bytes_per_shard": 4096}
    with without_ray():
        run(load(tables, place, **ALL, **cut))
    return Workspace(str(place))


def rows(workspace: Workspace, artifact: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = workspace.read("ingest", artifact).to_pylist()
    return found


@pytest.mark.parametrize(
    "artifact", ["songs", "users", "plays", "other_songs", "other_plays", "vocabulary"]
)
def test_tables_are_read_as_the_official_files_are(official, own, artifact) -> None:
    assert rows(own, artifact) == rows(official, artifact)


def test_lyrics_of_tables_are_those_of_the_official_files(official, own) -> None:
    """But for musiXmatch's own ids."""
    for artifact in ("lyrics", "other_lyrics"):
        found, expected = (
            sorted(
                workspace.read("ingest", artifact).drop_columns("mxm_id").to_pylist(),
                key=lambda row: row["track_id"],
            )
            for workspace in (own, official)
        )
        assert found == expected
        assert found
    parts = own.parts("ingest", "songs")
    assert parts == own.parts("ingest", "lyrics")
    assert len(parts) > 1
    for part in parts:
        songs, lyrics = (
            own.read_part("ingest", name, part)["track_id"].to_pylist()
            for name in ("songs", "lyrics")
        )
        assert lyrics == [track for track in songs if track in set(lyrics)]


def test_tables_give_the_results_of_the_official_files(official, own) -> None:
    """All there is to rounding: the songs' parts are cut otherwise, so sums have another order."""
    for stage, artifact in (("recommend", "recommendations"), ("evaluate", "metrics")):
        found, expected = (
            workspace.read(stage, artifact).sort_by("user_id") for workspace in (own, official)
        )
        assert found["user_id"].equals(expected["user_id"])
    for column in ("average_precision", "recall", "ndcg", "auc"):
        values = [table[column].to_numpy() for table in (found, expected)]
        np.testing.assert_allclose(*values, rtol=1e-6, atol=1e-9, err_msg=column)
    for name in ("map", "random_map"):
        maps = [w.require("evaluate")["counts"][name] for w in (own, official)]
        assert maps[0] == pytest.approx(maps[1], rel=1e-6)


SONGS = """\
sid;name;artist;genres;year
é1;Été;Zoë;pop|rock;1999
2;Two;Ann;pop;soon
;No id;Ann;pop;2001
2;Two again;Bob;jazz;2002
3;Three;Bob;rock;2003
4;Four;Bob;rock;2004
"""
PLAYS = """\
user_id,song_id,plays
u1,é1,3
u1,2,1
ü2,3,two
ü2,3,2
ü2,9,5
u1,9,1
u3,4,-1
u3,4
u3,,1
u3,4,7
"""
LYRICS = """\
song_id,text
é1,"L'été, l'été revient"
3,"one two two"
8,"three four"
3,"five six"
4,
"""


def written(folder: Path) -> Path:
    folder.mkdir()
    (folder / "songs.csv").write_text(SONGS)
    (folder / "plays.csv").write_text(PLAYS)
    (folder / "lyrics.csv").write_text(LYRICS)
    vectors = {
        "é1": [1.0, 2.0],
        "3": [3.0, 4.0],
        "2": [float("nan"), 0.0],
        "9": [5.0, 6.0],
        "4": [float("inf"), 0.0],
    }
    names = [*vectors, "3"]
    table = pa.table({"song_id": names, "vector": [*vectors.values(), [7.0, 8.0]]})
    pq.write_table(table, folder / "clap-1.parquet")
    longer = pa.table({"song_id": ["2", "4"], "vector": [[1.0, 2.0, 3.0], [9.0, 10.0]]})
    pq.write_table(longer, folder / "clap-2.parquet")
    np.save(folder / "covers.npy", np.arange(6, dtype=np.float16).reshape(2, 3))
    (folder / "covers.txt").write_text("4\né1\n")
    return folder


DEFECTS = {
    "source__format": "tables",
    "source__tables__songs": "{paths: songs.csv, delimiter: ';', columns: {song_id: sid}}",
    "source__tables__plays": "plays.csv",
    "source__tables__lyrics": "lyrics.csv",
    "source__tables__features": "{clap: clap-*.parquet, "
    "covers: {paths: covers.npy, ids: covers.txt}}",
    "ingest__rows_per_shard": 2,
    "ingest__bytes_per_shard": 1024,
    "ingest__max_reject_share": 0.6,
}


@pytest.fixture(scope="module")
def defective(ray_session, tmp_path_factory) -> Workspace:
    """An ingest on Ray of tables with a defect of every kind."""
    place = tmp_path_factory.mktemp("defective")
    folder = written(place / "tables")
    ingest.STAGE.run(config.load(None, overrides(folder, place / "w", **DEFECTS)))
    return Workspace(str(place / "w"))


def test_each_defect_is_listed(defective) -> None:
    found = Counter(
        (row["source"], row["item"], row["action"]) for row in rows(defective, "rejects")
    )
    assert found == Counter(
        [
            ("songs.csv", "3", "nulled"),  # no year
            ("songs.csv", "4", "dropped"),  # no id
            ("songs.csv", "5", "excluded"),
            ("plays.csv", "4", "dropped"),  # no number
            ("plays.csv", "8", "dropped"),  # negative
            ("plays.csv", "9", "dropped"),  # two fields
            ("plays.csv", "10", "dropped"),  # no song
            ("plays", "9", "unmatched"),
            ("lyrics.csv", "6", "excluded"),  # no text
            ("lyrics.csv", "5", "excluded"),
            ("lyrics.csv", "4", "unmatched"),
            ("clap-1.parquet", "3", "dropped"),  # NaN
            ("clap-1.parquet", "5", "dropped"),  # infinite
            ("clap-1.parquet", "6", "excluded"),
            ("clap-1.parquet", "4", "unmatched"),
            ("clap-2.parquet", "1", "dropped"),  # of three columns
        ]
    )
    assert all(row["reason"] for row in rows(defective, "rejects"))
    repeated = [row for row in rows(defective, "rejects") if "read before" in row["reason"]]
    assert {row["detail"] for row in repeated} == {
        "2: row 3 of songs.csv is kept",
        "3: row 3 of lyrics.csv is kept",
        "3: row 2 of clap-1.parquet is kept",
    }


def test_of_repeated_rows_the_first_is_kept_and_the_others_listed_by_their_rows(tmp_path) -> None:
    """However files are cut: text of several lines, blank ones, and a second file."""
    folder = tmp_path / "tables"
    folder.mkdir()
    rng = np.random.default_rng(3)
    first: dict[str, tuple[str, int]] = {}
    expected, titles = set(), {}
    for name in ("a.csv", "b.csv"):
        lines = ["song_id,title"]
        for row in range(200):
            song = f"s{rng.integers(150)}"
            lines += [""] * int(rng.integers(3))
            lines.append(f"{song},{name} {row} {'x' * int(rng.integers(40))}")
            if song in first:
                kept = "row {1} of songs/{0} is kept".format(*first[song])
                expected.add((f"songs/{name}", str(len(lines)), f"{song}: {kept}"))
            else:
                first[song], titles[song] = (name, len(lines)), lines[-1].partition(",")[2].strip()
        (folder / "songs").mkdir(exist_ok=True)
        (folder / "songs" / name).write_text("\n".join(lines) + "\n")
    (folder / "plays.csv").write_text("user_id,song_id\nu,s1\n")
    tables = {"source__format": "tables", "source__tables__songs": "songs"}
    cut = {"source__tables__plays": "plays.csv", "ingest__bytes_per_shard": 1024}
    with without_ray(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(catalogue, "TRACKS_A_PIECE", 50)
        ingest.STAGE.run(load(folder, tmp_path / "w", **tables, **cut))
    found = Workspace(str(tmp_path / "w"))
    repeated = [row for row in rows(found, "rejects") if row["action"] == "excluded"]
    assert {(row["source"], row["item"], row["detail"]) for row in repeated} == expected
    assert len(repeated) == len(expected) > 200
    assert {row["song_id"]: row["title"] for row in rows(found, "songs")} == titles


def test_each_kind_of_table_is_counted(defective) -> None:
    counts = defective.require("ingest")["counts"]
    assert counts["alignment"] == {
        "songs_repeated": 1,
        "songs_in_plays_without_metadata": 1,
        "lyrics_of_unknown_songs": 1,
        "lyrics_repeated": 1,
        "vectors_of_unknown_songs": {"clap": 1, "covers": 0},
        "vectors_repeated": {"clap": 1, "covers": 0},
    }
    assert counts["rejects"] == {"dropped": 8, "nulled": 1, "unmatched": 3, "excluded": 4}
    clap, covers = counts["vectors"]["clap"], counts["vectors"]["covers"]
    assert [clap[name] for name in ("dimension", "vectors", "rejected", "songs")] == [2, 5, 3, 3]
    assert [covers[name] for name in ("dimension", "vectors", "rejected", "songs")] == [3, 2, 0, 2]
    assert [counts[name] for name in ("songs", "users", "plays", "other_plays")] == [4, 3, 4, 2]
    assert counts["streams"].keys() == {"songs", "vectors", "lyrics", "plays", "other_songs"}
    report = defective.read_json("ingest", "report.json")
    assert report == {name: count for name, count in counts.items() if name != "streams"}


def test_the_first_of_each_song_stays_and_the_rest_is_aligned(defective) -> None:
    songs = rows(defective, "songs")
    assert [(row["song_id"], row["title"]) for row in songs] == [
        ("é1", "Été"),
        ("2", "Two"),
        ("3", "Three"),
        ("4", "Four"),
    ]
    assert [row["year"] for row in songs] == [1999, None, 2003, 2004]
    assert songs[0]["mbtags"] == ["pop", "rock"]
    vectors = {name: rows(defective, f"vectors_{name}") for name in ("clap", "covers")}
    for found in vectors.values():
        assert [row["song_id"] for row in found] == [row["song_id"] for row in songs]
    assert [row["vector"] for row in vectors["clap"]] == [[1, 2], [0, 0], [3, 4], [9, 10]]
    assert [row["present"] for row in vectors["clap"]] == [True, False, True, True]
    assert [row["vector"] for row in vectors["covers"]] == [[3, 4, 5], [0] * 3, [0] * 3, [0, 1, 2]]
    for name in ("vectors_clap", "vectors_covers", "lyrics", "lyrics_text"):
        assert defective.parts("ingest", name) == defective.parts("ingest", "songs")
    assert rows(defective, "lyrics_text") == [
        {"track_id": "é1", "text": "L'été, l'été revient"},
        {"track_id": "3", "text": "one two two"},
    ]
    words = [row["word"] for row in rows(defective, "vocabulary")]
    (bag,) = (row for row in rows(defective, "lyrics") if row["track_id"] == "3")
    assert {words[at]: n for at, n in zip(bag["words"], bag["counts"], strict=True)} == {
        "one": 1,
        "two": 2,
    }
    assert {"three", "four"} <= set(words)
    assert not {"five", "six"} & set(words)
    for name in ingest.STAGE.staging:
        assert not defective.parts("ingest", name), name


def ingested(folder: Path, place: Path, **more: object) -> Workspace:
    with without_ray():
        ingest.STAGE.run(config.load(None, overrides(folder, place, **{**DEFECTS, **more})))
    return Workspace(str(place))


def test_nothing_depends_on_how_the_work_is_cut(defective, tmp_path, monkeypatch) -> None:
    for module, name in (
        (catalogue, "TRACKS_A_PIECE"),
        (song_codes, "IDS_A_PIECE"),
        (song_groups, "SONGS_A_GROUP"),
        (vocabulary, "WORDS_A_PIECE"),
    ):
        monkeypatch.setattr(module, name, 1)
    folder = written(tmp_path / "tables")
    found = ingested(folder, tmp_path / "w", ingest__rows_per_shard=1)
    for name in ("songs", "users", "plays", "other_plays", "vocabulary", "lyrics", "lyrics_text"):
        assert rows(found, name) == rows(defective, name), name
    for name in ("vectors_clap", "vectors_covers"):
        assert rows(found, name) == rows(defective, name), name
    listed = [sorted(map(str, rows(w, "rejects"))) for w in (found, defective)]
    assert listed[0] == listed[1]


def test_a_modality_may_have_any_name(tmp_path) -> None:
    """Also that of something which ingest has of all vectors together."""
    folder, names = written(tmp_path / "tables"), ("ids", "places", "unmatched", "rejects")
    features = ", ".join(f"{name}: clap-1.parquet" for name in names)
    found = ingested(folder, tmp_path / "w", source__tables__features=f"{{{features}}}")
    for name in names:
        table = rows(found, f"vectors_{name}")
        assert [row["vector"] for row in table] == [[1, 2], [0, 0], [3, 4], [0, 0]]
    assert found.require("ingest")["counts"]["rejects"]["unmatched"] == 2 + len(names)
    besides = (*ingest.STAGE.staging, *ingest.STAGE.published)
    assert not [name for name in besides if name.startswith(artifact_of(""))]


def test_files_of_one_name_are_told_apart(tmp_path) -> None:
    """In folders of a table, and of several tables."""
    folder = written(tmp_path / "tables")
    contents = {
        "songs/a": "song_id,title\né1,A\n2,B\n3,C\n4,D\n",
        "songs/b": "song_id,title\n,None\n2,Again\n",
        "plays/x=1": PLAYS,
        "plays/x=2": "user_id,song_id,plays\nu1,é1,none\nu1,9,1\n",
        "lyrics/x=1": LYRICS,
        "lyrics/x=2": "song_id,text\n2,\n9,nine\n3,again\n",
    }
    for place, content in contents.items():
        (folder / place).mkdir(parents=True)
        (folder / place / "p.csv").write_text(content)
    named = {f"source__tables__{name}": name for name in ("songs", "plays", "lyrics")}
    found = ingested(folder, tmp_path / "w", **named, source__tables__features="{}")
    listed = {(row["source"], row["item"], row["action"]) for row in rows(found, "rejects")}
    assert listed >= {
        ("songs/b/p.csv", "2", "dropped"),
        ("songs/b/p.csv", "3", "excluded"),
        ("plays/x=1/p.csv", "4", "dropped"),
        ("plays/x=2/p.csv", "2", "dropped"),
        ("lyrics/x=1/p.csv", "4", "unmatched"),
        ("lyrics/x=2/p.csv", "2", "excluded"),
        ("lyrics/x=2/p.csv", "3", "unmatched"),
        ("lyrics/x=2/p.csv", "4", "excluded"),
    }
    assert not any(source == "p.csv" for source, *_ in listed)


@pytest.mark.parametrize(
    ("root", "path", "name"),
    [
        ("", "d/p.csv", "d/p.csv"),
        ("d", "d/x/p.csv", "x/p.csv"),
        ("d/", "d/x/p.csv", "x/p.csv"),
        ("d", "/else/p.csv", "/else/p.csv"),
        ("/", "/d/p.csv", "d/p.csv"),
        ("s3://b/d?region=x", "s3://b/d/x/p.csv?region=x", "x/p.csv"),
        ("d", "s3://b/p.csv", "s3://b/p.csv"),
        ("s3://b", "/d/p.csv", "/d/p.csv"),
    ],
)
def test_rejects_name_the_path_below_the_root(root, path, name) -> None:
    chosen = config.load(None, [f"source.root={root}"] if root else [])
    assert path_in_source(chosen, path) == name


def test_the_vocabulary_has_the_most_frequent_words(tmp_path) -> None:
    folder = written(tmp_path / "tables")
    (folder / "lyrics.csv").write_text("song_id,words\né1,b:1 a:2\n2,c:9 b:1\n3,a:1 d:1\n")
    found = ingested(folder, tmp_path / "w", source__tables__vocabulary=3)
    assert [row["word"] for row in rows(found, "vocabulary")] == ["a", "b", "c"]
    assert [row["words"] for row in rows(found, "lyrics")] == [[0, 1], [1, 2], [0]]
    assert [row["counts"] for row in rows(found, "lyrics")] == [[2, 1], [1, 9], [1]]
    assert not found.parts("ingest", "lyrics_text")


@pytest.mark.parametrize("a_piece", [1, 1 << 19])
def test_without_songs_they_are_those_that_are_played(tmp_path, monkeypatch, a_piece) -> None:
    monkeypatch.setattr(table_songs, "IDS_A_PIECE", a_piece)
    folder = written(tmp_path / "tables")
    found = ingested(folder, tmp_path / "w", source__tables__songs="[]")
    songs = rows(found, "songs")
    assert [row["song_id"] for row in songs] == ["2", "3", "4", "9", "é1"]
    assert {row["title"] for row in songs} == {None}
    assert [row["mbtags"] for row in songs] == [[]] * 5
    counts = found.require("ingest")["counts"]
    assert counts["songs_known_by_id_alone"] == counts["songs"] == 5
    assert [counts[name] for name in ("plays", "other_songs", "other_plays")] == [6, 0, 0]
    assert counts["alignment"]["vectors_of_unknown_songs"] == {"clap": 0, "covers": 0}
    assert [row["present"] for row in rows(found, "vectors_covers")] == [
        *[False] * 2,
        True,
        False,
        True,
    ]


def test_a_published_layout_is_read_by_its_name(tmp_path) -> None:
    """With its vectors, by the name that it has for them, and times."""
    folder = tmp_path / "yambda"
    folder.mkdir()
    listens = {"uid": [7, 7, 5], "item_id": [2, 1, 1], "timestamp": [20, 10, 30]}
    pq.write_table(pa.table(listens), folder / "listens.parquet")
    artists = {"item_id": [1, 2, 2], "artist_id": [100, 200, 300]}
    pq.write_table(pa.table(artists), folder / "artist_item_mapping.parquet")
    vectors = {"item_id": [2, 3], "embed": [[1.0, 2.0], [3.0, 4.0]]}
    pq.write_table(pa.table(vectors), folder / "embeddings.parquet")
    settings = {"source__format": "yambda", "source__tables__features": "{embed: {}}"}
    with without_ray():
        ingest.STAGE.run(load(folder, tmp_path / "w", **settings))
    found = Workspace(str(tmp_path / "w"))
    assert [(r["song_id"], r["artist_id"]) for r in rows(found, "songs")] == [
        ("1", "100"),
        ("2", "200"),
    ]
    plays = [tuple(row.values()) for row in rows(found, "plays")]
    assert plays == [(0, 0, 1), (0, 1, 1), (1, 0, 1)]
    assert [row["time"] for row in rows(found, "play_times")] == [10, 20, 30]
    assert [row["vector"] for row in rows(found, "vectors_embed")] == [[0, 0], [1, 2]]
    # That a song has several artists, a row each, is no defect; vectors of no song are.
    listed = [(row["item"], row["detail"], row["action"]) for row in rows(found, "rejects")]
    assert listed == [("2", "3", "unmatched")]
    settings["source__tables__features"] = "{covers: {}}"
    with pytest.raises(ConfigError, match=r"covers names no file.*the layout has embed"):
        ingest.STAGE.run(load(folder, tmp_path / "v", **settings))


def test_lyrics_may_be_named_by_track(tmp_path) -> None:
    folder = written(tmp_path / "tables")
    (folder / "songs.csv").write_text("sid;track_id\né1;T1\n2;T2\n")
    (folder / "lyrics.csv").write_text("song_id,track_id,text\n2,T2,two\n9,T9,nine\n")
    found = ingested(folder, tmp_path / "w")
    lyrics, others = (
        [row["track_id"] for row in rows(found, name)] for name in ("lyrics", "other_lyrics")
    )
    assert (lyrics, others) == (["T2"], ["T9"])
    (folder / "songs.csv").write_text("sid\né1\n2\n")
    with pytest.raises(SourceError, match=r"lyrics\.csv: has a column track_id, where"):
        ingested(folder, tmp_path / "w")


def test_a_table_that_was_read_is_not_read_again(tmp_path, monkeypatch) -> None:
    folder = written(tmp_path / "tables")

    def stop(*_: object) -> None:
        raise SourceError("stopped")

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.ingest.plays.read_table", stop)
        with pytest.raises(SourceError, match="stopped"):
            ingested(folder, tmp_path / "w")
    monkeypatch.setattr("pipelines.ingest.table_songs.read_songs", stop)
    monkeypatch.setattr("pipelines.ingest.vectors.read_features", stop)
    monkeypatch.setattr("pipelines.ingest.table_lyrics.read_lyrics", stop)
    assert len(rows(ingested(folder, tmp_path / "w"), "songs")) == 4


@pytest.mark.parametrize("kind", ["songs", "plays", "lyrics", "clap"])
def test_too_many_rejects_of_a_kind_stop_the_run(tmp_path, kind) -> None:
    folder = written(tmp_path / "tables")
    (folder / "lyrics.csv").write_text("song_id,text\né1,a\n,b\n")
    limits = {"songs": 0.1, "plays": 0.2, "lyrics": 0.4, "clap": 0.3}
    tables = {
        "songs": {},
        "plays": {"source__tables__songs": "[]"},
        "lyrics": {"source__tables__songs": "[]", "source__tables__features": "{}"},
        "clap": {},
    }
    if kind == "lyrics":
        (folder / "plays.csv").write_text("user_id,song_id\nu,é1\n")
    more = {"ingest__max_reject_share": limits[kind], **tables[kind]}
    first = {
        "songs": r"songs\.csv 4: empty song_id",
        "plays": r"plays\.csv 4: plays is not a number, 'two'",
        "lyrics": r"lyrics\.csv 3: empty song_id",
        "clap": r"clap-1\.parquet 3: vector has NaN or infinite values, '2'",
    }
    message = rf"{kind}.* rejected, more than .*the first is {first[kind]}\)"
    with pytest.raises(TooManyRejectsError, match=message):
        ingested(folder, tmp_path / "w", **more)


def configured(folder: Path, place: Path, **more: object) -> Config:
    return config.load(None, overrides(folder, place, **{**SMALL, **DEFECTS, **more}))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"source__tables__plays": "[]"}, r"^source\.tables\.plays names no file"),
        ({"source__format": "msd"}, r"source\.tables\.songs is given, but source\.format is msd"),
        ({"source__tables__features": "{clap: []}"}, r"source\.tables\.features\.clap names no"),
        (
            {"source__tables__lyrics": "{columns: {text: verses}}"},
            r"^source\.tables\.lyrics\.columns is given, but source\.tables\.lyrics\.paths names",
        ),
        (
            {"source__tables__songs": "{delimiter: ;, separator: ;}"},
            r"^source\.tables\.songs\.delimiter is given, but .* or leave it out$",
        ),
        (
            {
                "source__format": "yambda",
                "source__tables__songs": "{}",
                "source__tables__plays": "{columns: {user_id: u}}",
            },
            r"source\.tables\.plays\.columns is given, .* yambda are read as they were published$",
        ),
        (
            {"source__format": "yambda", "source__tables__features": "{embed: {ids: e.txt}}"},
            r"^source\.tables\.features\.embed\.ids is given",
        ),
        (
            {
                "source__format": "msd",
                "source__tables__songs": "{columns: {title: name}}",
                "source__tables__plays": "{}",
            },
            r"source\.tables\.songs is given, but source\.format is msd",
        ),
        ({"source__other_songs": "track_metadata.db"}, r"source\.other_songs is given, but only"),
        ({"source__artist_terms": "artist_term.db"}, r"source\.artist_terms is given, but only"),
        ({"source__plays": "plays.csv"}, r"source\.plays is.*or set source\.tables\.plays"),
        ({"ingest__segments": "stats"}, r"ingest\.segments is.*source\.format is tables"),
    ],
)
def test_keys_that_do_not_fit_are_named(tmp_path, more, message) -> None:
    folder = written(tmp_path / "tables")
    settings = configured(folder, tmp_path / "w", **more)
    with without_ray(), pytest.raises(ConfigError, match=message):
        ingest.STAGE.run(settings)


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    folder = written(tmp_path / "tables")
    (folder / "lyrics.csv").unlink()
    settings = configured(folder, tmp_path / "w")
    with without_ray():
        with pytest.raises(SourceError, match=r"lyrics\.csv: .*source\.tables\.lyrics"):
            ingest.STAGE.run(settings)
        found = {each.what: each for each in check(settings, [ingest.STAGE], [])}
    assert "source.tables.lyrics" in str(found["sources"].error)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "plays.csv",
            "who,what\nu1,é1\n",
            r"plays\.csv: no column is user_id \(it has who, what\)",
        ),
        ("songs.csv", "name;genres\nA;pop\n", r"songs\.csv: has no column sid"),
        ("lyrics.csv", "song_id,track_id,text\né1,T1,a\n", r"lyrics\.csv: has a column track_id"),
        ("covers.txt", "é1\n", r"covers\.npy: has 2 rows, where .*covers\.txt has 1"),
    ],
)
def test_a_file_that_will_not_do_is_told_of_before_any_is_read(
    tmp_path, monkeypatch, file, content, message
) -> None:
    folder = written(tmp_path / "tables")
    (folder / file).write_text(content)
    settings = configured(folder, tmp_path / "w")
    for kind in ("table_songs.read_songs", "plays.read_table", "vectors.read_features"):
        monkeypatch.setattr(f"pipelines.ingest.{kind}", lambda *_: pytest.fail("it was read"))
    with without_ray():
        found = {each.what: each for each in check(settings, [ingest.STAGE], [])}
        with pytest.raises(SourceError, match=message):
            ingest.STAGE.run(settings)
    assert re.search(message, found["sources"].text)
    assert isinstance(found["sources"].error, SourceError)


def test_a_check_says_how_many_tables_are_there(tmp_path) -> None:
    settings = configured(written(tmp_path / "tables"), tmp_path / "w")
    with without_ray():
        found = {each.what: each for each in check(settings, [ingest.STAGE], [])}
    assert found["sources"].text == "6 tables are there, with the columns that they need"


def test_every_file_counts_in_the_state_of_tables(tmp_path) -> None:
    folder = written(tmp_path / "tables")
    settings = configured(folder, tmp_path / "w")
    before = listing.source_state(settings)
    names = ["songs.csv", "plays.csv", "lyrics.csv", "clap-1.parquet", "clap-2.parquet"]
    names += ["covers.npy", "covers.txt"]
    assert [Path(row[0]).name for row in before] == names
    for name in names:
        with (folder / name).open("ab") as file:
            file.write(b"\n")
        after = listing.source_state(settings)
        assert after != before
        before = after


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "no song of the train part has mbtags.*give source.tables.songs a column of tags"),
        ({"train__objective": "factors"}, "features are constant.*nothing tells songs apart; add"),
    ],
)
def test_of_plays_alone_it_is_said_what_is_missing(tmp_path, more, message) -> None:
    lines = [f"u{user},s{(user * 7 + song) % 40}" for user in range(20) for song in range(5)]
    (tmp_path / "p.csv").write_text("\n".join(["user_id,song_id", *lines]))
    alone = {"source__format": "tables", "source__tables__plays": "p.csv"}
    settings = {**alone, "embed__modalities": "[metadata]", "recommend__model": "network", **more}
    if not more:
        settings["recommend__model"] = "genre"
    with without_ray(), pytest.raises(DataError, match=message):
        run(load(tmp_path, tmp_path / "w", **settings))
