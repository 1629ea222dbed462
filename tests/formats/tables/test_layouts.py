"""Each published layout, on small files in its form."""

from __future__ import annotations

import bz2
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fusionrec.errors import SourceError
from fusionrec.formats.batch import Batch
from fusionrec.formats.tables import (
    LAYOUTS,
    columns_of,
    ranges,
    read_features,
    read_head,
    read_plays,
    read_songs,
    table_files,
)
from fusionrec.formats.tables.spec import Beside, TableSpec
from tests.formats.tables.helpers import rejects, rows, write, write_parquet


def all_of(read: Any, spec: TableSpec) -> list[Batch]:
    """All files of a table, as a run reads them."""
    batches = []
    for path in table_files(spec):
        assert columns_of(path, spec)
        assert len(read_head(path, spec)) > 0
        for each in ranges(path, spec, rows=2, bytes_=64):
            batches.append(read(path, spec, *each))  # noqa: PERF401
    return batches


def found(
    name: str, root: Path | str, *columns: str, times: bool = False
) -> tuple[list, list, list]:
    """Plays, these columns of the songs, and rejects."""
    tables = LAYOUTS[name].tables(str(root), times)
    plays, songs = all_of(read_plays, tables["plays"]), all_of(read_songs, tables["songs"])
    return (
        rows(pa.concat_tables([each.table for each in plays])),
        rows(pa.concat_tables([each.table for each in songs]).select(columns)),
        [reject for each in (*plays, *songs) for reject in rejects(each)],
    )


def test_recbole(tmp_path: Path) -> None:
    write(
        tmp_path,
        "ml/ml.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t1193\t5\t978300760\n",
    )
    write(
        tmp_path,
        "ml/ml.item",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tgenre:token_seq\n"
        '1193\tOne "Flew" Over\t1975\tDrama Children\'s\n',
    )
    write(tmp_path, "ml/ml.user", "user_id:token\tage:token\n1\t1\n")
    assert found("recbole", tmp_path / "ml", "song_id", "title", "year", "mbtags") == (
        [("1", "1193", 5, 978300760)],
        [("1193", 'One "Flew" Over', 1975, ["Drama", "Children's"])],
        [],
    )


@pytest.mark.parametrize("ending", ["gz", "bz2", "zst"])
def test_recbole_compressed(tmp_path: Path, ending: str) -> None:
    """Where a file is there as it is, too, it is not read twice."""
    plays = "user_id:token\titem_id:token\n1\t7\n"
    for name, content in (
        ("x.inter", plays),
        ("x.item", "item_id:token\ttitle:token_seq\n7\tSeven\n"),
    ):
        with pa.output_stream(tmp_path / f"{name}.{ending}") as stream:  # compressed by its name
            stream.write(content.encode())
    expected = ([("1", "7", 1)], [("7", "Seven")], [])
    assert found("recbole", tmp_path, "song_id", "title") == expected
    write(tmp_path, "x.inter", plays)
    assert found("recbole", tmp_path, "song_id", "title") == expected


def test_recbole_of_artists_in_parts(tmp_path: Path) -> None:
    head = "user_id:token\tartist_id:token\tweight:float\ttag_value:token_seq\n"
    write(tmp_path, "lastfm.train.inter", head + "2\t51\t13883.0\tx y\n")
    write(tmp_path, "lastfm.test.inter", head + "2\t52\t11690.0\t\n")
    tables = LAYOUTS["recbole"].tables(str(tmp_path))
    batches = all_of(read_plays, tables["plays"])
    assert rows(pa.concat_tables([each.table for each in batches])) == [
        ("2", "52", 11690),
        ("2", "51", 13883),
    ]
    assert "songs" not in tables
    write(tmp_path, "other.inter", head)
    with pytest.raises(SourceError, match="finds those of lastfm, other"):
        LAYOUTS["recbole"].tables(str(tmp_path))


def test_lfm_1b(tmp_path: Path) -> None:
    events = "31435726\t2\t4\t4\t1385212958\n31435726\t3\t4\t5\t1385212642\n"
    write(tmp_path, "LFM-1b_LEs.txt", events)
    write(tmp_path, "LFM-1b_tracks.txt", '4\t"Quoted\t2\n5\tJóga\t9\n')
    write(tmp_path, "LFM-1b_artists.txt", "2\tLove & the\n3\tBjörk\n")
    plays, songs, odd = found("lfm-1b", tmp_path, "song_id", "title", "artist_id", "artist_name")
    assert plays == [("31435726", "4", 1, 1385212958), ("31435726", "5", 1, 1385212642)]
    assert songs == [("4", '"Quoted', "2", "Love & the"), ("5", "Jóga", "9", None)]
    assert odd == [("2", "artist_name is empty", "", "nulled")]


def test_lfm_2b(tmp_path: Path) -> None:
    counts = b"user_id\ttrack_id\tcount\n0\t10\t3\n0\t11\t1\n"
    (tmp_path / "listening-counts.tsv.bz2").write_bytes(bz2.compress(counts))
    write(tmp_path, "tracks.tsv", "track_id\tartist_name\ttrack_name\n10\tA\tX\n11\tB\tY\n")
    assert found("lfm-2b", tmp_path, "song_id", "artist_name", "title") == (
        [("0", "10", 3), ("0", "11", 1)],
        [("10", "A", "X"), ("11", "B", "Y")],
        [],
    )
    write(
        tmp_path,
        "listening-events.tsv",
        "user_id\ttrack_id\talbum_id\ttimestamp\n0\t10\t5\t2020-02-27 15:06:28\n",
    )
    lines = [
        {"_id": {"artist": "A", "track": "X"}, "tags": {"rock": 100, "indie rock": 60}, "i": 10},
        {"_id": {"artist": "C", "track": "Z"}, "tags": {}, "i": 12},
    ]
    write(tmp_path, "tags-micro-genres.json", "".join(json.dumps(each) + "\n" for each in lines))
    names = ("song_id", "artist_name", "title", "mbtags", "mbtag_counts")
    assert found("lfm-2b", tmp_path, *names, times=True) == (
        [("0", "10", 1, 1582815988)],
        [("10", "A", "X", ["rock", "indie rock"], [100, 60]), ("12", "C", "Z", [], [])],
        [],
    )


def test_music4all_onion(tmp_path: Path) -> None:
    write(tmp_path, "userid_trackid_count.tsv", "user_id\ttrack_id\tcount\nu\t01ab\t2\n")
    write(
        tmp_path,
        "userid_trackid_timestamp.tsv",
        "user_id\ttrack_id\ttimestamp\nu\t01ab\t2020-01-26 10:11\n",
    )
    tags = "id\ttags\n01ab\t{'pop': 100, 'r&b': 7}\n02cd\t{}\n"
    (tmp_path / "id_tags_dict.tsv.bz2").write_bytes(bz2.compress(tags.encode()))
    write(tmp_path, "id_ivec256.tsv", "id\t0\t1\n01ab\t0.5\t-1\n")
    names = ("song_id", "terms", "term_weights")
    assert found("music4all-onion", tmp_path, *names) == (
        [("u", "01ab", 2)],
        [("01ab", ["pop", "r&b"], [100.0, 7.0]), ("02cd", [], [])],
        [],
    )
    write(
        tmp_path,
        "id_information.csv",
        "id\tartist\tsong\talbum_name\n02cd\tA\tS\tL\n01ab\tB\tT\tM\n",
    )
    write(
        tmp_path,
        "id_metadata.csv",
        "id\tspotify_id\tpopularity\trelease\tkey\tmode\ttempo\tduration_ms\n"
        "01ab\tx\t54.0\t2012\t5.0\t1.0\t104.017\t230227\n",
    )
    names = ("song_id", "artist_name", "title", "release", "year", "key", "duration", "terms")
    plays, songs, _ = found("music4all-onion", tmp_path, *names, times=True)
    assert plays == [("u", "01ab", 1, 1580033460)]
    assert songs == [
        ("02cd", "A", "S", "L", None, None, None, []),
        ("01ab", "B", "T", "M", 2012, 5, pytest.approx(230.227), ["pop", "r&b"]),
    ]
    features = LAYOUTS["music4all-onion"].features(str(tmp_path))
    assert list(features) == ["ivec256"]
    (batch,) = all_of(read_features, features["ivec256"])
    assert rows(batch.table) == [("01ab", [0.5, -1.0])]


def test_yambda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listens = {
        "uid": pa.array([10, 20], pa.uint32()),
        "timestamp": pa.array([15929455, 18111700], pa.uint32()),
        "item_id": pa.array([6928395, 6417612], pa.uint32()),
        "is_organic": pa.array([1, 0], pa.uint8()),
        "played_ratio_pct": pa.array([100, 5], pa.uint16()),
        "track_length_seconds": pa.array([170, 180], pa.uint32()),
    }
    write_parquet(tmp_path, "flat/50m/listens.parquet", listens)
    artists = {"artist_id": [1, 2, 3], "item_id": [6928395, 6928395, 6417612]}
    write_parquet(tmp_path, "artist_item_mapping.parquet", artists)
    vectors = {"item_id": [6928395], "embed": [[1.0, 2.0]], "normalized_embed": [[0.4, 0.8]]}
    write_parquet(tmp_path, "embeddings.parquet", vectors)
    expected = (
        [("10", "6928395", 1, 15929455), ("20", "6417612", 1, 18111700)],
        [("6928395", "1"), ("6417612", "3")],
        [],
    )
    assert found("yambda", tmp_path, "song_id", "artist_id") == expected
    inner = tmp_path / "flat/50m"
    assert found("yambda", inner, "song_id", "artist_id") == expected
    (batch,) = all_of(read_features, LAYOUTS["yambda"].features(str(inner))["embed"])
    assert rows(batch.table) == [("6928395", [1.0, 2.0])]
    for folder, root in ((tmp_path, "flat/50m"), (tmp_path / "flat", "50m"), (inner, ".")):
        monkeypatch.chdir(folder)
        assert found("yambda", root, "song_id", "artist_id") == expected
        assert list(LAYOUTS["yambda"].features(root)) == ["embed"]
    assert found("yambda", f"file://{inner}", "song_id", "artist_id") == expected
    write_parquet(tmp_path, "flat/5b/listens.parquet", listens)
    with pytest.raises(SourceError, match=r"has .*50m and .*5b; name one of them"):
        LAYOUTS["yambda"].tables(str(tmp_path))


def test_spotify_playlists(tmp_path: Path) -> None:
    def track(uri: str, name: str, **more: Any) -> dict[str, Any]:
        of = {"artist_name": "Degiheugi", "artist_uri": "spotify:artist:3V", "album_name": "Album"}
        return {"pos": 0, "track_uri": uri, "track_name": name, "duration_ms": 166264, **of, **more}

    playlists = [
        {"pid": 5, "name": "musical", "tracks": [track("t:1", "One"), track("t:2", "Two")]},
        {"pid": 6, "tracks": [track("t:1", "One"), track("", "None"), "nothing"]},
        {"pid": 7},
    ]
    content = json.dumps({"info": {}, "playlists": playlists})
    write(tmp_path, "data/mpd.slice.0-999.json", content)
    write(tmp_path, "data/other.json", "{}")
    plays, songs, odd = found("spotify-mpd", tmp_path, "song_id", "title", "duration", "artist_id")
    assert plays == [("5", "t:1", 1), ("5", "t:2", 1), ("6", "t:1", 1)]
    seconds = pytest.approx(166.264)
    assert songs == [
        ("t:1", "One", seconds, "spotify:artist:3V"),
        ("t:2", "Two", seconds, "spotify:artist:3V"),
    ]
    assert odd[:3] == [
        ("4", "track is no object", "nothing", "dropped"),
        ("4", "playlist has no tracks", "7", "dropped"),
        ("4", "empty song_id", "", "dropped"),
    ]
    write(tmp_path, "data/mpd.slice.0-999.json", content[:-9])
    tables = LAYOUTS["spotify-mpd"].tables(str(tmp_path))
    with pytest.raises(SourceError, match=r"0-999\.json: is no JSON .*get it again"):
        all_of(read_plays, tables["plays"])


def test_lastfm_360k(tmp_path: Path) -> None:
    lines = (
        "00000c289a\t3bd73256\tbetty blowtorch\t2137\n"
        "00000c289a\t\tdie Ärzte\t1099\n"
        'ffff\t3bd73256\tbetty "blowtorch\t0\n'
        "ffff\t\t\t5\n"
    )
    write(tmp_path, "usersha1-artmbid-artname-plays.tsv", lines)
    tables = LAYOUTS["lastfm-360k"].tables(str(tmp_path))
    (path,) = table_files(tables["plays"])
    batch = read_plays(path, tables["plays"])
    assert rows(batch.table) == [
        ("00000c289a", "3bd73256", 2137),
        ("00000c289a", "die Ärzte", 1099),
    ]
    assert [reject[:2] for reject in rejects(batch)] == [
        ("3", "plays is zero or negative"),
        ("4", "empty song_id"),
    ]
    songs = read_songs(path, tables["songs"]).table.select(["song_id", "title", "artist_name"])
    assert rows(songs) == [
        ("3bd73256", "betty blowtorch", "betty blowtorch"),
        ("die Ärzte", "die Ärzte", "die Ärzte"),
    ]


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_an_empty_folder_is_told_of(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=r"source\.root"):
        LAYOUTS[name].tables(str(tmp_path))
    assert LAYOUTS[name].features(str(tmp_path)) == {}
    with pytest.raises(SourceError, match=r"source\.root"):
        LAYOUTS[name].tables(f"file://{tmp_path}/gone")


def test_a_layout_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "d/x.inter", "user_id:token\titem_id:token\nu\ts\n")
    assert table_files(LAYOUTS["recbole"].tables("~/d")["plays"]) == [str(tmp_path / "d/x.inter")]


def test_a_layout_on_another_filesystem(tmp_path: Path) -> None:
    write(tmp_path, "d/x.inter", "user_id:token\titem_id:token\nu\ts\n")
    tables = LAYOUTS["recbole"].tables(f"file://{tmp_path}/d")
    (batch,) = all_of(read_plays, tables["plays"])
    assert rows(batch.table) == [("u", "s", 1)]


def test_what_other_tables_know_is_found_by_any_id(tmp_path: Path) -> None:
    main = write_parquet(tmp_path, "a.parquet", {"song_id": [3, 1, None, 2], "title": [*"cabx"]})
    other = write(tmp_path, "b.csv", "id,title,year\n1.0,ignored,2001\n3.0,,2003\n3.0,,1999\n")
    none = write_parquet(
        tmp_path, "c.parquet", {"song_id": pa.array([], pa.int8()), "bpm": pa.array([], pa.int8())}
    )
    beside = tuple(Beside(TableSpec("songs", (path,))) for path in (other, none))
    batch = read_songs(main, TableSpec("songs", (main,), beside=beside))
    assert rows(batch.table.select(["song_id", "title", "year", "tempo"])) == [
        ("3", "c", 2003, None),
        ("1", "a", 2001, None),
        ("2", "x", None, None),
    ]
