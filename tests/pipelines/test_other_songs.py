"""Plays of songs outside the catalogue, kept to be learned from, and what is known of the songs."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fusionrec import schemas
from fusionrec.errors import SourceError
from fusionrec.formats import hdf5
from fusionrec.formats.sample.corpus import write_sample
from pipelines.ingest import STAGE
from pipelines.runtime.workspace import Workspace
from tests.formats.test_msd_sqlite import metadata, similarity, song, tags
from tests.pipelines.inline import load, without_ray

LISTS = ("terms", "term_weights", "mbtags", "mbtag_counts", "similar_artists")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A sample corpus whose every third track has no HDF5 file, nor has one whole artist."""
    place = tmp_path_factory.mktemp("others") / "corpus"
    write_sample(place, songs=80, users=40, seed=4)
    read = hdf5.read_tracks(hdf5.track_paths(str(place / "MillionSong"))).table.to_pylist()
    gone = read[0]["artist_id"]
    for i, row in enumerate(read):
        if i % 3 == 0 or row["artist_id"] == gone:
            track = row["track_id"]
            (place / "MillionSong/data" / "/".join(track[2:5]) / f"{track}.h5").unlink()
    return place


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """What the same corpus says of every song, by its id, before any was taken away."""
    place = tmp_path_factory.mktemp("all") / "corpus"
    write_sample(place, songs=80, users=1, seed=4)
    rows = hdf5.read_tracks(hdf5.track_paths(str(place / "MillionSong"))).table.to_pylist()
    return {row["song_id"]: row for row in reversed(rows)}


def ingest(corpus: Path, place: Path, **more: object) -> tuple[dict[str, Any], Workspace]:
    with without_ray():
        counts = STAGE.run(load(corpus, place, **more))["counts"]
    return counts, Workspace(str(place))


def triplets(corpus: Path) -> Counter[tuple[str, str, int]]:
    """The sound ones of the file."""
    found: Counter[tuple[str, str, int]] = Counter()
    for line in (corpus / "tasteprofile/train_triplets.txt").read_text().splitlines():
        user, *rest = line.split("\t")
        if len(rest) == 2 and rest[1].isdigit():
            found[user, rest[0], int(rest[1])] += 1
    return found


def coded(workspace: Workspace, plays: str, songs: str) -> Counter[tuple[str, str, int]]:
    users = workspace.read("ingest", "users")["user_id"].to_pylist()
    ids = workspace.read("ingest", songs)["song_id"].to_pylist()
    table = workspace.read("ingest", plays)
    assert table.schema == schemas.PLAYS
    return Counter((users[r["user"]], ids[r["song"]], r["plays"]) for r in table.to_pylist())


@pytest.mark.parametrize(
    "cut", [{}, {"ingest__bytes_per_shard": 4096, "ingest__rows_per_shard": 5}]
)
def test_no_play_is_lost_but_those_of_mismatched_songs(corpus, tmp_path, cut) -> None:
    counts, workspace = ingest(corpus, tmp_path / "w", **cut)
    own = set(workspace.read("ingest", "songs")["song_id"].to_pylist())
    others = workspace.read("ingest", "other_songs")
    ids = others["song_id"].to_pylist()
    assert ids == sorted(set(ids))
    assert not own & set(ids)
    found = triplets(corpus)
    in_corpus = hdf5.read_tracks(hdf5.track_paths(str(corpus / "MillionSong"))).table["song_id"]
    mismatched = set(in_corpus.to_pylist()) - own
    assert mismatched
    assert coded(workspace, "plays", "songs") == Counter(
        {each: n for each, n in found.items() if each[1] in own}
    )
    expected = Counter({e: n for e, n in found.items() if e[1] not in own | mismatched})
    assert coded(workspace, "other_plays", "other_songs") == expected
    assert (counts["other_songs"], counts["other_plays"]) == (len(ids), expected.total())
    assert len(ids) > 20
    assert (
        counts["plays"] + counts["other_plays"] + counts["triplets_on_mismatched_songs"]
        == (counts["triplets"])
    )
    # Nothing is known of them, and each is listed.
    assert others.schema == schemas.SONGS
    assert all(others[n].null_count == len(ids) for n in others.column_names if n != "song_id")
    assert counts["other_songs_with_metadata"] == 0
    listed = workspace.read("ingest", "rejects").to_pylist()
    assert ids == sorted(r["item"] for r in listed if r["reason"] == "song id not in the corpus")
    if cut:
        assert len(workspace.parts("ingest", "other_songs")) == -(-len(ids) // 5)
        assert (corpus / "tasteprofile/train_triplets.txt").stat().st_size > 3 * 4096


@pytest.mark.parametrize("rows_per_shard", [7, 1000])
def test_what_the_databases_and_the_catalogue_know(
    corpus, everything, tmp_path, rows_per_shard
) -> None:
    root = tmp_path / "corpus"
    shutil.copytree(corpus, root)
    _, bare = ingest(root, tmp_path / "bare")
    catalogue = bare.read("ingest", "songs").to_pylist()
    of_artist = {row["artist_id"]: row for row in reversed(catalogue)}
    played = bare.read("ingest", "other_songs")["song_id"].to_pylist()
    strangers = [s for s in played if s not in everything]  # of the corpus's damaged lines
    described = [everything[s] for s in played if s in everything]
    gone = [row for row in described if row["artist_id"] not in of_artist]
    shared = [row for row in described if row["artist_id"] in of_artist]
    assert strangers
    assert gone
    assert len(shared) > 5
    wrong, mended, unheard = shared[0], shared[1], shared[2]
    rows = [
        song(0, **{n: row[n] for n in ("track_id", "song_id", "title", "release", "artist_id",
                                       "artist_name", "duration", "artist_hotttnesss",
                                       "artist_familiarity")}, year=row["year"] or 0)
        for row in described if row is not unheard
    ]  # fmt: skip
    # A pair that is listed as wrong, before a right one; and one more that comes too late.
    rows += [
        song(1, track_id="TRAAAAA", song_id=mended["song_id"], title="Somebody else's"),
        song(2, track_id="TRZZZZZ", song_id=mended["song_id"], title="The second"),
        song(3, track_id="TRZZZZY", song_id="SONEVERPLAYED"),
    ]
    metadata(root / "track_metadata.db", rows)
    new = gone[0]["artist_id"]
    untagged, tagged = (
        next(a for row in shared[3:] if bool((a := of_artist[row["artist_id"]])["mbtags"]) is has)
        for has in (False, True)
    )
    pairs = [(new, "tag"), (untagged["artist_id"], "other"), (tagged["artist_id"], "unused")]
    tags(root / "artist_term.db", pairs, [(new, "term")])
    similarity(root / "artist_similarity.db", [(new, "ARB"), (new, "ARA")])
    with (root / "tasteprofile/sid_mismatches.txt").open("a") as file:
        file.write(f"ERROR: <{wrong['song_id']} {wrong['track_id']}> x\n")
        file.write(f"ERROR: <{mended['song_id']} TRAAAAA> x\n")
    counts, workspace = ingest(
        root,
        tmp_path / "w",
        source__other_songs="track_metadata.db",
        source__artist_terms="artist_term.db",
        source__artist_similarity="artist_similarity.db",
        ingest__rows_per_shard=rows_per_shard,
    )
    table = workspace.read("ingest", "other_songs")
    assert table.schema == schemas.SONGS
    found = {row["song_id"]: row for row in table.to_pylist()}
    assert list(found) == played
    nothing = dict.fromkeys(table.column_names)
    for unknown in (*strangers, wrong["song_id"], unheard["song_id"]):
        assert found[unknown] == nothing | {"song_id": unknown}
    known = [row for row in described if row is not wrong and row is not unheard]
    for row in known:
        mine = found[row["song_id"]]
        same = ("track_id", "title", "artist_id", "year", "duration", "artist_hotttnesss")
        assert {n: mine[n] for n in same} == {n: row[n] for n in same}
        assert mine["song_hotttnesss"] is mine["tempo"] is None
        if row["artist_id"] in of_artist:
            theirs = of_artist[row["artist_id"]]
            more = {"mbtags": ["other"], "mbtag_counts": [1]} if theirs is untagged else {}
            # What no source knows of is null, not empty.
            assert {n: mine[n] for n in LISTS} == {n: theirs[n] or more.get(n) for n in LISTS}
        else:
            expected = [["term"], None, ["tag"], [1], ["ARB", "ARA"]]
            expected = expected if row["artist_id"] == new else [None] * 5
            assert [mine[n] for n in LISTS] == expected
    assert found[mended["song_id"]]["track_id"] == mended["track_id"]
    listed = workspace.read("ingest", "rejects").to_pylist()
    assert {(r["item"], r["reason"]) for r in listed if r["source"] == "other_songs"} == {
        (wrong["track_id"], "known mismatch"),
        ("TRAAAAA", "known mismatch"),
        ("TRZZZZZ", "song of another track"),
    }
    assert counts["other_songs_with_metadata"] == counts["other_songs_with_artist"] == len(known)
    assert counts["other_songs_of_catalogue_artists"] == sum(
        row["artist_id"] in of_artist for row in known
    )
    assert counts["other_songs_mismatched"] == 1
    assert counts["other_songs_with_terms"] == sum(bool(found[s]["terms"]) for s in found)
    # What is known of them changes nothing in what was played.
    assert coded(workspace, "other_plays", "other_songs") == coded(
        bare, "other_plays", "other_songs"
    )


def test_where_nothing_is_played_there_are_no_other_songs(corpus, tmp_path) -> None:
    counts, workspace = ingest(corpus, tmp_path / "w", source__plays="[]")
    assert counts["other_songs"] == counts["other_plays"] == counts["users"] == 0
    assert workspace.read("ingest", "other_songs").equals(schemas.SONGS.empty_table())


def test_other_songs_are_of_sqlite(corpus, tmp_path) -> None:
    with pytest.raises(
        SourceError, match=r"unique_tracks\.txt: source\.other_songs must be a \.db"
    ):
        ingest(corpus, tmp_path / "w", source__other_songs="AdditionalFiles/unique_tracks.txt")
