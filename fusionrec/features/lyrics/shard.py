"""A shard's lyrics into batches of tokens, and their vectors into one row a song (3.1.5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec import schemas
from fusionrec.features.lyrics import tfidf
from fusionrec.features.lyrics.pieces import WordTokenizer
from fusionrec.features.lyrics.texts import TextTokenizer, averaged
from fusionrec.features.lyrics.tokens import Batches, Tokens, cut
from fusionrec.tables import vectors


@dataclass(frozen=True)
class Prepared:
    """What an encoder needs of a shard's lyrics, and where their vectors belong.

    Attributes
    ----------
    batches
        The texts; of a long one there may be several windows.
    rows
        Each text's song, by position in the shard, int64, shape (texts,).
    as_text
        Songs whose lyrics are read as they are written, not by their words.
    longer
        Of these, songs whose lyrics are longer than the encoder takes.
    """

    batches: Batches
    rows: NDArray[np.int64]
    as_text: int = 0
    longer: int = 0


def prepare(
    songs: pa.Table,
    bags: pa.Table,
    tokenize: WordTokenizer,
    weights: np.ndarray,
    *,
    scheme: tfidf.Scheme = "sklearn",
    words: int = 128,
    token_budget: int,
    texts: pa.Table | None = None,
    read: TextTokenizer | None = None,
) -> Prepared:
    """Lyrics as batches of token ids: texts, and the most significant words of the other bags.

    They depend on this shard alone. A text that is blank to the tokenizer is none, and a bag that
    has no word of any weight is left out.

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
    texts
        The schema LYRICS_TEXT; each text's track is one of `songs`. None of tracks that have bags
        alone.
    read
        The encoder's tokenizer of texts; without it their bags are taken.
    """
    as_text, longer = 0, 0
    tracks, tokens = pa.chunked_array([], pa.string()), []
    if texts is not None and read is not None:
        texts = with_words(texts)
        found = read(texts["text"].to_pylist())
        tracks = texts["track_id"].take(found.of)
        tokens.append(found.tokens)
        as_text, longer = len(np.unique(found.of)), found.longer
        bags = bags.filter(pc.invert(pc.is_in(bags["track_id"], value_set=tracks.combine_chunks())))
    spoken, chosen = tfidf.significant_words(bags, weights, scheme, words).spoken()
    tokens.append(tokenize(chosen))
    tracks = pa.chunked_array([*tracks.chunks, *bags["track_id"].take(spoken).chunks], pa.string())
    order, batches = cut(Tokens.joined(tokens), token_budget)
    rows = pc.index_in(
        tracks.take(order).combine_chunks(), value_set=songs["track_id"].combine_chunks()
    )
    return Prepared(batches, rows.to_numpy().astype(np.int64), as_text, longer)


def with_words(texts: pa.Table) -> pa.Table:
    """Those of the schema LYRICS_TEXT that have more than white space."""
    return texts.filter(pc.not_equal(pc.utf8_trim_whitespace(texts["text"]), ""))


def features(
    song_ids: pa.Array,
    rows: NDArray[np.int64],
    found: NDArray[np.float32],
    lengths: NDArray[np.int64] | None = None,
) -> pa.Table:
    """One row a song, in their order; zeros and not `present` for a song without a vector.

    Parameters
    ----------
    song_ids
        Of all songs of the shard.
    rows
        Which of them each vector is of, shape (texts,).
    found
        The vectors, shape (texts, H).
    lengths
        Tokens of each text, shape (texts,), by which those of one song are averaged; None: each
        song has one at most.

    Returns
    -------
    pa.Table
        The schema of features.
    """
    if lengths is not None:
        rows, found = averaged(rows, lengths, found)
    every = np.zeros((len(song_ids), found.shape[1]), np.float32)
    present = np.zeros(len(song_ids), bool)
    every[rows] = found
    present[rows] = True
    columns = [song_ids, vectors(every), pa.array(present)]
    return pa.Table.from_arrays(columns, schema=schemas.features(found.shape[1]))
