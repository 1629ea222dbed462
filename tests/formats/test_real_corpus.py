"""The readers on a real corpus, whose place `FUSIONREC_REAL_CORPUS` names; counts by hand."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import pyarrow.compute as pc
import pytest

from fusionrec.formats import hdf5, msd_sqlite, musixmatch, tagtraum, taste_profile, text

ROOT = os.environ.get("FUSIONREC_REAL_CORPUS", "")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not ROOT, reason="FUSIONREC_REAL_CORPUS is not set"),
]


def place(name: str) -> str:
    return str(Path(ROOT) / name)


def test_tracks() -> None:
    root = place("MillionSong")
    paths = hdf5.track_paths(root)
    assert len(paths) == 691
    batch = hdf5.read_tracks(paths, root)
    assert (len(batch.table), batch.read) == (691, 691)
    tagged = pc.greater(pc.list_value_length(batch.table["mbtags"]), 0)
    assert pc.sum(tagged).as_py() == 457
    assert pc.min(pc.list_value_length(batch.table["terms"])).as_py() > 0
    assert set(batch.rejects["action"].to_pylist()) <= {"nulled"}
    # The official years run from 1922 to 2011; 0 stands for unknown.
    unknown = batch.rejects["reason"].to_pylist().count("year unknown")
    assert unknown == batch.table["year"].null_count


def test_segments_agree_with_h5py() -> None:
    root = place("MillionSong")
    paths = hdf5.track_paths(root)[:300]
    batch = hdf5.read_tracks(paths, root, segments=True)
    assert batch.segments is not None
    assert len(batch.segments) == len(paths)
    for path, row in zip(paths, batch.segments.to_pylist(), strict=True):
        with h5py.File(path, locking=False) as file:
            assert row["track_id"].encode() == file["analysis/songs"]["track_id"][0]
            for name in ("start", "timbre", "pitches", "loudness_max"):
                expected = file[f"analysis/segments_{name}"][()].astype("f4")
                assert row[name] == expected.tolist()


def test_similar_artists_agree_with_h5py() -> None:
    root = place("MillionSong")
    paths = hdf5.track_paths(root)
    batch = hdf5.read_tracks(paths, root)
    assert batch.direct >= 690
    for path, similar in zip(paths, batch.table["similar_artists"].to_pylist(), strict=True):
        with h5py.File(path, locking=False) as file:
            expected = file["metadata/similar_artists"][()].tolist()
        assert [artist.encode() for artist in similar] == expected


@pytest.mark.parametrize(("part", "lines", "cut"), [("train", 633, 0), ("test", 8260, 1)])
def test_lyrics(part: str, lines: int, cut: int) -> None:
    path = place(f"musixmatch/mxm_dataset_{part}.txt")
    assert len(musixmatch.read_vocabulary(path)) == 5000
    batches = [musixmatch.read_lyrics(path, *r) for r in text.byte_ranges(path, 1_000_003)]
    assert sum(b.read for b in batches) == lines
    assert sum(len(b.table) for b in batches) == lines - cut
    rejects = [r for b in batches for r in b.rejects.to_pylist()]
    assert [r["reason"] for r in rejects] == ["line cut short"] * cut


def test_listening_data() -> None:
    path = place("tasteprofile/train_triplets.txt")
    batches = [taste_profile.read_triplets(path, *r) for r in text.byte_ranges(path, 500_009)]
    assert sum(len(b.table) for b in batches) == 39_017
    assert sum(len(b.rejects) for b in batches) == 0
    assert len({u for b in batches for u in b.table["user_id"].to_pylist()}) == 10_000
    assert len({s for b in batches for s in b.table["song_id"].to_pylist()}) == 2_036
    mismatches = taste_profile.read_mismatches(place("tasteprofile/sid_mismatches.txt"))
    assert (len(mismatches.table), len(mismatches.rejects)) == (19_094, 0)


def test_additional_files() -> None:
    songs = place("AdditionalFiles/track_metadata.db")
    assert msd_sqlite.num_rows(songs) == 10_000
    batch = msd_sqlite.read_songs(songs, place("AdditionalFiles/artist_term.db"), 0, 10_000)
    assert (len(batch.table), batch.read) == (10_000, 10_000)
    assert batch.table["artist_id"].null_count == 1
    unique = taste_profile.read_unique_tracks(place("AdditionalFiles/unique_tracks.txt"))
    assert (len(unique.table), len(unique.rejects)) == (10_000, 0)
    key = ["track_id", "song_id"]
    assert unique.table.select(key).sort_by("track_id").equals(batch.table.select(key))


def test_genres() -> None:
    batch = tagtraum.read_cls(place("tagtraum/msd_tagtraum_cd1.cls"))
    assert (len(batch.table), len(batch.rejects)) == (133_676, 0)
