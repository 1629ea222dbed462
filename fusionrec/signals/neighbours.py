"""Neighbours: a user's row-normalised log-play history times a kernel of songs."""

from __future__ import annotations

from functools import partial

from fusionrec.signals import basis
from fusionrec.signals.signal import Factors, Fold
from fusionrec.signals.unseen.fitted import features
from fusionrec.signals.unseen.maps import SongMaps


def neighbours(fold: Fold, name: str) -> Factors:
    """score(u, s) = sum_t w_ut K(t, s): V_u = sum_t w_ut Phi(t), F = Phi.

    Parameters
    ----------
    fold
        Songs and plays.
    name
        The kernel.
    """
    Phi = basis.single(fold, name)
    return Factors.of_histories(fold.histories, "log", Phi, Phi, partial(_unseen, fold, name))


def _unseen(fold: Fold, name: str) -> SongMaps:
    Phi = features(basis.basis_of(fold, name))
    return SongMaps(Phi, Phi)
