"""The blend of signals: weights learned by a simulated cold start, one pair of matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.errors import ConfigError, DataError
from fusionrec.signals import compress, registry, weights
from fusionrec.signals.explain import Explanation, Layout, explain
from fusionrec.signals.inner import inner_folds
from fusionrec.signals.lists import Lists
from fusionrec.signals.settings import BlendSettings
from fusionrec.signals.signal import Factors, Fold, Kind, times
from fusionrec.signals.strangers import Strangers
from fusionrec.signals.tuning import tuned
from fusionrec.signals.unseen.encoder import UnseenSongs
from fusionrec.signals.unseen.joining import joined as joined_maps
from fusionrec.signals.users import Users

_NONE = 1e-6
"""Weight, relative to the largest, below which a signal is left out."""

WIDTH = 4
"""Dimensions of the signals side by side, at most, as a multiple of those of the blend."""


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
    F
        Float32, shape (n, d), of all songs: of weighted signals, less the cold songs' mean.
    V
        Float32, shape (U, d), of all users. One without plays has the mean of the others' in the
        signals of popularity and zeros elsewhere, so that the most popular songs come first; all
        zeros where no such signal has a weight.
    layout
        Where each signal with a weight is among D dimensions, of which V and F are combinations.
        There a signal's part of a score is the product of its dimensions.
    features
        Float32, shape (n, D): of all songs, less the cold songs' mean.
    atoms
        Float32, shape (n, D): a user's vector is the weighted sum of the rows of the songs of
        the user's history, in the dimensions of signals that have a weighting; elsewhere zeros.
    told
        Float32, shape (U, E): users' vectors in the other dimensions, `layout.told`.
    rotation
        Float32, shape (D, d): V is users' vectors in D dimensions times it.
    nobody
        Float32, shape (D,): a user without plays.
    settings
        What signals were computed with, those that inner folds chose included.
    l2
        The penalty that was chosen.
    kept
        Share of the squared scores of cold songs that d dimensions make.
    unseen
        What makes rows of F, features and atoms of other songs, where it was asked for.
    strangers
        What makes rows of `told` of other users, where that was.
    """

    names: tuple[str, ...]
    weights: NDArray[np.float64]
    deviations: NDArray[np.float64]
    F: NDArray[np.float32]
    V: NDArray[np.float32]
    layout: Layout
    features: NDArray[np.float32]
    atoms: NDArray[np.float32]
    told: NDArray[np.float32]
    rotation: NDArray[np.float32]
    nobody: NDArray[np.float32]
    settings: BlendSettings
    l2: float
    kept: float
    unseen: UnseenSongs | None = field(default=None, repr=False)
    strangers: Strangers | None = field(default=None, repr=False)

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
        atoms = self.atoms[history]
        score = float(self.V[user].astype(np.float64) @ self.F[song])
        vector = self.layout.user(atoms, plays, self.told[user])
        return explain(self.layout, score, vector, self.features[song], atoms, plays)

    @property
    def kinds(self) -> dict[str, Kind]:
        """What each signal counts as."""
        return {name: registry.spec(name).kind for name in self.names}

    @property
    def modalities(self) -> dict[str, str]:
        """What of a song each signal reads."""
        return {name: registry.spec(name).modality for name in self.names}


def fit_blend(fold: Fold, names: Sequence[str], *, unseen: bool = False) -> Blend:
    """Compute, weigh and join signals.

    Parameters
    ----------
    fold
        The outer split's. To its test songs :func:`fusionrec.signals.inner.kept_with` adds what
        the split keeps with them: all of these are hidden. Its settings are beginnings of what
        inner folds choose, and what they do not; its seed is that of inner folds, samples and
        factorisation.
    names
        Of :func:`fusionrec.signals.registry.names`, of the songs' further vectors too.
    unseen
        Whether the blend is to have what makes rows of songs and users that it is not fitted on.

    Raises
    ------
    ConfigError
        A name is none of a signal.
    DataError
        There are too few songs or plays for inner folds, or no signal tells songs apart.
    """
    simulated = simulate(fold, names)
    return joined(simulated, fold.with_settings(simulated.settings), unseen=unseen)


def simulate(fold: Fold, names: Sequence[str]) -> Simulated:
    """Choose settings and score the lists of all inner folds; see :func:`fit_blend`."""
    known = registry.names(further=fold.songs.further)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ConfigError(
            f"blend.signals names {', '.join(unknown) or 'none'}: choose from {', '.join(known)}"
        )
    settings, folds = fold.settings, inner_folds(fold)
    lists = [Lists.of(inner, fold.seed) for inner in folds]
    if settings.tune:
        settings = tuned(folds, lists, settings, names)
    tables = []
    for some in lists:
        # A fold goes with what it keeps, and a signal with its scores: they are all of the memory.
        chosen = folds.pop(0).fold.with_settings(settings)
        tables.append(weights.table(some, (registry.spec(name).fit(chosen) for name in names)))
    tables, deviations = weights.standardise(tables)
    return Simulated(tuple(names), settings, tables, deviations)


def joined(simulated: Simulated, fold: Fold, *, unseen: bool = False) -> Blend:
    """Learn weights and compute the signals that have one, of the outer fold.

    Parameters
    ----------
    fold
        With the settings that were chosen.
    unseen
        As of :func:`fit_blend`.

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
    cold = np.flatnonzero(fold.hidden[: fold.songs.own])
    if not len(cold):
        cold = np.arange(fold.songs.own)
    some, kept = _weighted(fold, simulated.names, learned / simulated.deviations, cold)
    widths = [factors.F.shape[1] for factors in some.values()]
    bounds = np.concatenate([[0], np.cumsum(widths)]).tolist()
    if not bounds[-1]:
        raise DataError(
            f"blend: no signal with a weight tells the {len(cold)} songs of the test part apart: "
            "use a test part of more songs (fewer split.folds), or more signals (blend.signals)"
        )
    layout = Layout(
        {name: slice(a, b) for name, a, b in zip(some, bounds, bounds[1:], strict=False)},
        {name: factors.weighting for name, factors in some.items()},
        {name: registry.spec(name).kind for name in some},
    )
    features, atoms = (np.zeros((len(fold.songs), bounds[-1]), np.float32) for _ in range(2))
    for name, place in layout.slices.items():
        features[:, place] = some[name].F
        if some[name].atoms is not None:
            atoms[:, place] = some[name].atoms
        some[name] = replace(some[name], F=np.empty((0, place.stop - place.start), np.float32))
    users = Users.of(layout, some, fold.histories)
    all_users = compress.gram_of_users(users.rows, len(users))
    found = compress.rotation(features, all_users, cold, fold.settings.rank)
    turn = found.songs.astype(np.float32)
    return Blend(
        simulated.names,
        learned,
        simulated.deviations,
        times(features, turn, found.mean),
        users.times(found.users),
        layout,
        features,
        atoms,
        users.told(),
        found.users.astype(np.float32),
        users.popular,
        fold.settings,
        l2,
        kept * found.kept,
        _of_unseen(fold, some, layout, found.mean, turn) if unseen else None,
        users.strangers(fold) if unseen else None,
    )


def _of_unseen(
    fold: Fold,
    signals: Mapping[str, Factors],
    layout: Layout,
    mean: NDArray[np.float32],
    rotation: NDArray[np.float32],
) -> UnseenSongs:
    maps = {name: factors.unseen() for name, factors in signals.items() if factors.unseen}
    missing = layout.slices.keys() - maps.keys()
    if missing:
        raise ConfigError(
            f"blend: {', '.join(missing)} cannot be had of songs that are not fitted on"
        )
    return joined_maps(fold.songs, maps, layout, mean, rotation)


def _weighted(
    fold: Fold, names: Sequence[str], scales: NDArray[np.float64], cold: NDArray[np.int64]
) -> tuple[dict[str, Factors], float]:
    """Signals times their scales, of those above 0, in their leading dimensions.

    In all they have at most :data:`WIDTH` times the blend's rank, so that together they lose the
    least; also the share of their squared scores that these dimensions make.
    """
    width = WIDTH * fold.settings.rank
    found: dict[str, Factors] = {}
    energies: list[NDArray[np.float64]] = []
    kept: list[int] = []
    for name, scale in zip(names, scales, strict=True):
        if scale > 0:
            factors, of_this = compress.rotated(registry.spec(name).fit(fold), cold, width)
            found[name] = _scaled(factors, scale)
            energies.append(of_this * scale**2)
            # What has no place already has none with further signals.
            kept = compress.shares_of_rank(energies, width)
            found = {
                n: compress.leading(f, k) for (n, f), k in zip(found.items(), kept, strict=True)
            }
    total = sum(float(each.sum()) for each in energies)
    some = sum(float(each[:k].sum()) for each, k in zip(energies, kept, strict=True))
    return found, some / total if total > 0 else 1.0


def _scaled(factors: Factors, scale: float) -> Factors:
    """A signal's scores times a number, an even part of it on either side."""
    root = np.sqrt(scale) * np.eye(factors.F.shape[1])
    return factors.projected(root, root)
