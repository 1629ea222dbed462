"""The writer's files have the official groups, column types and arrays, read back with h5py."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from fusionrec.formats.hdf5.writer import ARRAYS, write_track

INT, FLOAT, TEXT = "<i4", "<f8", "S1024"

# From hdf5_descriptors.py of the Million Song Dataset's own code.
OFFICIAL_TABLES = {
    "metadata": [
        ("analyzer_version", "S32"),
        ("artist_7digitalid", INT),
        ("artist_familiarity", FLOAT),
        ("artist_hotttnesss", FLOAT),
        ("artist_id", "S32"),
        ("artist_latitude", FLOAT),
        ("artist_location", TEXT),
        ("artist_longitude", FLOAT),
        ("artist_mbid", "S40"),
        ("artist_name", TEXT),
        ("artist_playmeid", INT),
        ("genre", TEXT),
        ("idx_artist_terms", INT),
        ("idx_similar_artists", INT),
        ("release", TEXT),
        ("release_7digitalid", INT),
        ("song_hotttnesss", FLOAT),
        ("song_id", "S32"),
        ("title", TEXT),
        ("track_7digitalid", INT),
    ],
    "analysis": [
        ("analysis_sample_rate", INT),
        ("audio_md5", "S32"),
        ("danceability", FLOAT),
        ("duration", FLOAT),
        ("end_of_fade_in", FLOAT),
        ("energy", FLOAT),
        ("idx_bars_confidence", INT),
        ("idx_bars_start", INT),
        ("idx_beats_confidence", INT),
        ("idx_beats_start", INT),
        ("idx_sections_confidence", INT),
        ("idx_sections_start", INT),
        ("idx_segments_confidence", INT),
        ("idx_segments_loudness_max", INT),
        ("idx_segments_loudness_max_time", INT),
        ("idx_segments_loudness_start", INT),
        ("idx_segments_pitches", INT),
        ("idx_segments_start", INT),
        ("idx_segments_timbre", INT),
        ("idx_tatums_confidence", INT),
        ("idx_tatums_start", INT),
        ("key", INT),
        ("key_confidence", FLOAT),
        ("loudness", FLOAT),
        ("mode", INT),
        ("mode_confidence", FLOAT),
        ("start_of_fade_out", FLOAT),
        ("tempo", FLOAT),
        ("time_signature", INT),
        ("time_signature_confidence", FLOAT),
        ("track_id", "S32"),
    ],
    "musicbrainz": [("idx_artist_mbtags", INT), ("year", INT)],
}

OFFICIAL_ARRAYS = {
    "analysis": {
        **{
            f"{name}_{what}": (FLOAT, 1)
            for name in ("bars", "beats", "sections", "tatums", "segments")
            for what in ("start", "confidence")
        },
        "segments_loudness_max": (FLOAT, 1),
        "segments_loudness_max_time": (FLOAT, 1),
        "segments_loudness_start": (FLOAT, 1),
        "segments_pitches": (FLOAT, 2),
        "segments_timbre": (FLOAT, 2),
    },
    "metadata": {
        "artist_terms": ("S256", 1),
        "artist_terms_freq": (FLOAT, 1),
        "artist_terms_weight": (FLOAT, 1),
        "similar_artists": ("S20", 1),
    },
    "musicbrainz": {"artist_mbtags": ("S256", 1), "artist_mbtags_count": (INT, 1)},
}


def assert_official(path: Path) -> None:
    """Every group, table and array of a track's file has its official name and type."""
    with h5py.File(path) as file:
        assert set(file) == set(OFFICIAL_TABLES)
        for group, columns in OFFICIAL_TABLES.items():
            assert file[group]["songs"].shape == (1,)
            assert file[group]["songs"].dtype == np.dtype(columns)
            assert set(file[group]) - {"songs"} == set(OFFICIAL_ARRAYS[group])
            for name, (dtype, dimensions) in OFFICIAL_ARRAYS[group].items():
                array = file[group][name]
                assert array.dtype == np.dtype(dtype), name
                assert array.ndim == dimensions, name
                assert array.shape[1:] == (12,) * (dimensions - 1), name


def write_example(path: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    arrays = {
        "analysis/segments_timbre": rng.normal(size=(70, 12)),
        "analysis/segments_start": np.sort(rng.random(70)),
        "musicbrainz/artist_mbtags": np.array([b"rock", "café".encode()], "S256"),
        "musicbrainz/artist_mbtags_count": np.array([3, 1], "<i4"),
    }
    write_track(
        path,
        metadata={"title": b"T\xc3\xadtulo", "song_hotttnesss": np.nan, "artist_id": b"AR1"},
        analysis={"track_id": b"TR1", "tempo": 121.5, "key": 7},
        musicbrainz={"year": 1999},
        arrays=arrays,
    )
    return arrays


def test_layout_is_official(tmp_path: Path) -> None:
    write_example(tmp_path / "a.h5")
    assert_official(tmp_path / "a.h5")


def test_what_was_given_comes_back_and_the_rest_is_empty(tmp_path: Path) -> None:
    arrays = write_example(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        metadata, analysis = file["metadata/songs"][0], file["analysis/songs"][0]
        assert metadata["title"].decode() == "Título"
        assert np.isnan(metadata["song_hotttnesss"])
        assert (analysis["track_id"], analysis["tempo"], analysis["key"]) == (b"TR1", 121.5, 7)
        assert file["musicbrainz/songs"][0]["year"] == 1999
        assert metadata["release"] == b""
        assert analysis["idx_segments_timbre"] == 0
        for name in ARRAYS:
            if name in arrays:
                np.testing.assert_array_equal(file[name][:], arrays[name])
            else:
                assert len(file[name]) == 0, name


def test_arrays_are_compressed_and_shuffled(tmp_path: Path) -> None:
    write_example(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        for name in ("metadata/songs", "analysis/segments_timbre", "musicbrainz/artist_mbtags"):
            assert (file[name].compression, file[name].shuffle) == ("gzip", True)


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    write_example(tmp_path / "a.h5")
    write_example(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize(
    ("metadata", "arrays", "named"),
    [
        ({"titel": b"x"}, {}, "titel"),
        ({}, {"analysis/segments_timber": np.zeros((3, 12))}, "segments_timber"),
        ({}, {"analysis/segments_timbre": np.zeros((3, 11))}, r"segments_timbre.*\(3, 11\)"),
        ({}, {"analysis/segments_start": np.zeros((3, 1))}, r"segments_start.*\(3, 1\)"),
    ],
)
def test_what_the_layout_lacks_is_refused(
    tmp_path: Path, metadata: dict[str, object], arrays: dict[str, np.ndarray], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        write_track(
            tmp_path / "a.h5", metadata=metadata, analysis={}, musicbrainz={}, arrays=arrays
        )


@pytest.mark.real
def test_a_real_file_has_the_layout_the_tests_expect() -> None:
    root = os.environ.get("FUSIONREC_REAL_CORPUS")
    if not root:
        pytest.skip("FUSIONREC_REAL_CORPUS is not set")
    assert_official(next(iter(sorted(Path(root).rglob("*.h5")))))
