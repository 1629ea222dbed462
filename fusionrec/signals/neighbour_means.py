"""How popular the songs beside a song are: of its artist, of its album, and of similar terms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.signals import basis
from fusionrec.signals.kernels import most_played
from fusionrec.signals.signal import Fold
from fusionrec.signals.taste import NEIGHBOURS
from fusionrec.signals.unseen.parts import ByGroup, MeansByTerms
from fusionrec.signals.unseen.references import Groups, References

Part = ByGroup | MeansByTerms

_CHUNK = 4096


def neighbour_means(fold: Fold) -> NDArray[np.float64]:
    """Log-popularity of neighbours less the mean of all, (n, 3): artist, album, terms."""
    return fold.once("neighbour means", lambda: _neighbour_means(fold))


def _neighbour_means(fold: Fold) -> NDArray[np.float64]:
    songs, shrinkage = fold.songs, fold.settings.shrinkage
    values, played = _values(fold)
    own = basis.groups_of(fold)
    found = np.zeros((len(songs), 3))
    if fold.by != "artist":
        found[:, 0] = _means_of_others(songs.artists, own, values, played, shrinkage)
    if fold.by == "song":
        found[:, 1] = _means_of_others(songs.albums, own, values, played, shrinkage)
    terms, known = basis.kernel(fold, "terms"), _known_by_terms(fold)
    for start in range(0, len(songs), _CHUNK):
        rows = np.arange(start, min(len(songs), start + _CHUNK))
        weights = terms.block(rows, known) ** 4
        weights[(own[rows][:, None] == own[known][None]) & (own[rows] >= 0)[:, None]] = 0.0
        weights[rows[:, None] == known[None]] = 0.0
        found[rows, 2] = weights @ values[known] / (weights.sum(axis=1) + shrinkage)
    return found


def _values(fold: Fold) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Log-popularity less its mean over the songs played, 0 of others; and which were played."""
    listeners = fold.histories.listeners
    played = listeners > 0
    values = np.where(played, np.log1p(listeners), 0.0)
    return np.where(played, values - values[played].mean(), 0.0), played


def _known_by_terms(fold: Fold) -> NDArray[np.integer[Any]]:
    """The songs whose popularity speaks for songs of similar terms."""
    listeners = fold.histories.listeners
    known = most_played(basis.kernel(fold, "terms"), listeners, NEIGHBOURS)
    return known[listeners[known] > 0]


Parts = tuple[list[Part], list[Part], list[Part]]


def unseen_means(fold: Fold) -> Parts:
    """Parts that add up to the three means of a song that is not among the fold's, (n, 1) each.

    As of a cold song of it: of an album that the split keeps together no song counts.
    """
    return fold.once("neighbour means: parts", lambda: _unseen_means(fold))


def _unseen_means(fold: Fold) -> Parts:
    songs, shrinkage, by = fold.songs, fold.settings.shrinkage, fold.by
    values, played = _values(fold)
    of_artists: list[Part] = []
    of_albums: list[Part] = []
    if by != "artist":
        sums, counts = (_by_code(songs.artists, of) for of in (values, played))
        means = sums / np.maximum(counts + shrinkage, 1e-9)
        of_artists.append(ByGroup.of("artist", means[:, None]))
        if by == "album":
            rows = np.flatnonzero(songs.albums >= 0)
            artist = np.zeros(songs.albums.max(initial=-1) + 1, np.int64)
            artist[songs.albums[rows]] = songs.artists[rows]
            of_own, own = (_by_code(songs.albums, of) for of in (values, played))
            others = (sums[artist] - of_own) / np.maximum(counts[artist] - own + shrinkage, 1e-9)
            of_artists.append(ByGroup.of("album", (others - means[artist])[:, None]))
    if by == "song":
        sums, counts = (_by_code(songs.albums, of) for of in (values, played))
        of_albums.append(
            ByGroup.of("album", (sums / np.maximum(counts + shrinkage, 1e-9))[:, None])
        )
    known = _known_by_terms(fold)
    if not len(known):
        return of_artists, of_albums, []
    by_terms = MeansByTerms(
        References.taken(basis.kernel(fold, "terms"), known),
        values[known][:, None],
        np.zeros(1),
        shrinkage,
        None if by == "song" else by,
        None if by == "song" else Groups(basis.groups_of(fold)[known]),
    )
    return of_artists, of_albums, [by_terms]


def _by_code(groups: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.float64]:
    """Sums over the songs of each group, by its code."""
    known = groups >= 0
    number = groups.max(initial=-1) + 1
    sums = np.bincount(groups[known], values[known].astype(np.float64), minlength=number)
    return sums.astype(np.float64)


def _means_of_others(
    groups: NDArray[np.int64],
    own: NDArray[np.int64],
    values: NDArray[np.float64],
    played: NDArray[np.bool_],
    shrinkage: float,
) -> NDArray[np.float64]:
    """Means over a song's group without the songs that the split keeps with it; 0 without any."""
    ones = played.astype(np.float64)
    sums, counts = (_totals(groups, of, 0 * of) for of in (values, ones))
    # A song of no group of the split is kept with itself alone.
    own_sums, own_counts = (_totals(own, of, of) for of in (values, ones))
    means = (sums - own_sums) / np.maximum(counts - own_counts + shrinkage, 1e-9)
    return np.where(groups >= 0, means, 0.0)


def _totals(
    groups: NDArray[np.int64], values: NDArray[np.float64], otherwise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """For each song the sum over the songs of its group; `otherwise` for one of no group."""
    known = groups >= 0
    found = otherwise.copy()
    found[known] = np.bincount(groups[known], values[known])[groups[known]]
    return found
