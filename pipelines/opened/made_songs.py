"""What a fitted model makes of songs that it was not fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fusionrec import schemas
from fusionrec.tables import vectors


@dataclass(frozen=True)
class MadeSongs:
    """New songs, in the order in which they were given.

    Attributes
    ----------
    ids
        Arrow strings, n of them.
    F
        What they are ranked by, float32 (n, d); zeros of one without.
    present
        Those with a vector, bool (n,).
    atoms
        What each adds to the vector of a user who played it, by all signals of a blend, float32
        (n, D), as the blend's `history` has it of the songs that it was fitted on. None of the
        other models, by which that follows from F.
    features
        What each is by all signals of a blend, float32 (n, D), as the blend's `features`.
    """

    ids: pa.Array
    F: NDArray[np.float32]
    present: NDArray[np.bool_]
    atoms: NDArray[np.float32] | None = None
    features: NDArray[np.float32] | None = None

    def table(self) -> pa.Table:
        """Of the schema :func:`fusionrec.schemas.features`."""
        columns = [self.ids, vectors(self.F), pa.array(self.present)]
        return pa.Table.from_arrays(columns, schema=schemas.features(self.F.shape[1]))
