"""The listing of an HDF5 tree: what is in it, what is passed over, what changes its hash."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pyarrow import fs as pafs

from fusionrec.errors import SourceError, UnavailableError
from fusionrec.formats import files, hdf5, trouble
from fusionrec.formats.hdf5 import listing, spool


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("B/A/A/TRBAA2.h5", "A/B/C/TRABC2.h5", "A/B/C/TRABC1.h5"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "tree"


ALL = ["A/B/C/TRABC1.h5", "A/B/C/TRABC2.h5", "B/A/A/TRBAA2.h5"]


def listed(root: Path) -> list[str]:
    return [os.fsdecode(path) for path in hdf5.list_tracks(str(root)).table["path"].to_pylist()]


def refused(root: Path) -> list[tuple[str, str, str]]:
    rows = hdf5.list_tracks(str(root)).rejects.to_pylist()
    return [(row["source"], row["reason"], row["action"]) for row in rows]


@pytest.mark.parametrize("layout", ["", "data/"])
def test_the_official_tree(tmp_path: Path, tree: Path, layout: str) -> None:
    if layout:
        tree.rename(tmp_path / "data")
        tree.mkdir()
        (tmp_path / "data").rename(tree / "data")
    (tree / layout / "A/B/C/notes.txt").touch()
    (tree / layout / "A/B/D").mkdir()
    for hidden in ("A/B/C/._TRABC1.h5", ".cache/x.h5"):
        (tree / layout / hidden).parent.mkdir(exist_ok=True)
        (tree / layout / hidden).touch()
    (tree / layout / "AdditionalFiles").mkdir()
    (tree / layout / "AdditionalFiles" / "msd_summary_file.h5").touch()
    assert listed(tree) == [layout + name for name in ALL]
    assert refused(tree) == []
    found = hdf5.list_tracks(str(tree))
    assert hdf5.track_paths(str(tree)) == [str(tree / layout / name) for name in ALL]
    status = (tree / layout / ALL[0]).stat()
    first = found.table.slice(0, 1).to_pylist()[0]
    assert (first["size"], first["mtime_ns"]) == (status.st_size, status.st_mtime_ns)


def test_the_same_listing_on_another_filesystem(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "AdditionalFiles").mkdir()
    (tree / "AdditionalFiles" / "x.h5").touch()
    (tree / "TRTOP.h5").touch()
    expected = hdf5.list_tracks(str(tree))
    monkeypatch.setattr(files, "local_path", lambda path: None)
    for root in (f"file://{tree}", f"file://{tree}/"):
        found = hdf5.list_tracks(root)
        assert found.table.equals(expected.table)
        assert found.digest() == expected.digest()


def test_many_files_few_at_a_time_are_as_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files beside folders, and folders that links lead to, come late and belong in between."""
    tree, elsewhere = tmp_path / "tree", tmp_path / "elsewhere"
    names = [f"{a}/{b}/T{i:02}.h5" for a in "ACDE" for b in "ABCDEF" for i in range(80)]
    names += [f"{a}/{b}.h5" for a in "AC" for b in "ABCX"] + ["C.h5", "Z.h5", "C-/T.h5"]
    linked = [f"{a}/T{i:02}.h5" for a in "AB" for i in range(300)]
    for path in [tree / name for name in names] + [elsewhere / name for name in linked]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for link, target in (("B", elsewhere), ("C/CC", elsewhere / "B"), ("C/F/up", tree)):
        os.symlink(target, tree / link)
    os.symlink("nothing", tree / "D" / "x.h5")
    os.mkfifo(tree / "A" / "x.h5")
    whole = hdf5.list_tracks(str(tree))

    monkeypatch.setattr(listing, "_AT_ONCE", 3)
    monkeypatch.setattr(spool, "_BATCH", 64)
    monkeypatch.setattr(spool, "_MERGED", 5)
    found = hdf5.list_tracks(str(tree))
    paths = sorted([name.encode() for name in [*names, *(f"B/{name}" for name in linked)]])
    assert found.table["path"].num_chunks > 30
    assert found.table["path"].to_pylist() == paths
    assert found.table.equals(whole.table)
    assert found.rejects.equals(whole.rejects)
    assert found.rejects.select(["source", "reason"]).to_pylist() == [
        {"source": "A/x.h5", "reason": "not a regular file"},
        {"source": "C/CC", "reason": "folder that is listed already"},
        {"source": "C/F/up", "reason": "folder that is listed already"},
        {"source": "D/x.h5", "reason": "link to nothing"},
    ]

    digest = hashlib.blake2b(digest_size=16)
    for column in [*found.table.to_pydict().values(), *found.rejects.to_pydict().values()]:
        texts = [x.encode() if isinstance(x, str) else x for x in column]
        if isinstance(texts[0], bytes):
            digest.update(np.array([len(text) for text in texts], np.int32).tobytes())
            digest.update(b"".join(texts))
        else:
            digest.update(np.array(texts, np.int64).tobytes())
    assert found.digest() == whole.digest() == digest.hexdigest()


def test_temporary_files_without_room(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(Path("/dev/full").open, "wb+"))
    with pytest.raises(UnavailableError, match=r"No space left.*set TMPDIR"):
        hdf5.list_tracks(str(tree))


def test_a_folder_without_tracks_and_a_missing_one(tmp_path: Path) -> None:
    assert listed(tmp_path) == []
    with pytest.raises(SourceError, match="nowhere: no such folder"):
        hdf5.list_tracks(str(tmp_path / "nowhere"))


# --- entries that are no files ---------------------------------------------------------------


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "not a regular file"),
        (lambda path: os.symlink("/dev/zero", path), "not a regular file"),
        (lambda path: os.symlink("nothing/here.h5", path), "link to nothing"),
        (lambda path: os.symlink(path.name, path), "link that leads back to itself"),
    ],
)
def test_what_is_no_file_is_listed_as_a_reject(
    tree: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(tree / "A" / "x.h5")
    assert listed(tree) == ALL
    assert refused(tree) == [("A/x.h5", reason, "dropped")]
    # The reader, too, opens regular files only; it would wait for a writer.
    if reason == "not a regular file":
        batch = hdf5.read_tracks([str(tree / "A" / "x.h5")])
        assert batch.rejects["reason"].to_pylist() == [reason]


def test_a_socket_is_a_reject(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "A")  # a socket's path is short
    _socket(Path("x.h5"))
    assert refused(tree) == [("A/x.h5", "not a regular file", "dropped")]


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "/", "../C"])
def test_a_link_that_loops_is_followed_not_once(tree: Path, target: str) -> None:
    os.symlink(target, tree / "A" / "B" / "loop")
    assert listed(tree) == ALL
    if target == "../C":  # a folder that is not there
        assert refused(tree) == [("A/B/loop", "link to nothing", "dropped")]
    else:
        assert refused(tree) == [("A/B/loop", "folder that is listed already", "excluded")]


def test_a_folder_with_several_links_is_listed_once(tree: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "TRX.h5").touch()
    os.symlink(elsewhere, elsewhere / "deep" / "back")
    for name in ("C", "D", "A/C"):
        os.symlink(elsewhere, tree / name)
    os.symlink(tree / ALL[0], tree / "A" / "another.h5")
    assert listed(tree) == [*ALL[:2], "A/C/deep/TRX.h5", "A/another.h5", ALL[2]]
    assert [path for path, *_ in refused(tree)] == ["A/C/deep/back", "C", "D"]


def test_names_that_are_no_text(tree: Path) -> None:
    name = os.fsdecode(b"TR\xff\xe9.h5")
    (tree / "A" / name).write_bytes(b"no HDF5")
    os.mkfifo(tree / "A" / os.fsdecode(b"\xfe.h5"))
    paths = hdf5.track_paths(str(tree))
    assert str(tree / "A" / name) in paths
    assert refused(tree) == [("A/\\xfe.h5", "not a regular file", "dropped")]
    batch = hdf5.read_tracks([str(tree / "A" / name)], str(tree))
    (reject,) = batch.rejects.to_pylist()
    assert (reject["source"], reject["item"]) == ("A/TR\\xff\\xe9.h5", "TR\\xff\\xe9")
    assert reject["reason"] == "not an HDF5 file"


# --- the hash --------------------------------------------------------------------------------


def _edit_in_place(tree: Path) -> None:
    path = tree / ALL[1]
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


@pytest.mark.parametrize(
    "change",
    [
        _edit_in_place,
        lambda tree: os.truncate(tree / ALL[0], 3),
        lambda tree: (tree / ALL[0]).unlink(),
        lambda tree: (tree / ALL[0]).rename(tree / "A" / "B" / "C" / "TRABC0.h5"),
        lambda tree: (tree / "A" / "new.h5").touch(),
        lambda tree: os.mkfifo(tree / "A" / "new.h5"),
    ],
)
def test_whatever_changes_a_track_changes_the_hash(
    tree: Path, change: Callable[[Path], None]
) -> None:
    before = hdf5.list_tracks(str(tree)).digest()
    assert hdf5.list_tracks(str(tree)).digest() == before
    folder_times = {path: path.stat().st_mtime_ns for path in tree.rglob("*") if path.is_dir()}
    change(tree)
    for path, time in folder_times.items():  # which say nothing of the files within
        os.utime(path, ns=(time, time))
    assert hdf5.list_tracks(str(tree)).digest() != before


# --- trouble ---------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_listed_stops_the_run(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trouble, "PAUSES", (0.0, 0.0))
    scandir, failures = os.scandir, [3]

    def failing(path: str):
        if str(path).endswith("A/B") and failures[0]:
            failures[0] -= 1
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(UnavailableError, match=r"tree/A/B: cannot be read, after 3 tries"):
        hdf5.list_tracks(str(tree))
    failures[0] = 2
    assert listed(tree) == ALL


def test_a_bucket_that_does_not_answer_stops_the_run(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trouble, "PAUSES", (0.0,))
    local = pafs.LocalFileSystem()

    class Overloaded:
        def get_file_info(self, wanted: object) -> object:
            if isinstance(wanted, pafs.FileSelector) and wanted.base_dir.endswith("A"):
                raise OSError("AWS Error SLOW_DOWN during ListObjectsV2 operation: HTTP 503")
            return local.get_file_info(wanted)

    monkeypatch.setattr(files, "_filesystem", lambda *_: (Overloaded(), "/"))
    with pytest.raises(UnavailableError, match=r"tree/A\): cannot be read, .*SLOW_DOWN"):
        hdf5.list_tracks(f"s3://{tree}")
