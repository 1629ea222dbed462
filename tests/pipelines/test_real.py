"""Ingest of a real corpus in the official formats, against the counts its makers state."""

import os
from pathlib import Path

import pytest

from pipelines import config
from pipelines.ingest.stage import STAGE

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        "FUSIONREC_REAL_CORPUS" not in os.environ, reason="FUSIONREC_REAL_CORPUS is not set"
    ),
]


def ingest(workspace: Path, *more: str) -> dict:
    root = os.environ["FUSIONREC_REAL_CORPUS"]
    settings = [f"source.root={root}", f"workspace={workspace}", *more]
    return STAGE.run(config.load(None, settings))["counts"]


def test_hdf5_lyrics_and_plays(ray_session, tmp_path) -> None:
    counts = ingest(tmp_path / "ws")
    expected = {
        "tracks": 691,
        "tracks_with_mbtags": 457,
        "tracks_with_lyrics": 633,
        "tracks_mismatched": 25,
        "songs": 666,
        "triplets": 39_017,
        "triplets_on_corpus": 16_512,
        "users": 10_000,
        "triplets_on_mismatched_songs": 1_799,
        "plays": 14_713,
        "other_songs": 1_345,
        "other_plays": 22_505,
        "other_songs_with_metadata": 0,
    }
    assert {name: counts[name] for name in expected} == expected
    assert counts["lyrics_rejects"] == {"line cut short": 1}


def test_what_is_known_of_songs_without_hdf5(ray_session, tmp_path) -> None:
    counts = ingest(
        tmp_path / "ws",
        "source.other_songs=AdditionalFiles/track_metadata.db",
        "source.artist_terms=AdditionalFiles/artist_term.db",
        "ingest.rows_per_shard=500",
    )
    expected = {
        "other_songs": 1_345,
        "other_songs_with_metadata": 1_303,
        "other_songs_mismatched": 42,
        "other_songs_with_artist": 1_303,
        "other_songs_of_catalogue_artists": 329,
        "other_songs_with_terms": 333,
        "other_songs_with_similar_artists": 329,
    }
    assert {name: counts[name] for name in expected} == expected


def test_sqlite_instead_of_hdf5(ray_session, tmp_path) -> None:
    counts = ingest(
        tmp_path / "ws",
        "source.songs=AdditionalFiles/track_metadata.db",
        "source.artist_terms=AdditionalFiles/artist_term.db",
        "ingest.rows_per_shard=3000",
    )
    assert counts["tracks"] == 10_000
    assert counts["tracks_with_mbtags"] > 457
    assert counts["song_rejects"]["artist_id is empty"] == 1
