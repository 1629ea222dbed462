"""The Million Song Dataset's HDF5 files: per-track, aggregate and summary.

`reader` is what the rest of the package calls. `access` reads by libhdf5; `direct` reads tracks
of a known layout (`layout`) by compiled code (`kernel`); `song_batch` collects both ways' songs in
order; `listing` finds the tracks of a tree; `writer` writes some, for the sample corpus and tests.
"""

from fusionrec.formats.hdf5.access import MISSING
from fusionrec.formats.hdf5.listing import Listing, full_paths, list_tracks, track_paths
from fusionrec.formats.hdf5.reader import (
    is_aggregate,
    num_rows,
    read_aggregate,
    read_by_libhdf5,
    read_tracks,
)

__all__ = [
    "MISSING",
    "Listing",
    "full_paths",
    "is_aggregate",
    "list_tracks",
    "num_rows",
    "read_aggregate",
    "read_by_libhdf5",
    "read_tracks",
    "track_paths",
]
