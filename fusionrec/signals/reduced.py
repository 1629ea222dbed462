"""A blend's users in the d dimensions that are ranked by, made of any plays.

A user's vector in D dimensions is a weighted sum over the songs played, and beside it what no
history gives (:meth:`fusionrec.signals.explain.Layout.user`); times the blend's rotation, (D, d),
it is what is ranked by. Here the songs are rotated instead, so that nobody's D numbers are held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fusionrec.signals.explain import Layout
from fusionrec.signals.histories import Histories, Weighting


@dataclass(frozen=True)
class ReducedUsers:
    """What makes users' vectors of their plays.

    Attributes
    ----------
    atoms
        By weighting, :func:`reduced_atoms`: float32, shape (n, d).
    told
        Float32, shape (E, d): the rotation's rows of the dimensions that no history gives.
    """

    atoms: Mapping[Weighting, NDArray[np.float32]]
    told: NDArray[np.float32]

    def of_songs(self, histories: Histories) -> NDArray[np.float32]:
        """What the songs played add to users' vectors, float32 (U, d).

        A user's does not depend on the other users, to the last bit.

        Parameters
        ----------
        histories
            All plays that they are to be known by, of n songs.
        """
        found = np.zeros((histories.counts.shape[0], self.told.shape[1]), np.float32)
        for weighting, atoms in self.atoms.items():
            found += histories.weights(weighting) @ atoms
        return found

    def of_told(self, told: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is to be added of what no history gives, float32 (U, d).

        Parameters
        ----------
        told
            Shape (U, E): users' vectors in these dimensions.
        """
        # Row by row, as a product of sparse ones is: that of dense ones rounds by their shape.
        return np.asarray(csr_array(told) @ self.told, np.float32)


def weightings(layout: Layout) -> list[Weighting]:
    """How the songs of a history are weighed by the signals of a blend, each once."""
    return list(dict.fromkeys(weighting for _, weighting in layout.of_histories))


def reduced_atoms(
    layout: Layout,
    rotation: NDArray[np.float32],
    weighting: Weighting,
    blocks: Iterable[NDArray[np.float32]],
    songs: int,
) -> NDArray[np.float32]:
    """What each song adds to a user's vector by the signals of one weighting, float32 (n, d).

    Parameters
    ----------
    blocks
        The blend's atoms of all songs, some rows after the other, (rows, D).
    songs
        n.
    """
    places = np.zeros(layout.width, bool)
    for place, of_place in layout.of_histories:
        places[place] |= of_place == weighting
    turn = rotation * places[:, None].astype(np.float32)
    found = np.empty((songs, rotation.shape[1]), np.float32)
    start = 0
    for block in blocks:
        found[start : start + len(block)] = block @ turn
        start += len(block)
    return found
