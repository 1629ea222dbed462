import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances

from fusionrec.errors import DataError
from fusionrec.labels.classes import Classes, elbow, elbow_start, fit_kmeans, knee

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 5)) * 10
X = (np.repeat(CENTRES, 15, axis=0) + RNG.normal(size=(60, 5))).astype(np.float32)
SONGS = RNG.integers(1, 9, 60)


def test_weighted_lists_have_the_inertia_of_all_songs() -> None:
    classes = fit_kmeans(X, 4, sample_weight=SONGS, seed=0)
    every_song = np.repeat(X, SONGS, axis=0)
    reference = KMeans(4, n_init=10, random_state=0).fit(every_song)
    assert classes.inertia == pytest.approx(reference.inertia_, rel=1e-4)
    nearest = pairwise_distances(every_song, classes.centroids).min(axis=1)
    assert (nearest**2).sum() == pytest.approx(classes.inertia, rel=1e-4)


def test_classes_are_numbered_by_falling_number_of_songs() -> None:
    classes = fit_kmeans(X, 4, sample_weight=SONGS, seed=0)
    label, distance = classes.predict(X)
    sizes = np.bincount(label, weights=SONGS)
    assert (np.diff(sizes) <= 0).all()
    expected = pairwise_distances(X, classes.centroids)
    np.testing.assert_array_equal(label, expected.argmin(axis=1))
    np.testing.assert_allclose(distance, expected.min(axis=1), rtol=1e-4)


def curve_of(X: np.ndarray, ks: list[int], songs: np.ndarray, seed: int = 0) -> dict[int, float]:
    starts = [elbow_start(X, k, sample_weight=songs, seed=seed) for k in ks]
    return dict(elbow(X, [s for s in starts if s is not None], sample_weight=songs))


def test_the_elbow_falls_and_bends_at_the_planted_number() -> None:
    curve = curve_of(X, [1, 2, 3, 4, 5], SONGS)
    values = [curve[k] for k in (1, 2, 3, 4, 5)]
    assert (np.diff(values) < 0).all()
    assert curve[3] - curve[4] > 5 * (curve[4] - curve[5])


@pytest.mark.parametrize("seed", range(3))
def test_an_elbow_curve_never_rises_where_random_starts_alone_would(seed) -> None:
    rng = np.random.default_rng(seed)
    # Lists of tags as they are: short, with many in common, the weights of songs far apart.
    points = (rng.random((150, 12)) < 0.25).astype(np.float32)
    songs = np.ceil(rng.pareto(1.0, len(points))).astype(np.int64)
    distinct = len(np.unique(points, axis=0))
    ks = [*range(2, 40), *range(50, distinct, 20), distinct]
    values = list(curve_of(points, ks, songs, seed).values())
    assert len(values) == len(ks)
    assert (np.diff(values) <= 0).all()
    # No worse anywhere than what each k reaches by itself, and that does rise.
    alone = [fit_kmeans(points, k, sample_weight=songs, seed=seed, n_init=3).inertia for k in ks]
    assert (np.array(values) <= np.array(alone) * (1 + 1e-6) + 1e-6).all()
    assert (np.diff(alone) > 0).any()


def test_a_k_beyond_the_distinct_vectors_has_no_start() -> None:
    few = np.repeat(X[:3], 5, axis=0)
    assert elbow_start(few, 4, sample_weight=np.ones(15), seed=0) is None
    assert list(curve_of(few, [2, 3, 4], np.ones(15))) == [2, 3]


def test_more_classes_than_lists_is_a_clear_error() -> None:
    with pytest.raises(DataError, match=r"label\.k is 4, .* have 3 distinct tag lists; lower"):
        fit_kmeans(np.repeat(X[:3], 5, axis=0), 4, sample_weight=np.ones(15), seed=0)


def test_scikit_learn_finds_nothing_to_improve_over_all_songs() -> None:
    classes = fit_kmeans(X, 4, sample_weight=SONGS, seed=0)
    every_song = np.repeat(X, SONGS, axis=0)
    reference = KMeans(4, init=classes.centroids, n_init=1).fit(every_song)
    np.testing.assert_allclose(reference.cluster_centers_, classes.centroids, atol=1e-3)
    np.testing.assert_array_equal(classes.predict(every_song)[0], reference.labels_)


def test_songs_and_not_lists_pull_a_centroid() -> None:
    points = np.array([[0.0], [1.0], [100.0]], np.float32)
    classes = fit_kmeans(points, 2, sample_weight=np.array([9, 1, 1]), seed=0)
    np.testing.assert_allclose(classes.centroids, [[0.1], [100.0]], rtol=1e-3)
    assert classes.inertia == pytest.approx(9 * 0.1**2 + 0.9**2, rel=1e-4)


def test_many_rows_are_predicted_in_blocks_as_one() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(3000, 50)).astype(np.float32)
    classes = Classes(rng.normal(size=(60, 50)).astype(np.float32), 0.0)
    nearest, distance = classes.predict(rows)  # 9 million differences
    expected = pairwise_distances(rows.astype(np.float64), classes.centroids)
    np.testing.assert_array_equal(nearest, expected.argmin(axis=1))
    np.testing.assert_allclose(distance, expected.min(axis=1), rtol=1e-6)
    assert (nearest.dtype, distance.dtype) == (np.int32, np.float32)
    assert classes.predict(rows[:0])[0].shape == (0,)


def test_the_seed_decides() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    weight = np.ones(len(rows))
    fits = [fit_kmeans(rows, 12, sample_weight=weight, seed=s, n_init=1) for s in (1, 1, 2)]
    np.testing.assert_array_equal(fits[0].centroids, fits[1].centroids)
    assert not np.array_equal(fits[0].centroids, fits[2].centroids)


def test_the_knee_is_where_a_curve_bends() -> None:
    bent = [(k, 100.0 - 20 * k if k <= 4 else 20.0 - (k - 4)) for k in range(1, 15)]
    assert knee(bent) == 4
    assert knee([(2, 3.0), (3, 2.0)]) is None
    assert knee([(k, 10.0 - k) for k in range(2, 9)]) is None
