"""NumPy's files of vectors: of large ones a look reads the headers, and a range its own rows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fusionrec.errors import SourceError
from fusionrec.formats import files
from fusionrec.formats.tables import TableSpec, read_features, read_head
from pipelines.cli.looks import look
from pipelines.ingest.looking import look_into_tables
from pipelines.ingest.tables import Specs
from tests.formats.tables.helpers import rows, write

MANY = 1 << 30


def sparse(path: Path, shape: tuple[int, ...], dtype: Any) -> str:
    """An array of zeros that takes no room on the disk."""
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return str(path)


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each request to a file brought."""
    found: list[int] = []
    read_at = files.SteadyFile.read_at

    def counted(self: files.SteadyFile, count: int, start: int) -> bytes:
        content = read_at(self, count, start)
        found.append(len(content))
        return content

    monkeypatch.setattr(files.SteadyFile, "read_at", counted)
    return found


def looked_at(folder: Path, spec: TableSpec) -> None:
    """As `fusionrec init` does it, and `check` and ingest before they begin."""
    look(spec, {})
    plays = TableSpec("plays", (write(folder, "plays.csv", "user_id,song_id\nu,s\n"),))
    assert look_into_tables(Specs(plays, features={"sound": spec})) == 2


def peak(work: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_look_reads_the_headers_of_arrays(tmp_path: Path, bytes_read: list[int]) -> None:
    """A billion vectors of 64 GB, whose ids are an array of 8 GB."""
    path = sparse(tmp_path / "v.npy", (MANY, 16), np.float32)
    ids = sparse(tmp_path / "ids.npy", (MANY,), np.int64)
    spec = TableSpec("features", (path,), ids=ids)
    looked_at(tmp_path, spec)
    assert sum(bytes_read) < 4 << 20
    batch = read_features(path, spec, MANY - 3, MANY)
    assert rows(batch.table) == [("0", [0.0] * 16)] * 3
    assert sum(bytes_read) < 4 << 20
    short = sparse(tmp_path / "short.npy", (MANY - 1,), np.int64)
    with pytest.raises(SourceError, match=r"has 1,073,741,824 rows.*has 1,073,741,823 ids"):
        read_head(path, TableSpec("features", (path,), ids=short), 1)


def test_a_look_into_an_archive_unpacks_no_array(tmp_path: Path) -> None:
    """64 MB of vectors and 32 MB of ids, which are next to nothing when they are packed."""
    path = str(tmp_path / "v.npz")
    count = 1 << 20
    np.savez_compressed(path, ids=np.zeros(count, "U8"), vectors=np.zeros((count, 16), np.float32))
    spec = TableSpec("features", (path,))
    assert peak(lambda: looked_at(tmp_path, spec)) < 8 << 20
    assert peak(lambda: read_features(path, spec, 0, 100)) < 8 << 20


def test_ids_in_a_file_of_text_are_counted_as_they_pass(tmp_path: Path) -> None:
    """As Python's objects these take more than 100 MB."""
    count = 1 << 21
    lines = "".join(f"song{row:08d}\n" for row in range(count))
    ids = write(tmp_path, "ids.txt", lines)
    path = sparse(tmp_path / "v.npy", (count, 4), np.float16)
    spec = TableSpec("features", (path,), ids=ids)
    assert peak(lambda: looked_at(tmp_path, spec)) < 24 << 20
    table = read_features(path, spec, count - 2, count).table
    assert table["song_id"].to_pylist() == [f"song{count - 2:08d}", f"song{count - 1:08d}"]


@pytest.mark.parametrize("packed", [False, True])
def test_archives_of_any_order_are_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr("fusionrec.formats.tables.arrays._AT_ONCE", 100)
    vectors = np.arange(60, dtype=">f8").reshape(20, 3)
    ids = np.array([f"é{row}" for row in range(20)])
    expected = [(f"é{row}", [3.0 * row + i for i in range(3)]) for row in range(20)]
    for order in "CF":
        path = str(tmp_path / f"{order}.npz")
        save = np.savez_compressed if packed else np.savez
        save(path, ids=ids, vectors=np.asarray(vectors, order=order))
        spec = TableSpec("features", (path,))
        assert rows(read_features(path, spec).table) == expected
        parts = [read_features(path, spec, *cut).table for cut in ((0, 7), (7, 20))]
        assert rows(pa.concat_tables(parts)) == expected


def test_an_archive_that_was_cut_or_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    np.savez(path, ids=np.arange(1000), vectors=np.ones((1000, 8)))
    content = bytearray(path.read_bytes())
    (tmp_path / "cut.npz").write_bytes(content[:-100])
    content[len(content) // 2] ^= 255
    (tmp_path / "flipped.npz").write_bytes(content)
    for name, message in (("cut.npz", r"is no \.npz file"), ("flipped.npz", "cannot be read")):
        spec = TableSpec("features", (str(tmp_path / name),))
        with pytest.raises(SourceError, match=rf"{name}: {message}.*write it again"):
            read_features(spec.paths[0], spec)
