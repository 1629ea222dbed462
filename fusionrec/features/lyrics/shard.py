"""A shard's bags of words into batches of tokens, and their vectors into one row a song (3.1.5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec import schemas
from fusionrec.features.lyrics import tfidf
from fusionrec.features.lyrics.pieces import WordTokenizer
from fusionrec.features.lyrics.tokens import Batches, cut
from fusionrec.tables import vectors


@dataclass(frozen=True)
class Prepared:
    """What an encoder needs of a shard's lyrics, and where their vectors belong.

    Attributes
    ----------
    batches
        The texts.
    rows
        Each text's song, by position in the shard, int64, shape (texts,).
    """

    batches: Batches
    rows: NDArray[np.int64]


def prepare(
    songs: pa.Table,
    bags: pa.Table,
    tokenize: WordTokenizer,
    weights: np.ndarray,
    *,
    scheme: tfidf.Scheme = "sklearn",
    words: int = 128,
    token_budget: int,
) -> Prepared:
    """The most significant words of every bag as batches of token ids.

    They depend on this shard alone. A bag that has no word of any weight is left out.

    Parameters
    ----------
    songs
        Column `track_id`.
    bags
        The LYRICS schema; each bag's track is one of `songs`.
    weights
        Float64 (W,), of :func:`fusionrec.features.lyrics.tfidf.word_weights`.
    scheme, words
        See :func:`fusionrec.features.lyrics.tfidf.significant_words`.
    token_budget
        See :func:`fusionrec.features.lyrics.tokens.cut`.
    """
    spoken, chosen = tfidf.significant_words(bags, weights, scheme, words).spoken()
    order, batches = cut(tokenize(chosen), token_budget)
    tracks = bags["track_id"].take(spoken[order]).combine_chunks()
    rows = pc.index_in(tracks, value_set=songs["track_id"].combine_chunks())
    return Prepared(batches, rows.to_numpy().astype(np.int64))


def features(song_ids: pa.Array, rows: NDArray[np.int64], found: NDArray[np.float32]) -> pa.Table:
    """One row a song, in their order; zeros and not `present` for a song without a vector.

    Parameters
    ----------
    song_ids
        Of all songs of the shard.
    rows
        Which of them each vector is of, shape (texts,).
    found
        The vectors, shape (texts, H).

    Returns
    -------
    pa.Table
        The schema of features.
    """
    every = np.zeros((len(song_ids), found.shape[1]), np.float32)
    present = np.zeros(len(song_ids), bool)
    every[rows] = found
    present[rows] = True
    columns = [song_ids, vectors(every), pa.array(present)]
    return pa.Table.from_arrays(columns, schema=schemas.features(found.shape[1]))
