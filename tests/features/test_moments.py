from functools import reduce
from operator import add

import numpy as np
import pytest
from sklearn import decomposition
from sklearn.preprocessing import StandardScaler

from fusionrec.errors import DataError
from fusionrec.features.moments import PCA, CoMoments, Moments, Scaler

ALL = np.ones((1, 1), bool)


def rows(n: int = 200, columns: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(n, columns)) @ rng.normal(size=(columns, columns))
    mixed[:, 3] = 7.0  # constant
    return (mixed * 10 + 1000).astype(np.float32)


def fit(x: np.ndarray, shards: int) -> tuple[Scaler, CoMoments]:
    parts = np.array_split(x, shards)
    scaler = Scaler.fit(reduce(add, (Moments.of(p, ALL) for p in parts)))
    return scaler, reduce(add, (CoMoments.of(scaler.transform(p, ALL)) for p in parts))


@pytest.mark.parametrize("shards", [1, 3, 17])
def test_scaling_equals_scikit_learns_standard_scaler(shards) -> None:
    x = rows()
    reference = StandardScaler().fit(x.astype(np.float64))
    scaler, _ = fit(x, shards)
    np.testing.assert_allclose(scaler.mean, reference.mean_, rtol=1e-12)
    np.testing.assert_allclose(scaler.scale, reference.scale_, rtol=1e-9)
    np.testing.assert_allclose(
        scaler.transform(x, ALL), reference.transform(x.astype(np.float64)), atol=1e-8
    )


@pytest.mark.parametrize("shards", [1, 5])
@pytest.mark.parametrize("variance", [0.5, 0.8, 0.95])
def test_pca_equals_scikit_learns(shards, variance) -> None:
    x = rows()
    scaled = StandardScaler().fit_transform(x.astype(np.float64))
    reference = decomposition.PCA(n_components=variance, svd_solver="full").fit(scaled)
    scaler, sums = fit(x, shards)
    pca = PCA.fit(sums, variance)
    assert pca.components.shape == reference.components_.shape
    np.testing.assert_allclose(pca.explained, reference.explained_variance_ratio_, rtol=1e-8)
    # Signs too: transformed songs must not depend on how they were computed.
    np.testing.assert_allclose(pca.components, reference.components_, atol=1e-6)
    np.testing.assert_allclose(
        pca.transform(scaler.transform(x, ALL)), reference.transform(scaled), atol=1e-3
    )


def test_masked_values_enter_no_moment_and_become_the_mean() -> None:
    x = rows(50, 4)
    mask = np.ones((50, 4), bool)
    mask[:20, 2:] = False
    moments = Moments.of(x, mask)
    np.testing.assert_allclose(moments.mean[2], x[20:, 2].astype(np.float64).mean())
    np.testing.assert_allclose(moments.count, [50, 50, 30, 30])
    scaled = Scaler.fit(moments).transform(x, mask)
    assert (scaled[:20, 2:] == 0).all()
    np.testing.assert_allclose(scaled[20:, 2].std(), 1.0)


def test_all_variance_keeps_every_direction_that_varies() -> None:
    _, sums = fit(rows(), 2)
    assert len(PCA.fit(sums, 1.0).components) == 11  # one of twelve columns is constant


def test_too_little_data_is_a_clear_error() -> None:
    with pytest.raises(DataError, match="1 training songs"):
        PCA.fit(CoMoments.of(np.ones((1, 3))), 0.95)
    with pytest.raises(DataError, match="constant"):
        PCA.fit(CoMoments.of(np.ones((5, 3))), 0.95)


def test_moments_of_partly_masked_shards_add_up_in_any_grouping() -> None:
    x = rows(120, 4)
    mask = np.random.default_rng(1).random((120, 4)) < 0.5
    mask[:50, 1] = False  # some shards have no value at all
    x[~mask] = np.nan
    for shards in (1, 4, 40):
        parts = zip(np.array_split(x, shards), np.array_split(mask, shards), strict=True)
        total = reduce(add, (Moments.of(*part) for part in parts))
        exact = x.astype(np.float64)
        np.testing.assert_array_equal(total.count, mask.sum(axis=0))
        np.testing.assert_allclose(total.mean, np.nanmean(exact, axis=0), rtol=1e-12)
        np.testing.assert_allclose(
            total.squares, np.nanvar(exact, axis=0) * mask.sum(axis=0), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("shards", [1, 7])
def test_what_rounding_explains_is_constant_as_in_scikit_learn(shards) -> None:
    noise = np.random.default_rng(0).normal(size=5000)
    x = np.stack([0.1 + noise * s for s in (0, 1e-15, 1e-9)], axis=1)
    reference = StandardScaler().fit(x)
    scale = fit(x, shards)[0].scale
    np.testing.assert_allclose(scale, reference.scale_, rtol=1e-6)
    assert scale[:2].tolist() == [1, 1]
    assert scale[2] < 1e-8


def test_a_column_nobody_has_scales_to_zero() -> None:
    x = rows(10, 5)
    mask = np.ones(x.shape, bool)
    mask[:, 1] = False
    scaler = Scaler.fit(Moments.of(x, mask))
    assert (scaler.mean[1], scaler.scale[1]) == (0, 1)
    assert not scaler.transform(x, mask)[:, 1].any()


def test_fewer_songs_than_columns_leave_fewer_components() -> None:
    x = np.random.default_rng(0).normal(size=(5, 12))
    scaler, sums = fit(x, 1)
    pca = PCA.fit(sums, 1.0)
    assert len(pca.components) == 4
    coordinates = pca.transform(scaler.transform(x, ALL))
    scaled = StandardScaler().fit_transform(x)
    np.testing.assert_allclose(coordinates @ pca.components + pca.mean, scaled, atol=1e-5)


@pytest.mark.parametrize(("variance", "kept"), [(0.4, 1), (0.5, 2), (0.6, 2), (0.75, 3)])
def test_a_share_reached_exactly_is_not_exceeded(variance, kept) -> None:
    # Shares of 1/2, 1/4 and 1/4; scikit-learn too wants more than `variance`.
    sums = CoMoments(5, np.zeros(3), np.diag([2.0, 1.0, 1.0]))
    assert len(PCA.fit(sums, variance).components) == kept
