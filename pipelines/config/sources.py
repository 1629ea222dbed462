"""What the corpus is read from, and how its songs are split."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import BeforeValidator

from fusionrec.ranking.timeline import seconds_of
from pipelines.config.section import Section
from pipelines.config.section import key as _key
from pipelines.config.tables import TablesConfig

Format = Literal[
    "msd",
    "tables",
    "recbole",
    "lfm-1b",
    "lfm-2b",
    "music4all-onion",
    "yambda",
    "spotify-mpd",
    "lastfm-360k",
]
"""How the source is written; beyond `tables` are published layouts of them."""


class SourceConfig(Section):
    """Where the Million Song Dataset's files lie, or tables; relative paths are below `root`."""

    format: Format = _key(
        "msd",
        "the Million Song Dataset's files; `tables` of one's own (`source.tables`); or tables by a "
        "published layout in the folder `source.root`, beside which `source.tables` may name more",
    )
    root: str = _key(
        "",
        "folder or URI (s3://, gs://, hdfs://) of the corpus; the paths below are relative to it",
    )
    songs: str = _key(
        "MillionSong",
        "HDF5 tree (A/B/C folders), one aggregate or summary .h5 file, or track_metadata.db",
    )
    artist_terms: str | None = _key(
        None, "artist_term.db with the tags, where `songs` or `other_songs` is track_metadata.db"
    )
    artist_similarity: str | None = _key(
        None,
        "artist_similarity.db with the similar artists, where `songs` or `other_songs` is "
        "track_metadata.db",
    )
    other_songs: str | None = _key(
        None,
        "track_metadata.db for songs that have plays but are not among `songs`; without it nothing "
        "is known of them but their plays",
    )
    lyrics: tuple[str, ...] = _key(
        ("musixmatch/mxm_dataset_train.txt", "musixmatch/mxm_dataset_test.txt"),
        "musiXmatch files (.txt, .zip of it, or mxm_dataset.db); may be empty",
    )
    plays: tuple[str, ...] = _key(
        ("tasteprofile/train_triplets.txt",),
        "listening triplets (.txt or .zip; Taste Profile or Challenge files)",
    )
    mismatches: str | None = _key(
        "tasteprofile/sid_mismatches.txt", "wrong song-track pairs to leave out; null for none"
    )
    tables: TablesConfig = TablesConfig()


class IngestConfig(Section):
    """Reading the source files into Parquet."""

    segments: Literal["none", "stats", "full"] = _key(
        "none",
        "segment arrays: not read, reduced to each song's statistics (all that the audio "
        "modality needs), or kept",
    )
    files_per_shard: int = _key(1_000, "files of the HDF5 tree read by one task", ge=1)
    rows_per_shard: int = _key(
        20_000, "rows of an aggregate HDF5 or SQLite file read by one task", ge=1
    )
    bytes_per_shard: int = _key(64 << 20, "bytes of a text file read by one task", ge=1024)
    max_reject_share: float = _key(
        0.05, "largest share of damaged items a source may have before the run stops", ge=0, le=1
    )


def _as_moment(value: object) -> object:
    """A date of YAML as it is written; a ValueError where it is no moment."""
    if isinstance(value, date):  # a datetime is one, too
        value = value.isoformat()
    if value is not None:
        seconds_of(str(value))
    return value


Moment = Annotated[int | str | None, BeforeValidator(_as_moment)]
"""An ISO date, with a time or without, or seconds since 1970."""


class SplitConfig(Section):
    """Songs into train, validation and test (paper 5.3)."""

    by: Literal["song", "artist", "album", "time"] = _key(
        "song",
        "`song` is the paper's random split; `artist` puts no artist on both sides, `album` no "
        "album; `time` tests the songs that are new from a moment on, and learns from earlier "
        "plays alone (a global temporal split)",
    )
    folds: int = _key(5, "equal parts the songs are cut into; 5 gives the paper's 80/20", ge=2)
    test_fold: int = _key(0, "the fold that is the test part", ge=0)
    cut: Moment = _key(
        None,
        "of `time`: the moment from which on nothing is known, an ISO date or seconds since 1970 "
        "(UTC); null for that of `test_share`; other splits ignore both, but `compare.splits` may "
        "name `time` beside them",
    )
    test_share: float = _key(
        0.2, "of `time`: share of the plays with a time that lie at the cut or later", gt=0, lt=1
    )
    validation: float = _key(
        0.1,
        "share of the other songs kept for validation; of `time` the latest of those played",
        ge=0,
        le=0.5,
    )
    require_tags: bool = _key(
        False, "only songs with tags enter the split (the paper's 116,479), others are left out"
    )
