"""A shard's bags of words into one vector a song (paper section 3.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.features.lyrics import tfidf
from fusionrec.tables import vectors

if TYPE_CHECKING:
    from fusionrec.features.lyrics.architecture import Pooling
    from fusionrec.features.lyrics.encoder import LyricsEncoder


def lyrics_features(
    songs: pa.Table,
    bags: pa.Table,
    encoder: LyricsEncoder,
    weights: np.ndarray,
    vocabulary: Sequence[str],
    *,
    scheme: tfidf.Scheme = "sklearn",
    words: int = 128,
    pooling: Pooling = "cls",
    token_budget: int | None = None,
) -> pa.Table:
    """Encode the most significant words of every bag.

    Parameters
    ----------
    songs
        Columns `song_id` and `track_id`.
    bags
        The LYRICS schema; each bag's track is one of `songs`.
    weights, vocabulary
        Float64 (W,), of :func:`fusionrec.features.lyrics.tfidf.word_weights`, and the W words.
    scheme, words
        See :func:`fusionrec.features.lyrics.tfidf.significant_texts`.
    pooling, token_budget
        See :meth:`fusionrec.features.lyrics.encoder.LyricsEncoder.encode`.

    Returns
    -------
    pa.Table
        The schema of features, a row a song, in the order of `songs`; zeros and not `present`
        for a song without a bag, or whose bag has no word of any weight.
    """
    texts = tfidf.significant_texts(bags, weights, scheme, vocabulary, words)
    spoken = [i for i, text in enumerate(texts) if text]
    rows = np.zeros((songs.num_rows, encoder.hidden_size), np.float32)
    present = np.zeros(songs.num_rows, bool)
    if spoken:
        tracks = bags["track_id"].take(spoken).combine_chunks()
        where = pc.index_in(tracks, value_set=songs["track_id"].combine_chunks()).to_numpy()
        rows[where] = encoder.encode(
            [texts[i] for i in spoken], pooling=pooling, token_budget=token_budget
        )
        present[where] = True
    columns = [songs["song_id"].combine_chunks(), vectors(rows), pa.array(present)]
    return pa.Table.from_arrays(columns, schema=schemas.features(encoder.hidden_size))
