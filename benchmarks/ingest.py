"""Reading per-track HDF5 files: fusionrec against the classic getters, and against the limits.

    python benchmarks/ingest.py MILLION_SONG_FOLDER [--files 691] [--rounds 5] [--json]

All contestants read the same files in turns, on one thread, from a warm cache; the time is
the CPU's, the best of the rounds. `getters` is what hdf5_getters.py of MSongsDB does: open
with PyTables, one column after the other. `libhdf5` is fusionrec's own reader for unfamiliar
files (h5py's low-level interface). `bytes` reads the files and does nothing, `inflate` only
inflates the chunks that the reader needs: no reader in any language is faster than the two
together. Needs PyTables: pip install 'fusionrec[bench]'.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence

import deflate
import h5py
import numpy as np
import pyarrow as pa

from fusionrec.formats import hdf5
from fusionrec.formats.hdf5.access import LIST_ARRAYS, SEGMENT_ARRAYS, TABLES, Damage
from fusionrec.formats.hdf5.direct import WHOLE_FILE
from fusionrec.formats.hdf5.layout import HEAD_BYTES
from fusionrec.formats.hdf5.song_batch import SongBatch


def getters(paths: Sequence[str], segments: bool) -> int:
    """Read the same fields as fusionrec by PyTables, one getter a field."""
    import tables

    values = 0
    arrays = {**LIST_ARRAYS, **(SEGMENT_ARRAYS if segments else {})}
    for path in paths:
        with tables.open_file(path, mode="r") as file:
            for table, fields in TABLES.items():
                columns = getattr(file.root, table.split("/")[0]).songs.cols
                for name in fields:
                    if not name.startswith("idx_"):
                        values += getattr(columns, name)[0] is not None
            for name, spec in arrays.items():
                group, leaf = name.split("/")
                first = getattr(getattr(file.root, group).songs.cols, spec.bounds)[0]
                values += len(getattr(getattr(file.root, group), leaf)[first:])
    return values


def by_libhdf5(paths: Sequence[str], segments: bool) -> int:
    """Read by h5py's low-level interface, as fusionrec does with unfamiliar files."""
    songs = SongBatch(segments)
    for number, path in enumerate(paths):
        songs.add(number, path, path, hdf5.read_by_libhdf5(path, segments))
    return songs.batch(len(paths)).table.num_rows


def direct(paths: Sequence[str], segments: bool) -> int:
    """Read as fusionrec does."""
    return hdf5.read_tracks(paths, segments=segments).table.num_rows


def read_bytes(paths: Sequence[str], segments: bool) -> int:
    """Read what the direct reader reads of every file, and do nothing with it."""
    memory = bytearray(WHOLE_FILE if segments else HEAD_BYTES)
    total = 0
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        total += os.preadv(file, [memory], 0)
        os.close(file)
    return total


class Inflate:
    """Inflates the chunks of the data sets that are read, taken out beforehand."""

    def __init__(self, paths: Sequence[str]) -> None:
        names = [*TABLES, *LIST_ARRAYS]
        self._metadata = [chunk for path in paths for chunk in _chunks(path, names)]
        self._segments = [chunk for path in paths for chunk in _chunks(path, SEGMENT_ARRAYS)]

    def __call__(self, paths: Sequence[str], segments: bool) -> int:
        chunks = [*self._metadata, *(self._segments if segments else [])]
        return sum(len(deflate.zlib_decompress(data, size)) for data, size in chunks)


def _chunks(path: str, names: Sequence[str]) -> list[tuple[bytes, int]]:
    chunks = []
    with h5py.File(path) as file:
        for name in names:
            data = file[name]
            size = int(np.prod(data.chunks)) * data.dtype.itemsize
            for i in range(data.id.get_num_chunks()):
                offset = data.id.get_chunk_info(i).chunk_offset
                chunks.append((data.id.read_direct_chunk(offset)[1], size))
    return chunks


def sound(path: str) -> bool:
    """Whether a file has what all contestants read: the getters stop at the first damage."""
    return not isinstance(hdf5.read_by_libhdf5(path, segments=True), Damage)


def best(function: Callable[[Sequence[str], bool], int], paths: Sequence[str], mode: bool) -> float:
    """Files per CPU second of one round."""
    start = time.process_time()
    function(paths, mode)
    return len(paths) / (time.process_time() - start)


def main() -> None:
    """Run all contestants and print their rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="folder of the HDF5 tree")
    parser.add_argument("--files", type=int, default=691, help="files to read at most")
    parser.add_argument("--slow-files", type=int, default=60, help="files for the slow readers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args()
    pa.set_cpu_count(1)

    paths = [path for path in hdf5.track_paths(options.folder) if sound(path)][: options.files]
    slow = paths[:: max(1, len(paths) // options.slow_files)]
    contestants: dict[str, tuple[Callable[[Sequence[str], bool], int], list[str]]] = {
        "getters": (getters, slow),
        "libhdf5": (by_libhdf5, slow),
        "fusionrec": (direct, paths),
        "bytes": (read_bytes, paths),
        "inflate": (Inflate(paths), paths),
    }
    rates = {name: {"metadata": 0.0, "segments": 0.0} for name in contestants}
    for _ in range(options.rounds):
        for name, (function, files) in contestants.items():
            for mode in ("metadata", "segments"):
                rate = best(function, files, mode == "segments")
                rates[name][mode] = max(rates[name][mode], rate)
    taken = hdf5.read_tracks(paths, segments=True).direct
    result = {
        "files": len(paths),
        "read_directly": taken,
        "files_per_cpu_second": rates,
        "ratio_to_getters": {
            mode: rates["fusionrec"][mode] / rates["getters"][mode]
            for mode in ("metadata", "segments")
        },
        "share_of_limit": {
            mode: (1 / rates["bytes"][mode] + 1 / rates["inflate"][mode]) * rates["fusionrec"][mode]
            for mode in ("metadata", "segments")
        },
    }
    print(f"{len(paths)} files, {taken} of them read without libhdf5", file=sys.stderr)
    print(f"{'files per CPU second':<22}{'metadata':>12}{'with segments':>16}", file=sys.stderr)
    for name, rate in rates.items():
        print(f"{name:<22}{rate['metadata']:>12,.0f}{rate['segments']:>16,.0f}", file=sys.stderr)
    for label, key in (
        ("ratio to the getters", "ratio_to_getters"),
        ("of the limit", "share_of_limit"),
    ):
        row = result[key]
        print(f"{label:<22}{row['metadata']:>12.2f}{row['segments']:>16.2f}", file=sys.stderr)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
