"""What signals and their blend are computed with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BlendSettings:
    """Settings; those that :mod:`fusionrec.signals.tuning` chooses are beginnings only.

    Attributes
    ----------
    landmarks
        Songs that a kernel's features are made of: those with most listeners.
    rank
        Dimensions of the blend, at most.
    tune
        Whether inner folds choose the settings that they can choose.
    users, others
        Users and negative songs sampled in each inner fold to learn weights from, at most.
    aligned
        Share of a sum of kernels that is weighted by alignment; the rest is even. Chosen.
    penalty, context_penalty
        Of kernel ridge without and with context, as a share of the kernel's mean diagonal.
        Chosen.
    smooth_penalty, smooth_context_penalty
        The same for histories smoothed by matrix factorisation. Chosen.
    popularity_penalty
        The same for the regression to popularity. Chosen.
    colistened_penalty
        The same for the regression to songs listened to together. It is not chosen: of 3 to 100
        the first ranked best with other songs' plays, and without them all within noise, so that
        inner folds' time is not spent on it.
    factors, alpha, epsilon, regularisation, iterations
        Of matrix factorisation (:mod:`fusionrec.baselines.factorisation`). The first two and
        the regularisation are chosen.
    shrinkage
        Songs' worth of the mean of all that a mean over a song's neighbours is drawn to.
    sharpness
        What similarities are multiplied with before the softmax of attention.
    """

    landmarks: int = 1024
    rank: int = 128
    tune: bool = True
    users: int = 1000
    others: int = 256
    aligned: float = 0.5
    penalty: float = 3.0
    context_penalty: float = 3.0
    smooth_penalty: float = 1.0
    smooth_context_penalty: float = 1.0
    popularity_penalty: float = 3.0
    colistened_penalty: float = 3.0
    factors: int = 50
    alpha: float = 10.0
    epsilon: float = 1.0
    regularisation: float = 10.0
    iterations: int = 10
    shrinkage: float = 1.0
    sharpness: float = 5.0
