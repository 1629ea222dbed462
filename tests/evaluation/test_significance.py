"""Holm's adjustment by hand, against the closed testing procedure, and its error rate."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionrec.evaluation.significance import holm

some_p = st.lists(
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.05, 0.5, 1.0])), max_size=7
)


def test_by_hand() -> None:
    # In order: 4 * .01, 3 * .015, 2 * .03, and 1 * .05, which the one before it exceeds.
    adjusted = holm({"d": 0.05, "a": 0.01, "c": 0.03, "b": 0.015})
    assert list(adjusted) == ["d", "a", "c", "b"]
    assert adjusted == pytest.approx({"a": 0.04, "b": 0.045, "c": 0.06, "d": 0.06})
    assert holm({"a": 0.4, "b": 0.6}) == pytest.approx({"a": 0.8, "b": 0.8})
    assert holm({"a": 0.7, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({"only": 0.03}) == {"only": 0.03}
    assert holm({}) == {}


def by_closed_testing(p: list[float]) -> list[float]:
    """Largest Bonferroni p-value of the sets of hypotheses that a hypothesis is in.

    What Holm's procedure is a short cut for (Marcus, Peritz & Gabriel 1976).
    """
    n = len(p)
    sets = [s for size in range(1, n + 1) for s in combinations(range(n), size)]
    bonferroni = {s: min(1.0, len(s) * min(p[i] for i in s)) for s in sets}
    return [max(value for s, value in bonferroni.items() if i in s) for i in range(n)]


@given(p=some_p)
def test_is_closed_testing_with_bonferroni(p: list[float]) -> None:
    adjusted = list(holm({str(i): value for i, value in enumerate(p)}).values())
    assert adjusted == pytest.approx(by_closed_testing(p))


@given(p=some_p)
def test_keeps_the_order_and_stays_between_p_and_bonferroni(p: list[float]) -> None:
    adjusted = list(holm({str(i): value for i, value in enumerate(p)}).values())
    for one, own in zip(p, adjusted, strict=True):
        assert one <= own <= min(1, len(p) * one)
        for other, others in zip(p, adjusted, strict=True):
            assert one > other or own <= others


def test_rarely_rejects_anything_where_nothing_is_there() -> None:
    rng = np.random.default_rng(0)
    rejected = 0
    for p in rng.random((2_000, 6)):
        rejected += min(holm({str(i): float(value) for i, value in enumerate(p)}).values()) <= 0.1
    # 1 - (1 - .1 / 6)^6 = .0959 of independent tests, with a standard error of .0066.
    assert rejected / 2_000 == pytest.approx(0.0959, abs=0.025)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value(value: float) -> None:
    with pytest.raises(ValueError, match="second"):
        holm({"first": 0.5, "second": value})
