"""Users of a signal that are no sums over histories, as maps of what is known of any user."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Raw = Literal["one", "activity", "popularity", "factors"]
"""Numbers of a user: 1; log(1 + songs played); the mean of log(1 + listeners) over these songs; and
the user's factors, f of them."""


@dataclass(frozen=True)
class UserMap:
    """A signal's users as a linear map of raw numbers of them.

    Attributes
    ----------
    raw
        Which.
    matrix
        Float32, shape (raw numbers, d): a user's vector is the numbers times it.
    """

    raw: Raw
    matrix: NDArray[np.float32]

    @staticmethod
    def of(raw: Raw, numbers: NDArray[Any]) -> UserMap:
        """The numbers themselves, given those of users or songs, shape (rows, numbers)."""
        return UserMap(raw, np.eye(numbers.shape[1], dtype=np.float32))

    def times(self, matrix: NDArray[np.float32]) -> UserMap:
        """The map to these vectors times a matrix, (d, k)."""
        return replace(self, matrix=self.matrix @ matrix)
