"""Lyrics like musiXmatch's, without the corpus: as many words and tokens, as often as there.

From musiXmatch's lyrics of the Million Song Dataset: 33 quantiles, from the smallest to the
largest, over 8,259 songs of its test file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fusionrec import schemas

LYRICS = 237_662
"""Songs with lyrics in the full data set."""

DISTINCT_WORDS = (
    *(1, 17, 29, 36, 42, 46, 49, 52, 55, 58, 61, 63, 65, 67, 70, 72, 75, 77, 79, 82, 84, 87, 90),
    *(93, 97, 101, 105, 111, 118, 128, 149, 192, 380),
)
"""Of a song's bag; 81 on average."""

TOKENS = (
    *(5, 53, 89, 111, 128, 140, 150, 159, 168, 176, 185, 191, 197, 204, 212, 218, 227, 233, 240),
    *(248, 254, 263, 272, 282, 293, 305, 319, 335, 356, 385, 386, 386, 396),
)
"""Of a song's text of at most 128 words ``word:count``, special ones included; 230 on average."""

VOCABULARY = 5_000


def lengths(texts: int, quantiles: tuple[int, ...] = TOKENS, seed: int = 0) -> np.ndarray:
    """Lengths drawn from a table of quantiles, int64, shape (texts,)."""
    at = np.random.default_rng(seed).random(texts) * (len(quantiles) - 1)
    return np.interp(at, np.arange(len(quantiles)), quantiles).round().astype(np.int64)


def token_ids(texts: int, vocabulary: int, seed: int = 0) -> list[list[int]]:
    """Random tokens of such lengths, between RoBERTa's start and end."""
    rng = np.random.default_rng(seed)
    return [
        [0, *rng.integers(5, vocabulary, length - 2).tolist(), 2]
        for length in lengths(texts, seed=seed)
    ]


def vocabulary() -> list[str]:
    """Words as short as stems are; the first of them, which are the frequent ones, shortest."""
    rng = np.random.default_rng(0)
    consonants, vowels = list("bcdfghjklmnprstvwz"), list("aeiouy")
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        size = 2 + min(6, rng.poisson(0.6 + 0.45 * np.log10(1 + len(words))))
        letters = [rng.choice(vowels if i % 2 else consonants) for i in range(size)]
        words["".join(letters)] = None
    return list(words)


def bags(songs: int, seed: int = 0) -> pa.Table:
    """Bags of words in the schema of lyrics: Zipf's frequencies, most counts small."""
    rng = np.random.default_rng(seed)
    sizes = lengths(songs, DISTINCT_WORDS, seed)
    chance = -1.15 * np.log(np.arange(VOCABULARY) + 10.0)
    words, counts = [], []
    for size in sizes:
        # The largest of these are a draw without replacement, by those chances.
        drawn = np.argpartition(-(chance + rng.gumbel(size=VOCABULARY)), size)[:size]
        words.append(np.sort(drawn).astype(np.int16))
        counts.append(np.minimum(rng.zipf(1.9, size), 200).astype(np.int16))
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
    return pa.table(
        [
            pa.array([f"TR{i:016d}" for i in range(songs)]),
            pa.array(np.arange(songs), pa.int32()),
            pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(words))),
            pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(counts))),
        ],
        schema=schemas.LYRICS,
    )


def write_shards(folder: Path, shards: int, songs: int, distinct: pa.Table) -> int:
    """Parquet parts of `songs` songs and of the lyrics that three in four of them have.

    The bags are drawn from `distinct` ones, again and again: making a quarter of a million
    would take longer than encoding them.

    Returns
    -------
    int
        Bags in all.
    """
    rng = np.random.default_rng(0)
    tracks = [f"TR{i:016d}" for i in range(songs)]
    table = pa.table({"song_id": [f"SO{i:016d}" for i in range(songs)], "track_id": tracks})
    spoken = np.arange(songs * 3 // 4)
    for shard in range(shards):
        own = distinct.take(pa.array(rng.integers(0, distinct.num_rows, len(spoken))))
        own = own.set_column(0, schemas.LYRICS.field(0), [pa.array(tracks).take(spoken)])
        pq.write_table(table, folder / f"songs-{shard:05d}.parquet")
        pq.write_table(own, folder / f"lyrics-{shard:05d}.parquet")
    return shards * len(spoken)
