"""The pyarrow schema of every artifact, and the version they carry together.

Vectors are float32; a fixed-size list's length is that of its feature and so is
given by a function. `song_id`, `track_id` and `artist_id` are the Million Song
Dataset's own identifiers.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 7
"""Version of all schemas below; a workspace of another version is refused by name."""

SONGS = pa.schema(
    [
        ("song_id", pa.string()),
        ("track_id", pa.string()),
        ("title", pa.string()),
        ("release", pa.string()),
        ("artist_id", pa.string()),
        ("artist_name", pa.string()),
        ("year", pa.int32()),  # null when unknown (0 in the source)
        ("duration", pa.float32()),  # seconds
        ("artist_hotttnesss", pa.float32()),
        ("artist_familiarity", pa.float32()),
        ("song_hotttnesss", pa.float32()),  # null when NaN in the source
        ("tempo", pa.float32()),  # beats per minute
        ("loudness", pa.float32()),  # dB
        ("key", pa.int32()),
        ("mode", pa.int32()),
        ("time_signature", pa.int32()),
        ("mbtags", pa.list_(pa.string())),
        ("mbtag_counts", pa.list_(pa.int32())),
        ("terms", pa.list_(pa.string())),
        ("term_weights", pa.list_(pa.float32())),
        ("similar_artists", pa.list_(pa.string())),  # artist ids, the most similar first
    ]
)
"""Also of `other_songs`, those with plays but no place in the catalogue: what no source knows of
them is null, lists too."""

SONG_NAMES = ("song_id", "artist_name", "title", "release")
"""What a person knows a song by: columns of :data:`SONGS`, and of what is read song by song."""

SEGMENTS = pa.schema(
    [
        ("track_id", pa.string()),
        ("start", pa.list_(pa.float32())),  # seconds
        ("timbre", pa.list_(pa.list_(pa.float32(), 12))),
        ("pitches", pa.list_(pa.list_(pa.float32(), 12))),
        ("loudness_max", pa.list_(pa.float32())),  # dB
    ]
)


def segment_statistics(dimension: int) -> pa.Schema:
    """Schema of what :func:`fusionrec.features.audio.segment_statistics` makes of segments."""
    return pa.schema(
        [
            ("track_id", pa.string()),
            ("segments", pa.int32()),  # how many the track has
            ("statistics", pa.list_(pa.float32(), dimension)),
        ]
    )


LYRICS = pa.schema(
    [
        ("track_id", pa.string()),
        ("mxm_id", pa.int32()),
        ("words", pa.list_(pa.int16())),  # positions in the vocabulary, from 0
        ("counts", pa.list_(pa.int16())),  # capped at 32,767
    ]
)

VOCABULARY = pa.schema([("word", pa.string())])

LYRICS_TEXT = pa.schema([("track_id", pa.string()), ("text", pa.string())])
"""Lyrics as they are written, of the songs whose source has them so; in parts aligned with
`lyrics`, which has the same songs' words, counted."""

TRIPLETS = pa.schema([("user_id", pa.string()), ("song_id", pa.string()), ("plays", pa.int32())])
"""What the readers of listening data return, before ids become codes."""

PLAYS = pa.schema([("user", pa.int32()), ("song", pa.int32()), ("plays", pa.int32())])
"""`user` and `song` are rows of the `users` map and of the `songs` artifact; in `other_plays`, of
`other_songs`."""

PLAY_TIMES = pa.schema([("time", pa.int64())])
"""When each row of `plays` was, row by row, in seconds since 1970 (UTC); null where the source does
not say. Only of sources that have times; `other_play_times` is beside `other_plays`."""

USERS = pa.schema([("user_id", pa.string())])

REJECTS = pa.schema(
    [
        ("source", pa.string()),  # file
        ("item", pa.string()),  # line, track or song id within the file
        ("reason", pa.string()),  # a fixed phrase, to group by
        ("detail", pa.string()),
        ("action", pa.string()),  # one of REJECT_ACTIONS
    ]
)

REJECT_ACTIONS = ("dropped", "nulled", "unmatched", "excluded")
"""`dropped`: damaged, the row is lost (counts against `ingest.max_reject_share`).
`nulled`: one field is unusable and was left empty, the row is kept.
`unmatched`: well-formed, but its id appears nowhere else in the corpus.
`excluded`: well-formed, but left out by rule: a wrong pair, a song's second track."""

LISTING = pa.schema(
    [
        ("path", pa.binary()),  # below the source's folder; bytes, as names need not be UTF-8
        ("size", pa.int64()),  # bytes
        ("mtime_ns", pa.int64()),  # last change; 0 where a filesystem does not know it
    ]
)
"""The files of a tree, by path: what the songs are read from."""

SPLIT = pa.schema(
    [
        ("song_id", pa.string()),
        ("artist_id", pa.string()),
        ("part", pa.string()),  # train / validation / test
        ("fold", pa.int32()),
    ]
)

LABELS = pa.schema([("song_id", pa.string()), ("class", pa.int32()), ("distance", pa.float32())])


def features(dimension: int) -> pa.Schema:
    """Schema of one modality's features, of `dimension` columns."""
    return pa.schema(
        [
            ("song_id", pa.string()),
            ("vector", pa.list_(pa.float32(), dimension)),
            ("present", pa.bool_()),
        ]
    )


def fused(dimension: int, blocks: int) -> pa.Schema:
    """Schema of the fused matrix: `dimension` columns, in `blocks` of them by modality."""
    return pa.schema(
        [
            *features(dimension),
            # Which blocks the song has; all `present` where the modalities share one.
            ("blocks", pa.list_(pa.bool_(), blocks)),
        ]
    )


def examples(dimension: int, blocks: int) -> pa.Schema:
    """Schema of labelled songs to be streamed to the training."""
    return pa.schema(
        [
            ("vector", pa.list_(pa.float32(), dimension)),
            ("blocks", pa.list_(pa.bool_(), blocks)),
            ("class", pa.int64()),
        ]
    )


def song_vectors(classes: int, embedding: int) -> pa.Schema:
    """Schema of F(s): class probabilities and the last hidden layer of every song."""
    return pa.schema(
        [
            ("song_id", pa.string()),
            ("probabilities", pa.list_(pa.float32(), classes)),
            ("embedding", pa.list_(pa.float32(), embedding)),
        ]
    )


def blend_songs(dimension: int) -> pa.Schema:
    """Schema of a blend's F(s)."""
    return pa.schema([("song_id", pa.string()), ("vector", pa.list_(pa.float32(), dimension))])


def blend_users(dimension: int) -> pa.Schema:
    """Schema of a blend's v_u of every user, by code, of the plays that it is made of, and of what
    explains it beside them.
    """
    return pa.schema(
        [
            ("user", pa.int32()),
            ("vector", pa.list_(pa.float32(), dimension)),
            ("told", pa.list_(pa.float32())),
            ("songs", pa.list_(pa.int32())),  # rows of `songs`, then those of `other_songs`
            ("plays", pa.list_(pa.float32())),
        ]
    )


def taste_songs(dimension: int) -> pa.Schema:
    """Schema of a network's F(s) where it was trained on taste."""
    return pa.schema([("song_id", pa.string()), ("vector", pa.list_(pa.float32(), dimension))])


def taste_users(dimension: int) -> pa.Schema:
    """Schema of its v_u of every user, by code, and of the plays that it is made of."""
    return pa.schema(
        [
            ("user", pa.int32()),
            ("vector", pa.list_(pa.float32(), dimension)),
            ("songs", pa.list_(pa.int32())),  # rows of `songs`
            ("plays", pa.list_(pa.float32())),
        ]
    )


RECOMMENDATIONS = pa.schema(
    [
        ("user_id", pa.string()),
        ("user", pa.int32()),  # row of the `users` map, ascending
        ("song_ids", pa.list_(pa.string())),  # best first
        ("scores", pa.list_(pa.float32())),
        ("candidates", pa.int32()),  # N: songs ranked for this user
        ("relevant_ranks", pa.list_(pa.int32())),  # ranks from 1 of R_u among the N, ascending
        ("relevant_songs", pa.list_(pa.string())),  # the song of each of these ranks
        ("profile", pa.list_(pa.int32())),  # H_u, rows of `songs`, ascending
        ("profile_plays", pa.list_(pa.int64())),  # of each of the profile's songs
    ]
)

LEFT_OUT = pa.schema([("user", pa.int32()), ("reason", pa.string())])
"""Users without a list in `recommendations`, ascending, and why, as the manifest counts them."""

LISTS = pa.schema(
    [
        ("user_id", pa.string()),
        ("user", pa.int32()),  # row of the `users` map, ascending: every one of them
        ("song_ids", pa.list_(pa.string())),  # best first
        ("scores", pa.list_(pa.float32())),
        ("fallback", pa.bool_()),  # the same for everybody of whom the model knows nothing
    ]
)
"""Lists for every user."""

METRICS = pa.schema(
    [
        ("user_id", pa.string()),
        ("average_precision", pa.float64()),  # AP@K
        ("recall", pa.float64()),  # recall@K
        ("ndcg", pa.float64()),  # NDCG@K
        ("reciprocal_rank", pa.float64()),
        ("auc", pa.float64()),  # null where every candidate is relevant
        ("candidates", pa.int32()),
        ("relevant", pa.int32()),
        ("random_level", pa.float64()),  # expected AP@K of a random order
    ]
)

SONG_SHARES = pa.schema(
    [
        ("song_id", pa.string()),
        ("average_precision", pa.float64()),  # what it adds to the sum of AP@K over users
        ("users", pa.float64()),  # and to their number
        ("auc", pa.float64()),
        ("auc_users", pa.float64()),
    ]
)
"""Of the relevant songs of a shard of users, each once."""

AUDIO_WORDS = pa.schema(
    [
        ("song_id", pa.string()),
        ("words", pa.list_(pa.int32())),  # codewords that occur, ascending
        ("counts", pa.list_(pa.int32())),  # frames of each; none for a song without segments
    ]
)

EVALUATED_USERS = pa.schema(
    [
        ("user", pa.int32()),
        ("profile", pa.list_(pa.int32())),  # H_u, rows of `songs`, ascending
        ("plays", pa.list_(pa.int64())),  # of each of the profile's songs
        ("relevant", pa.list_(pa.int32())),  # R_u, rows of `songs`, ascending
    ]
)
"""The users of a comparison; every method ranks for these and no others."""

RANKS = pa.schema(
    [
        ("user", pa.int32()),
        ("candidates", pa.int32()),  # N
        ("ranks", pa.list_(pa.int32())),  # ranks from 1 of R_u among the N, ascending
        ("songs", pa.list_(pa.int32())),  # the song of each of these ranks, a row of `songs`
    ]
)
"""What a method of a comparison found."""
