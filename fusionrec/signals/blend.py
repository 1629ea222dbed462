"""The blend of signals: weights learned by a simulated cold start, one pair of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.errors import ConfigError, DataError
from fusionrec.signals import compress, weights
from fusionrec.signals.explain import Explanation, explain
from fusionrec.signals.histories import Weighting
from fusionrec.signals.inner import inner_folds
from fusionrec.signals.lists import Lists
from fusionrec.signals.registry import SIGNALS
from fusionrec.signals.settings import BlendSettings
from fusionrec.signals.signal import Factors, Fold, Kind
from fusionrec.signals.tuning import tuned

_NONE = 1e-6
"""Weight, relative to the largest, below which a signal is left out."""


@dataclass(frozen=True)
class Simulated:
    """What inner folds tell about signals: everything that weights are learned from.

    Attributes
    ----------
    names
        Signals, in the order of the tables' columns.
    settings
        With what inner folds chose.
    tables
        Standardised scores, one table an inner fold.
    deviations
        What each signal is divided by, float64 (K,); inf for one that is constant.
    """

    names: tuple[str, ...]
    settings: BlendSettings
    tables: list[weights.Table]
    deviations: NDArray[np.float64]

    def of(self, names: Sequence[str]) -> Simulated:
        """The same with some of its signals."""
        columns = np.array([self.names.index(name) for name in names])
        tables = [table.of(columns) for table in self.tables]
        return Simulated(tuple(names), self.settings, tables, self.deviations[columns])


@dataclass(frozen=True)
class Blend:
    """Weighted signals as one pair of matrices: score(u, s) = V_u . F(s).

    Attributes
    ----------
    names
        Signals that were weighed, in the order of `weights`.
    weights
        Float64, of the standardised signals.
    deviations
        What each signal was divided by; inf for one that is constant.
    slices
        Of each signal with a weight, its dimensions of F and V. A signal's part of a score is the
        product of its slices.
    F
        Float32, shape (n, D), of all songs: of weighted signals, less the cold songs' mean.
    V
        Float32, shape (U, D), of all users. One without plays has the mean of the others' in the
        signals of popularity and zeros elsewhere, so that the most popular songs come first; all
        zeros where no such signal has a weight.
    weightings
        For each signal with a weight, how the songs of a history are weighed in V; None where a
        user's vector is no sum over the history.
    atoms
        Float32, shape (n, D): V_u is the weighted sum of the rows of the songs in u's history,
        in the dimensions of signals that have a weighting; elsewhere zeros.
    settings
        What signals were computed with, those that inner folds chose included.
    l2
        The penalty that was chosen.
    kept
        Share of the squared scores of cold songs that D dimensions make.
    """

    names: tuple[str, ...]
    weights: NDArray[np.float64]
    deviations: NDArray[np.float64]
    slices: dict[str, slice]
    F: NDArray[np.float32]
    V: NDArray[np.float32]
    weightings: dict[str, Weighting | None]
    atoms: NDArray[np.float32]
    settings: BlendSettings
    l2: float
    kept: float

    def explain(
        self,
        user: int,
        song: int,
        history: NDArray[np.integer[Any]],
        plays: NDArray[np.integer[Any]],
    ) -> Explanation:
        """Why `song` (a row of F) has its score for `user` (a row of V).

        Parameters
        ----------
        history, plays
            Rows of F that the user's vector was made of, and the user's plays of them.
        """
        return explain(
            self.V[user],
            self.F[song],
            self.slices,
            self.weightings,
            self.kinds,
            self.atoms[history],
            plays,
        )

    @property
    def kinds(self) -> dict[str, Kind]:
        """What each signal counts as."""
        return {name: SIGNALS[name].kind for name in self.names}

    @property
    def modalities(self) -> dict[str, str]:
        """What of a song each signal reads."""
        return {name: SIGNALS[name].modality for name in self.names}


def fit_blend(fold: Fold, names: Sequence[str]) -> Blend:
    """Compute, weigh and join signals.

    Parameters
    ----------
    fold
        The outer split's. To its test songs :func:`fusionrec.signals.inner.kept_with` adds what
        the split keeps with them: all of these are hidden. Its settings are beginnings of what
        inner folds choose, and what they do not; its seed is that of inner folds, samples and
        factorisation.
    names
        Of :data:`fusionrec.signals.registry.SIGNALS`.

    Raises
    ------
    ConfigError
        A name is none of a signal.
    DataError
        There are too few songs or plays for inner folds, or no signal tells songs apart.
    """
    simulated = simulate(fold, names)
    return joined(simulated, fold.with_settings(simulated.settings))


def simulate(fold: Fold, names: Sequence[str]) -> Simulated:
    """Choose settings and score the lists of all inner folds; see :func:`fit_blend`."""
    unknown = [name for name in names if name not in SIGNALS]
    if unknown or not names:
        raise ConfigError(
            f"blend.signals names {', '.join(unknown) or 'none'}: choose from {', '.join(SIGNALS)}"
        )
    settings, folds = fold.settings, inner_folds(fold)
    lists = [Lists.of(inner, fold.seed) for inner in folds]
    if settings.tune:
        settings = tuned(folds, lists, settings, names)
    tables = []
    for some in lists:
        # A fold goes with what it keeps, and a signal with its scores: they are all of the memory.
        chosen = folds.pop(0).fold.with_settings(settings)
        tables.append(weights.table(some, (SIGNALS[name].fit(chosen) for name in names)))
    tables, deviations = weights.standardise(tables)
    return Simulated(tuple(names), settings, tables, deviations)


def joined(simulated: Simulated, fold: Fold) -> Blend:
    """Learn weights and compute the signals that have one, of the outer fold.

    Parameters
    ----------
    fold
        With the settings that were chosen.

    Raises
    ------
    DataError
        No signal has a weight, or none of those that have one tells cold songs apart.
    """
    learned, l2 = weights.choose(simulated.tables)
    learned = np.where(np.isfinite(simulated.deviations), learned, 0.0)
    if not learned.max(initial=0.0) > 0:
        raise DataError("blend: no signal tells a user's songs from others: use more plays or tags")
    learned[learned < _NONE * learned.max()] = 0.0
    scales, rank = learned / simulated.deviations, fold.settings.rank
    cold = np.flatnonzero(fold.hidden[: fold.songs.own])
    if not len(cold):
        cold = np.arange(fold.songs.own)
    found: list[tuple[str, Factors, NDArray[np.float64]]] = []
    for name, scale in zip(simulated.names, scales, strict=True):
        if scale > 0:
            factors, energies = compress.rotated(SIGNALS[name].fit(fold), cold, rank)
            found.append((name, _scaled(factors, scale), energies * scale**2))
            # What has no place in the rank already has none with further signals.
            kept = compress.shares_of_rank([energies for _, _, energies in found], rank)
            found = [
                (n, compress.leading(f, k), e) for (n, f, e), k in zip(found, kept, strict=True)
            ]
    total = sum(float(energies.sum()) for _, _, energies in found)
    some = sum(float(energies[:k].sum()) for (_, _, energies), k in zip(found, kept, strict=True))
    bounds = np.concatenate([[0], np.cumsum(kept)])
    if not bounds[-1]:
        raise DataError(
            f"blend: no signal with a weight tells the {len(cold)} songs of the test part apart: "
            "use a test part of more songs (fewer split.folds), or more signals (blend.signals)"
        )
    users = fold.histories.counts.shape[0]
    F, atoms = (np.zeros((len(fold.songs), bounds[-1]), np.float32) for _ in range(2))
    V = np.zeros((users, bounds[-1]), np.float32)
    played = fold.histories.sizes > 0
    slices = {}
    for (name, factors, _), start, k in zip(found, bounds, kept, strict=False):
        place = slices[name] = slice(int(start), int(start) + k)
        F[:, place], V[:, place] = factors.F, factors.vectors()
        if factors.atoms is not None:
            atoms[:, place] = factors.atoms
        if SIGNALS[name].kind == "popularity" and k:
            V[~played, place] = V[played, place].mean(axis=0, dtype=np.float64)
    return Blend(
        simulated.names,
        learned,
        simulated.deviations,
        slices,
        F,
        V,
        {name: factors.weighting for name, factors, _ in found},
        atoms,
        fold.settings,
        l2,
        some / total if total > 0 else 1.0,
    )


def _scaled(factors: Factors, scale: float) -> Factors:
    """A signal's scores times a number, an even part of it on either side."""
    root = np.sqrt(scale) * np.eye(factors.F.shape[1])
    return factors.projected(root, root)
