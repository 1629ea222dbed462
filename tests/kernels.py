"""Compile what numba compiles, and keep it: once, before each process of the tests would do so."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fusionrec.formats import hdf5
from fusionrec.formats.sample.corpus import write_sample
from fusionrec.models import by_group, numbers
from fusionrec.ranking import on_cpu


def main() -> None:
    """Use each kernel as a test's process first does."""
    with tempfile.TemporaryDirectory() as folder:
        write_sample(Path(folder) / "corpus", songs=50, users=10, seed=0)
        files = [str(file) for file in sorted(Path(folder).rglob("*.h5"))]
        for segments in (False, True):
            hdf5.read_tracks(files, segments=segments)
    on_cpu.compiled_code()
    numbers.compiled_numbers()
    by_group.compiled_code()


if __name__ == "__main__":
    main()
