import os
import subprocess
import sys

import numpy as np

from fusionrec.labels.embedding import MultiHot, TagWord2Vec, distinct_lists, known_tags

LISTS = [("jazz", "soul"), ("rock",), ("hard rock", "metal", "rock")]


def test_distinct_lists_ignore_order_and_repetition() -> None:
    lists, codes, counts = distinct_lists([["b", "a"], ["c"], ["a", "b", "a"], []])
    assert lists == [("a", "b"), ("c",), ()]
    assert codes.tolist() == [0, 1, 0, 2]
    assert counts.tolist() == [2, 1, 1]


def test_multi_hot_by_hand() -> None:
    model = MultiHot.fit(LISTS)
    assert model.tags == ("hard rock", "jazz", "metal", "rock", "soul")
    expected = [[0, 1, 0, 0, 1], [0, 0, 0, 1, 0], [1, 0, 1, 1, 0]]
    assert model.transform(LISTS).tolist() == expected
    assert model.transform([("polka",)]).tolist() == [[0] * 5]


def test_word2vec_vector_is_the_mean_of_the_tags() -> None:
    model = TagWord2Vec.fit(LISTS, dimension=8, epochs=3, seed=1)
    row = {tag: model.vectors[i] for i, tag in enumerate(model.tags)}
    vectors = model.transform([*LISTS, ("jazz", "polka"), ("polka",)])
    for vector, tags in zip(vectors, LISTS, strict=False):
        np.testing.assert_allclose(vector, np.mean([row[t] for t in tags], axis=0), rtol=1e-6)
    np.testing.assert_array_equal(vectors[3], row["jazz"])
    assert not vectors[4].any()


def test_tags_that_go_together_end_close() -> None:
    rng = np.random.default_rng(0)
    groups = [[f"metal {i}" for i in range(6)], [f"jazz {i}" for i in range(6)]]
    lists = [tuple(rng.choice(groups[i % 2], 3, replace=False)) for i in range(200)]
    model = TagWord2Vec.fit(lists, dimension=10, epochs=30, seed=0)
    unit = model.vectors / np.linalg.norm(model.vectors, axis=1, keepdims=True)
    metal = np.array([tag.startswith("metal") for tag in model.tags])
    cosine = unit @ unit.T
    within = (cosine[np.ix_(metal, metal)].sum() - 6) / 30
    assert within > cosine[np.ix_(metal, ~metal)].mean() + 0.3


def test_a_seed_gives_one_result_whatever_pythons_hash_seed() -> None:
    code = (
        "from fusionrec.labels.embedding import TagWord2Vec\n"
        f"m = TagWord2Vec.fit({LISTS!r}, dimension=4, epochs=2, seed=5)\n"
        "print(m.tags, m.vectors.tolist())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_known_tags_are_counted_by_list() -> None:
    lists = [("a", "b"), ("a", "x"), ("x", "y"), ()]
    assert known_tags(lists, ("a", "b", "c")).tolist() == [2, 1, 0, 0]


def test_a_list_of_many_songs_counts_as_that_list_repeated() -> None:
    repeats = [2, 1, 50]  # rounded-up square roots, at most 50
    repeated = [tags for tags, n in zip(LISTS, repeats, strict=True) for _ in range(n)]
    counts = np.array([3, 1, 10_000])
    weighted = TagWord2Vec.fit(LISTS, dimension=5, epochs=2, counts=counts)
    plain = TagWord2Vec.fit(repeated, dimension=5, epochs=2)
    assert weighted.tags == plain.tags
    np.testing.assert_array_equal(weighted.vectors, plain.vectors)
    unweighted = TagWord2Vec.fit(LISTS, dimension=5, epochs=2).transform(LISTS)
    assert not np.array_equal(weighted.transform(LISTS), unweighted)


def test_another_seed_gives_other_vectors() -> None:
    one, two = (TagWord2Vec.fit(LISTS, dimension=4, epochs=2, seed=s).vectors for s in (1, 2))
    assert not np.array_equal(one, two)


def test_the_first_and_the_last_tag_of_a_long_list_are_in_one_window() -> None:
    rng = np.random.default_rng(0)
    common = [f"m{i}" for i in range(20)]
    lists = []
    for i in range(300):  # a0 and a1 never meet; all they share is z, ten tags away
        ends = [("a0", "z"), ("a1", "z"), ("b0", "y"), ("b1", "y")][i % 4]
        lists.append((ends[0], *rng.choice(common, 10, replace=False), ends[1]))
    model = TagWord2Vec.fit(lists, dimension=16, epochs=60)
    unit = model.vectors / np.linalg.norm(model.vectors, axis=1, keepdims=True)
    a0, a1, b0, b1 = (unit[model.tags.index(tag)] for tag in ("a0", "a1", "b0", "b1"))
    assert min(a0 @ a1, b0 @ b1) > max(a0 @ b0, a0 @ b1, a1 @ b0, a1 @ b1) + 0.5
