"""Class measures by hand, against scikit-learn, and from their definitions."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, f1_score

from fusionrec.evaluation import classes as measures
from fusionrec.evaluation.classes import (
    ClassQuality,
    Lookup,
    accuracy,
    artist_lookup_accuracy,
    class_quality,
    macro_f1,
    majority_level,
    mutual_information,
    silhouette,
)

some_classes = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(pairs=some_classes)
def test_against_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    predicted, own = np.array(pairs).T
    assert accuracy(predicted, own) == pytest.approx(accuracy_score(own, predicted))
    assert macro_f1(predicted, own) == pytest.approx(f1_score(own, predicted, average="macro"))


def test_by_hand() -> None:
    predicted, own = np.array([0, 0, 1, 7]), np.array([0, 1, 1, 2])
    assert accuracy(predicted, own) == 1 / 2
    assert macro_f1(predicted, own) == pytest.approx((2 / 3 + 2 / 3 + 0 + 0) / 4)
    assert math.isnan(accuracy(np.array([], int), np.array([], int)))
    assert math.isnan(macro_f1(np.array([], int), np.array([], int)))


def test_majority_level() -> None:
    train, test = np.array([3, 1, 3, 0, 1]), np.array([1, 1, 3, 0])
    assert majority_level(train, test) == 2 / 4  # 1 and 3 are as frequent: the smaller
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((5, 1)), train)
    assert majority_level(train, test) == dummy.score(np.zeros((4, 1)), test)


def test_artist_lookup_by_hand() -> None:
    train_artists = np.array(["b", "a", "a", "b", "a", "c", "c", "c"])
    train_classes = np.array([5, 2, 2, 4, 5, 5, 5, 4])
    # a: 2; b: 4 and 5 are as frequent, so 4; c: 5; all: 5.
    test_artists = np.array(["a", "a", "b", "c", "0", "zz"])
    test_classes = np.array([2, 5, 4, 4, 5, 2])
    lookup = artist_lookup_accuracy(train_artists, train_classes, test_artists, test_classes)
    assert lookup == Lookup(accuracy=3 / 6, share_known=4 / 6)


@settings(max_examples=100, deadline=None)
@given(train=some_classes, test=some_classes)
def test_artist_lookup_against_dictionaries(
    train: list[tuple[int, int]], test: list[tuple[int, int]]
) -> None:
    songs: dict[int, Counter[int]] = {}
    overall: Counter[int] = Counter()
    for artist, own in train:
        songs.setdefault(artist, Counter())[own] += 1
        overall[own] += 1

    def majority(counts: Counter[int]) -> int:
        return min(counts, key=lambda c: (-counts[c], c))

    right = sum(majority(songs.get(artist, overall)) == own for artist, own in test)
    lookup = artist_lookup_accuracy(*np.array(train).T, *np.array(test).T)
    assert lookup.accuracy == pytest.approx(right / len(test))
    assert lookup.share_known == pytest.approx(sum(a in songs for a, _ in test) / len(test))


def test_without_a_common_artist_the_lookup_is_the_majority_level() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 3, 100), rng.integers(0, 3, 50)
    lookup = artist_lookup_accuracy(np.arange(100), train, np.arange(100, 150), test)
    assert lookup == Lookup(majority_level(train, test), 0.0)


def test_silhouette_by_definition() -> None:
    rng = np.random.default_rng(1)
    own = rng.integers(0, 3, 40)
    X = rng.normal(size=(40, 2)) + 2 * own[:, None]
    distance = np.linalg.norm(X[:, None] - X[None], axis=2)
    values = []
    for i in range(40):
        others = (own == own[i]) & (np.arange(40) != i)
        a = distance[i, others].mean()
        b = min(distance[i, own == c].mean() for c in set(own) - {own[i]})
        values.append((b - a) / max(a, b))
    assert silhouette(X, own, seed=0) == pytest.approx(np.mean(values))


def test_silhouette_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    own = rng.integers(0, 3, 600)
    X = rng.normal(size=(600, 2)) + 2 * own[:, None]
    whole = silhouette(X, own, seed=0)
    monkeypatch.setattr(measures, "SILHOUETTE_SONGS", 300)
    assert silhouette(X, own, seed=0) == pytest.approx(whole, abs=0.05)
    assert silhouette(X, own, seed=0) == silhouette(X, own, seed=0)
    assert silhouette(X, own, seed=0) != silhouette(X, own, seed=1)


@pytest.mark.parametrize("own", [[0, 0, 0], [0, 1, 2], [0]])
def test_silhouette_where_there_is_none(own: list[int]) -> None:
    assert math.isnan(silhouette(np.arange(len(own))[:, None] * 1.0, np.array(own), seed=0))


def test_mutual_information_by_hand() -> None:
    # Two classes of two, and one class of these in two: I = ln 2, entropies ln 2 and 1.5 ln 2.
    assert mutual_information([0, 0, 1, 1], ["x", "x", "y", "z"]) == pytest.approx(1 / 1.25)
    assert mutual_information([0, 0, 1, 1], [4, 4, 2, 2]) == pytest.approx(1)
    assert mutual_information([0, 0, 1, 1], [4, 2, 4, 2]) == pytest.approx(0)


def test_all_at_once() -> None:
    quality = class_quality(
        np.array([0, 1, 1]),
        np.array([0, 0, 1]),
        np.array([0, 1, 0]),
        train_artists=["a", "a", "b"],
        test_artists=["a", "b", "c"],
        vectors=np.array([[0.0], [1.0], [10.0], [11.0]]),
        vector_classes=np.array([0, 0, 1, 1]),
        other_classes=["x", "x", "y", "z"],
        seed=0,
    )
    near, far = 1 - 1 / 10.5, 1 - 1 / 9.5
    assert quality == ClassQuality(
        accuracy=pytest.approx(2 / 3),
        macro_f1=pytest.approx(2 / 3),
        majority_level=pytest.approx(2 / 3),
        artist_lookup=Lookup(1.0, pytest.approx(2 / 3)),
        silhouette=pytest.approx((near + far) / 2),
        mutual_information=pytest.approx(1 / 1.25),
    )


def test_what_does_not_fit() -> None:
    one, two, none = np.zeros(1, int), np.zeros(2, int), np.zeros(0, int)
    with pytest.raises(ValueError, match="predictions"):
        accuracy(one, two)
    with pytest.raises(ValueError, match="predictions"):
        macro_f1(one, two)
    with pytest.raises(ValueError, match="training song"):
        majority_level(none, one)
    with pytest.raises(ValueError, match="training song"):
        artist_lookup_accuracy(none, none, one, one)
    with pytest.raises(ValueError, match="artists"):
        artist_lookup_accuracy(two, one, one, one)
    assert math.isnan(artist_lookup_accuracy(one, one, none, none).accuracy)
