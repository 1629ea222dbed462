"""Lists from bounds of scores are those of all scores, to the last bit."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numpy.typing import NDArray

from fusionrec.probes import Finding
from fusionrec.ranking import bounds, on_cpu
from fusionrec.ranking.bounds import HUGE, Codes, user_code
from fusionrec.ranking.on_cpu import coded
from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.plain import dot_products
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from fusionrec.ranking.vector_code import BOUNDED, bound_panel
from tests.ranking.problems import assert_same, large, song_lists

pytestmark = pytest.mark.processor

Floats = NDArray[np.float32]

KINDS = (
    "normal",
    "few levels",
    "equal songs",
    "zeros among them",
    "large",
    "tiny",
    "denormal",
    "all sizes",
    "not negative",
    "one dimension leads",
    "nearly the same",
)


def vectors(kind: str, rng: np.random.Generator, rows: int, d: int) -> Floats:
    """Vectors whose codes have a hard time in one way or another."""
    found = rng.normal(size=(rows, d))
    if kind == "few levels":
        found = np.round(found)
    elif kind == "equal songs":
        found = found[rng.integers(0, 1 + rows // 9, rows)]
    elif kind == "zeros among them":
        found[rng.random(rows) < 0.3] = 0
        found[rng.random(found.shape) < 0.3] = -0.0
    elif kind in ("large", "tiny", "denormal"):
        found *= {"large": 1e16, "tiny": 1e-24, "denormal": 1e-40}[kind]
    elif kind == "all sizes":
        found *= 10.0 ** rng.uniform(-20, 8, (rows, 1))
    elif kind == "not negative":
        found = np.exp(4 * found)
        found /= found.sum(axis=1, keepdims=True)
    elif kind == "one dimension leads":
        found[:, 0] *= 1e6
    elif kind == "nearly the same":
        found = 1 + 1e-6 * found
    return found.astype(np.float32)


def with_codes(F: Floats) -> PackedSongs:
    """As `coded` has it, but however few there are."""
    codes = Codes.of(F)
    assert codes is not None
    return replace(PackedSongs.of(F), codes=codes)


def bounded(V: Floats, packed: PackedSongs, k: int, exclude: SongLists) -> NDArray[np.bool_]:
    """Whose lists the bounds alone decide."""
    assert packed.codes is not None
    users = len(V)
    return bounds.rank_bounded(
        *(V, packed.rows, packed.codes, exclude.indptr, exclude.songs),
        *(np.empty((users, k), np.int32), np.empty((users, k), np.float32)),
        *(np.empty(users, np.int32), np.empty(users, np.int32)),
    )


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    of_users=st.sampled_from(KINDS),
    songs=st.sampled_from([1, 7, BOUNDED, 700, 3001]),
    d=st.sampled_from([1, 6, 64, 130]),
    users=st.integers(1, 9),
    k=st.sampled_from([1, 2, 10, 40, 900]),
    seed=st.integers(0, 10**6),
)
def test_lists_are_those_of_all_scores(
    kind: str, of_users: str, songs: int, d: int, users: int, k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    F, V = vectors(kind, rng, songs, d), vectors(of_users, rng, users, d)
    # Every other user has heard something: the best songs, or any, or all.
    orders = np.argsort(-(V.astype(np.float64) @ F.T.astype(np.float64)), axis=1, kind="stable")
    few = -(-songs // 8)
    heard = [orders[0, :few], rng.permutation(songs)[:few], np.arange(songs)]
    exclude = song_lists([heard[u // 2 % 3].tolist() if u % 2 else [] for u in range(users)])
    expected = rank_users(V, F, k, exclude=exclude)
    assert_same(rank_users(V, with_codes(F), k, exclude=exclude), expected)


@njit
def panel_bounds(user, codes, factors, of_user, to):  # type: ignore[no-untyped-def]
    for p in range(len(codes)):
        bound_panel(
            user.ctypes.data,
            codes[p].ctypes.data,
            codes.shape[1],
            factors[p].ctypes.data,
            of_user.ctypes.data,
            to[p].ctypes.data,
        )


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    of_users=st.sampled_from(["normal", "not negative", "one dimension leads", "large"]),
    d=st.sampled_from([1, 6, 64, 130]),
    seed=st.integers(0, 10**6),
)
def test_every_score_is_within_its_bounds(kind: str, of_users: str, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    F, v = vectors(kind, rng, 150, d), vectors(of_users, rng, 1, d)
    codes = Codes.of(F)
    assert codes is not None
    user, scales = bounds.encoded(v)[:2]
    to = np.empty((len(codes.codes), 2, BOUNDED), np.float32)
    panel_bounds(user[0], codes.codes, codes.factors, scales[0], to)
    least, most = to[:, 0].ravel()[:150], to[:, 1].ravel()[:150]
    scores = dot_products(v[0], np.ascontiguousarray(F.T)).astype(np.float64)
    assert (least - bounds.TINY <= scores).all()
    assert (scores <= most + bounds.TINY).all()
    if kind == of_users == "normal":  # and they say something
        sizes = np.linalg.norm(v[0]) * np.linalg.norm(F, axis=1)
        assert ((most - least) < 0.03 * sizes).all()


def test_of_ordinary_vectors_the_bounds_alone_decide() -> None:
    V, F, exclude, _ = large(9, 20_000, 24, seed=2)
    assert bounded(V, with_codes(F), 20, exclude).all()


def test_where_bounds_leave_too_many_songs_all_scores_decide() -> None:
    rng = np.random.default_rng(5)
    F = vectors("nearly the same", rng, 9000, 12)
    V = np.concatenate([np.ones((1, 12), np.float32), np.zeros((1, 12), np.float32)])
    nobody = song_lists([[], []])
    assert not bounded(V, with_codes(F), 20, nobody).any()
    assert_same(rank_users(V, with_codes(F), 20), rank_users(V, F, 20))
    # One who is ranked by all scores beside one who is not, with exclusions of both.
    F[::3] += rng.normal(size=(3000, 12)).astype(np.float32)
    V = np.concatenate([V, rng.normal(size=(1, 12)).astype(np.float32)])
    exclude = song_lists([[0, 5], [1], [2, 3, 8999]])
    assert bounded(V, with_codes(F), 20, exclude).tolist() == [True, False, True]
    assert_same(
        rank_users(V, with_codes(F), 20, exclude=exclude), rank_users(V, F, 20, exclude=exclude)
    )


def test_ranks_of_relevant_songs_are_counted_among_all_scores() -> None:
    V, F, exclude, relevant = large(5, 5000, 20, seed=3)
    lists = {"exclude": exclude, "relevant": relevant}
    assert_same(rank_users(V, coded(PackedSongs.of(F)), 20, **lists), rank_users(V, F, 20, **lists))


def test_what_may_leave_float32_has_no_codes() -> None:
    F = np.ones((5000, 9), np.float32)
    F[7, 2] = 2 * HUGE
    assert coded(PackedSongs.of(F)).codes is None
    V = np.full((1, 9), 4 * HUGE, np.float32)
    assert not bounded(V, with_codes(F[:5]), 1, song_lists([[]])).any()


@pytest.mark.parametrize("d", [1, 2, 63, 64, 513, 40_000])
def test_no_sum_of_products_of_codes_leaves_int32(d: int) -> None:
    assert 127 * user_code(d) * (d + d % 2) < 2**31
    # And it is reached: all codes are the largest.
    F, V = np.full((BOUNDED + 1, d), 0.5, np.float32), np.ones((1, d), np.float32)
    F[3] *= -1
    lists = rank_users(V, with_codes(F), 1)
    assert_same(lists, rank_users(V, F, 1))
    codes = Codes.of(F)
    assert codes is not None
    user, scales = bounds.encoded(V)[:2]
    to = np.empty((2, 2, BOUNDED), np.float32)
    panel_bounds(user[0], codes.codes, codes.factors, scales[0], to)
    np.testing.assert_allclose(to[0, :, 3].mean(), -d / 2, rtol=1e-3)


def test_few_songs_or_dimensions_have_no_codes() -> None:
    assert coded(PackedSongs.of(np.ones((100, 64), np.float32))).codes is None
    assert coded(PackedSongs.of(np.ones((5000, 2), np.float32))).codes is None
    packed = coded(PackedSongs.of(np.ones((5000, 8), np.float32)))
    assert packed.codes is not None
    assert coded(packed) is packed


def test_bounds_that_are_wrong_here_are_found_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rank = bounds._rank

    def otherwise(*arguments: object) -> None:
        rank(*arguments)
        indices = arguments[9]
        assert isinstance(indices, np.ndarray)
        indices[-1, 2] += 1

    monkeypatch.setattr(bounds, "_rank", otherwise)
    finding = on_cpu.bounds_work.__wrapped__()
    assert not finding.works
    assert "lists of few users: all scores" in caplog.text
    monkeypatch.setattr(on_cpu, "bounds_work", lambda: finding)
    assert coded(PackedSongs.of(np.ones((5000, 9), np.float32))).codes is None


def test_without_compiled_code_nothing_is_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_cpu, "compiled_code", lambda: Finding(False, "as the test says"))
    assert not on_cpu.bounds_work.__wrapped__().works
    monkeypatch.setattr(on_cpu, "bounds_work", on_cpu.bounds_work.__wrapped__)
    assert coded(PackedSongs.of(np.ones((5000, 9), np.float32))).codes is None


def test_bounds_work_here(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fusionrec"):
        assert on_cpu.bounds_work.__wrapped__().works
    assert "lists of few users: bounds of scores (right on known numbers; " in caplog.text
