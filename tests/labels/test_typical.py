"""Typical tags against the plain definition, song by song."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from fusionrec.labels.typical import typical_tags


@pytest.mark.parametrize("seed", range(5))
def test_by_counting_songs(seed) -> None:
    rng = np.random.default_rng(seed)
    words, k = [f"t{i}" for i in range(8)], 3
    lists = [[*rng.choice(words, rng.integers(1, 5), replace=False)] for _ in range(30)]
    classes, songs = rng.integers(0, k, 30).tolist(), rng.integers(1, 9, 30).tolist()
    every = [
        (each, set(tags))
        for tags, each, n in zip(lists, classes, songs, strict=True)
        for _ in range(n)
    ]
    expected = []
    for c in range(k):
        scores = {}
        for tag in words:
            both = sum(each == c and tag in tags for each, tags in every)
            share = both / max(sum(each == c for each, _ in every), 1)
            everywhere = sum(tag in tags for _, tags in every) / len(every)
            if both and share > everywhere + 1e-12:
                scores[tag] = both * log(share / everywhere)
        expected.append(sorted(scores, key=lambda tag, of=scores: (-of[tag], tag))[:3])
    assert typical_tags(lists, classes, songs, k) == expected


def test_a_tag_of_all_songs_is_typical_of_none() -> None:
    found = typical_tags([["all", "rock"], ["all", "jazz"]], [0, 1], [3, 5], 3)
    assert found == [["rock"], ["jazz"], []]
