import os
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import vstack
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer

from fusionrec.features.lyrics import tfidf
from fusionrec.formats.musixmatch import read_lyrics, read_vocabulary
from fusionrec.formats.text import byte_ranges
from fusionrec.schemas import LYRICS

VOCABULARY = [f"w{i:03d}" for i in range(40)]  # in alphabetical order, as scikit-learn's


def bags(songs: int = 60, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    words = [sorted(rng.choice(30, rng.integers(1, 12), replace=False)) for _ in range(songs)]
    counts = [rng.integers(1, 9, len(w)).tolist() for w in words]
    names = [f"TR{i}" for i in range(songs)]
    return pa.table(
        {"track_id": names, "mxm_id": [0] * songs, "words": words, "counts": counts}
    ).cast(LYRICS)


def as_text(table: pa.Table) -> list[str]:
    rows = zip(table["words"].to_pylist(), table["counts"].to_pylist(), strict=True)
    return [
        " ".join(VOCABULARY[w] for w, c in zip(words, counts, strict=True) for _ in range(c))
        for words, counts in rows
    ]


@pytest.mark.parametrize("shards", [1, 2, 7])
def test_default_equals_scikit_learns_vectorizer_however_it_is_sharded(shards) -> None:
    table = bags()
    reference = TfidfVectorizer(vocabulary=VOCABULARY, token_pattern=r"\S+")
    expected = reference.fit_transform(as_text(table)).toarray()
    cuts = np.linspace(0, table.num_rows, shards + 1).astype(int)
    parts = [table.slice(a, b - a) for a, b in pairwise(cuts)]
    total = tfidf.count(parts[0], len(VOCABULARY))
    for part in parts[1:]:
        total += tfidf.count(part, len(VOCABULARY))
    weights = tfidf.word_weights(total, "sklearn")
    np.testing.assert_allclose(weights, reference.idf_, rtol=1e-12)
    np.testing.assert_allclose(
        tfidf.transform(table, weights, "sklearn").toarray(), expected, rtol=1e-12
    )


def test_printed_formula_by_hand() -> None:
    table = pa.table(
        {"track_id": ["a", "b"], "mxm_id": [0, 0], "words": [[0, 1], [1]], "counts": [[4, 1], [3]]}
    ).cast(LYRICS)
    weights = tfidf.word_weights(tfidf.count(table, 3), "printed")
    # Word 0: average count 4/2, in 1 document; word 1: average 4/2, in 2; word 2: in none.
    np.testing.assert_allclose(weights, [np.log(1 + 2 / 1), np.log(1 + 2 / 2), 0.0])
    expected = [[4 * np.log(3), np.log(2), 0], [0, 3 * np.log(2), 0]]
    np.testing.assert_allclose(tfidf.transform(table, weights, "printed").toarray(), expected)


def test_texts_hold_the_most_significant_words_first() -> None:
    table = bags(20)
    weights = tfidf.word_weights(tfidf.count(table, len(VOCABULARY)), "sklearn")
    dense = tfidf.transform(table, weights, "sklearn").toarray()
    texts = tfidf.significant_texts(table, weights, "sklearn", VOCABULARY, 4)
    for row, text in enumerate(texts):
        counts = dict(zip(table["words"][row].as_py(), table["counts"][row].as_py(), strict=True))
        best = sorted(counts, key=lambda w: (-dense[row, w], w))[:4]
        assert text == " ".join(f"{VOCABULARY[w]}:{counts[w]}" for w in best)


def test_an_empty_bag_gives_an_empty_text() -> None:
    table = pa.table({"track_id": ["a"], "mxm_id": [0], "words": [[]], "counts": [[]]}).cast(LYRICS)
    weights = np.ones(len(VOCABULARY))
    assert tfidf.significant_texts(table, weights, "sklearn", VOCABULARY, 4) == [""]


def test_a_word_of_weight_zero_is_left_out_of_the_text() -> None:
    table = pa.table({"track_id": ["a"], "mxm_id": [0], "words": [[0, 1]], "counts": [[3, 32767]]})
    weights = np.array([0.0, 1.0])
    texts = tfidf.significant_texts(table.cast(LYRICS), weights, "printed", ["no", "naïve"], 5)
    assert texts == ["naïve:32767"]


def test_slices_chunks_and_no_bags_at_all() -> None:
    table = bags(30)
    weights = tfidf.word_weights(tfidf.count(table, len(VOCABULARY)), "sklearn")
    whole = tfidf.significant_texts(table, weights, "sklearn", VOCABULARY, 4)
    chunked = pa.concat_tables([table.slice(0, 11), table.slice(11)])
    for part, expected in (
        (chunked, whole),
        (table.slice(7, 9), whole[7:16]),
        (table.slice(30), []),
        (LYRICS.empty_table(), []),
    ):
        texts = tfidf.significant_texts(part, weights, "sklearn", VOCABULARY, 4)
        assert texts == expected
        assert tfidf.count(part, len(VOCABULARY)).documents == len(expected)


@pytest.mark.real
@pytest.mark.skipif(
    "FUSIONREC_REAL_CORPUS" not in os.environ, reason="FUSIONREC_REAL_CORPUS is not set"
)
def test_shards_of_the_real_corpus_equal_tfidf_vectorizer() -> None:
    path = os.path.join(os.environ["FUSIONREC_REAL_CORPUS"], "musixmatch", "mxm_dataset_test.txt")
    words = read_vocabulary(path)
    shards = [read_lyrics(path, *r).table for r in byte_ranges(path, 300_000)]
    assert len(shards) > 3
    total = reduce(add, (tfidf.count(shard, len(words)) for shard in shards))
    weights = tfidf.word_weights(total, "sklearn")
    found = vstack([tfidf.transform(shard, weights, "sklearn") for shard in shards])
    table = pa.concat_tables(shards)
    documents = [
        {words[w]: c for w, c in zip(row["words"], row["counts"], strict=True)}
        for row in table.to_pylist()
    ]
    counts = DictVectorizer(sort=False).fit([dict.fromkeys(words, 0)]).transform(documents)
    expected = TfidfTransformer().fit_transform(counts)
    assert abs(found - expected).max() < 1e-12
