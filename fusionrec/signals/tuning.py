"""Settings that inner folds choose, each by the ranking of the signal that it matters most to.

One at a time in the order of :data:`STEPS`, each with those before it as they were chosen; by
average precision on two of the inner folds, with fewer landmarks than signals have later.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusionrec.signals.inner import Inner
from fusionrec.signals.lists import Lists, average_precision
from fusionrec.signals.registry import SIGNALS
from fusionrec.signals.settings import BlendSettings
from fusionrec.signals.signal import Fold
from fusionrec.signals.weights import constant

_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
_TUNED_ON = 2
_LANDMARKS = 512


@dataclass(frozen=True)
class Step:
    """Values of some settings, and the signal that says which of them to take.

    Attributes
    ----------
    keeps
        Beginnings of the names of what a fold keeps that does not depend on these settings.
    """

    signal: str
    values: tuple[dict[str, Any], ...]
    keeps: tuple[str, ...] = ()


def _penalties(name: str) -> tuple[dict[str, Any], ...]:
    return tuple({name: value} for value in _PENALTIES)


_SUMS = ("features", "kernel")

STEPS = (
    Step("taste", tuple({"aligned": share} for share in (0.5, 0.0, 1.0))),
    Step("taste", _penalties("penalty"), _SUMS),
    Step("taste-context", _penalties("context_penalty"), _SUMS),
    Step(
        "taste-smoothed",
        (
            {"factors": 50, "alpha": 10.0, "regularisation": 10.0},
            {"factors": 50, "alpha": 10.0, "regularisation": 40.0},
            {"factors": 20, "alpha": 10.0, "regularisation": 10.0},
        ),
        _SUMS,
    ),
    Step("taste-smoothed", _penalties("smooth_penalty"), (*_SUMS, "factorisation")),
    Step(
        "taste-smoothed-context",
        _penalties("smooth_context_penalty"),
        (*_SUMS, "factorisation"),
    ),
    Step("popularity", _penalties("popularity_penalty"), (*_SUMS, "neighbour means")),
)


def tuned(
    folds: Sequence[Inner], lists: Sequence[Lists], settings: BlendSettings, names: Collection[str]
) -> BlendSettings:
    """The settings with what inner folds choose; of equal values the first.

    Parameters
    ----------
    names
        The signals that are to be computed: steps by others are left out.
    """
    inner = [
        (inner.fold.with_settings(settings), some) for inner, some in zip(folds, lists, strict=True)
    ]
    inner = inner[:_TUNED_ON]
    whole = settings
    settings = replace(settings, landmarks=min(settings.landmarks, _LANDMARKS))
    for step in STEPS:
        if step.signal not in names:
            continue
        tried = []
        for values in step.values:
            trial = replace(settings, **values)
            inner = [(_kept(fold, trial, step.keeps), some) for fold, some in inner]
            tried.append(np.mean([_precision(fold, some, step.signal) for fold, some in inner]))
        settings = replace(settings, **step.values[int(np.argmax(tried))])
        inner = [(_kept(fold, settings, step.keeps), some) for fold, some in inner]
    return replace(settings, landmarks=whole.landmarks)


def _kept(fold: Fold, settings: BlendSettings, keeps: tuple[str, ...]) -> Fold:
    """The fold with other settings, and of what it keeps what does not depend on them."""
    return replace(fold, settings=settings, memo=fold.memo.of(keeps))


def _precision(fold: Fold, lists: Lists, signal: str) -> float:
    positives, others, size = lists.scores(SIGNALS[signal].fit(fold))
    deviation = np.sqrt(np.mean(others.astype(np.float64) ** 2, keepdims=True))
    if constant(deviation, np.array(size)).all():  # what is rounding must not be what is chosen
        positives, others = np.zeros_like(positives), np.zeros_like(others)
    return average_precision(lists, positives, others)
