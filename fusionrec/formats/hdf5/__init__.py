"""The Million Song Dataset's HDF5 files: per-track, aggregate and summary.

`reader` is what the rest of the package calls. `access` reads by libhdf5; `direct` reads tracks
of a known layout (`layout`) by compiled code (`kernel`); `song_batch` collects both ways' songs in
order; `writer` writes tracks, for the sample corpus and for tests.
"""

from fusionrec.formats.hdf5.reader import (
    is_aggregate,
    num_rows,
    read_aggregate,
    read_by_libhdf5,
    read_tracks,
    tops,
    track_counts,
    track_dirs,
    track_files,
    track_folder,
)

__all__ = [
    "is_aggregate",
    "num_rows",
    "read_aggregate",
    "read_by_libhdf5",
    "read_tracks",
    "tops",
    "track_counts",
    "track_dirs",
    "track_files",
    "track_folder",
]
