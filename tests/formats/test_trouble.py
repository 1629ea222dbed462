"""Trouble of the environment: it is waited out, or stops the run, and rejects nothing."""

from __future__ import annotations

import copy
import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import fs as pafs

from fusionrec.errors import SourceError, UnavailableError
from fusionrec.formats import files, hdf5, msd_sqlite, musixmatch, taste_profile, trouble
from fusionrec.formats.batch import Batch
from fusionrec.formats.hdf5 import access, direct
from fusionrec.formats.sample.corpus import write_sample

TRIES = 3
"""How often anything is tried in these tests."""

ERRORS: list[Exception] = [
    *(
        OSError(number, os.strerror(number))
        for number in (errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EIO)
    ),
    *(
        OSError(number, os.strerror(number))
        for number in (errno.ENOSPC, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT)
    ),
    MemoryError(),
    ConnectionResetError("reset"),
    TimeoutError("too late"),
    pa.lib.ArrowMemoryError("malloc of size 64 failed"),
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(trouble, "PAUSES", (0.0,) * (TRIES - 1))
    direct._known_layouts.cache_clear()
    yield
    direct._known_layouts.cache_clear()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trouble") / "corpus"
    write_sample(place, songs=50, users=20, seed=4)
    return place


@pytest.fixture
def tracks(corpus: Path) -> list[str]:
    return hdf5.track_paths(str(corpus / "MillionSong"))[:5]


class Failing:
    """Stands for a function that fails a number of times, if `fails` says so of its arguments."""

    def __init__(
        self, function: Any, error: BaseException, times: int, fails: Callable[..., bool]
    ) -> None:
        self.function, self.error, self.times, self.fails = function, error, times, fails
        self.failed = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.failed < self.times and self.fails(*args):
            self.failed += 1
            # A new one each time: one that lived on would keep the frames that it went through.
            raise copy.copy(self.error)
        return self.function(*args, **kwargs)


def always(*args: Any) -> bool:
    return True


def kept(batch: Batch) -> list[dict[str, Any]]:
    return [r for r in batch.rejects.to_pylist() if r["action"] == "dropped"]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_the_errors_of_the_environment_are_told_apart(error: Exception) -> None:
    assert trouble.is_trouble(error)
    with pytest.raises(UnavailableError, match=r"a/file: cannot be read, after 3 tries \("):
        trouble.patiently("a/file", Failing(None, error, 99, always))
    calls = Failing(lambda: "content", error, TRIES - 1, always)
    assert trouble.patiently("a/file", calls) == "content"
    assert calls.failed == TRIES - 1


@pytest.mark.parametrize(
    "error",
    [
        OSError("Unable to synchronously open file (bad object header version number)"),
        ValueError("x"),
        KeyError("x"),
        FileNotFoundError(errno.ENOENT, "no such file"),
        OSError(errno.EINVAL, "is not a regular file"),
        sqlite3.DatabaseError("file is not a database"),
    ],
    ids=repr,
)
def test_what_a_file_or_path_is_at_fault_for_is_not_tried_again(error: Exception) -> None:
    calls = Failing(None, error, 99, always)
    with pytest.raises(type(error)):
        trouble.patiently("a/file", calls)
    assert calls.failed == 1
    assert not trouble.is_trouble(error)


# --- HDF5 ------------------------------------------------------------------------------------

OPENING = [OSError(errno.EMFILE, "Too many open files"), PermissionError(errno.EACCES, "denied")]
READING = [OSError(errno.EIO, "Input/output error"), OSError(errno.ESTALE, "Stale file handle")]


def disturb(monkeypatch: pytest.MonkeyPatch, error: Exception, times: int) -> Failing:
    """Make the system fail to open, to read, or to give memory, as `error` asks."""
    if isinstance(error, MemoryError):
        failing = Failing(np.empty, error, times, lambda shape, *rest: isinstance(shape, tuple))
        monkeypatch.setattr(np, "empty", failing)
    elif error in OPENING:
        failing = Failing(os.open, error, times, lambda path, *rest: str(path).endswith(".h5"))
        monkeypatch.setattr(os, "open", failing)
    else:
        failing = Failing(os.pread, error, times, always)
        monkeypatch.setattr(os, "pread", failing)
    return failing


@pytest.mark.parametrize("known", [False, True], ids=["libhdf5", "directly"])
@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("error", [*OPENING, *READING, MemoryError()], ids=repr)
def test_tracks_are_lost_to_nothing_but_damage(
    tracks: list[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    segments: bool,
    known: bool,
) -> None:
    expected = hdf5.read_tracks(tracks, segments=segments)
    assert len(expected.table) == len(tracks)
    if not known:
        direct._known_layouts.cache_clear()
    with monkeypatch.context() as patch:
        failing = disturb(patch, error, TRIES - 1)
        found = hdf5.read_tracks(tracks, segments=segments)
        assert failing.failed == TRIES - 1 or (known and error not in OPENING)
    assert found.table.equals(expected.table)
    assert found.segments == expected.segments
    assert found.rejects.equals(expected.rejects)
    # A trial that met trouble judged nothing: the layout is known in the end.
    assert not direct._known_layouts(segments).given_up
    assert direct._known_layouts(segments).plans

    direct._known_layouts.cache_clear()
    with monkeypatch.context() as patch:
        disturb(patch, error, 10**6)
        with pytest.raises(UnavailableError, match=os.path.basename(tracks[0])):
            hdf5.read_tracks(tracks, segments=segments)


def test_trouble_in_the_midst_of_libhdf5_is_no_damage(
    tracks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late it comes, and whatever libhdf5 makes of it."""
    monkeypatch.setattr(access, "_BUFFER", 64)
    pread = os.pread
    for late in range(0, 60, 4):
        calls = [0]

        def failing(*args: Any, calls: list[int] = calls, late: int = late) -> bytes:
            calls[0] += 1
            if calls[0] > late:
                raise OSError(errno.EIO, "Input/output error")
            return pread(*args)

        monkeypatch.setattr(os, "pread", failing)
        with pytest.raises(UnavailableError, match="Input/output error"):
            hdf5.read_tracks(tracks[:1], segments=True)
        with pytest.raises(UnavailableError, match="Input/output error"):
            hdf5.read_aggregate(tracks[0], 0, 1, segments=True)
        with pytest.raises(UnavailableError, match="Input/output error"):
            hdf5.num_rows(tracks[0]) if late < 8 else hdf5.read_tracks(tracks[:1])


def test_no_memory_for_rows_of_an_aggregate_is_no_damage(
    tracks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = hdf5.read_aggregate(tracks[0], 0, 1, segments=True)
    with monkeypatch.context() as patch:
        disturb(patch, MemoryError(), 1)
        found = hdf5.read_aggregate(tracks[0], 0, 1, segments=True)
    assert found.table.equals(expected.table)
    disturb(monkeypatch, MemoryError(), 10**6)
    with pytest.raises(UnavailableError, match=r"\.h5: cannot be read, .*MemoryError"):
        hdf5.read_aggregate(tracks[0], 0, 1, segments=True)


def test_compiled_code_that_cannot_be_made_rejects_nothing(
    tracks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = hdf5.read_tracks(tracks)
    direct._known_layouts.cache_clear()
    error = RuntimeError("cannot cache function 'read_track': no locator available")
    monkeypatch.setattr(direct, "_Plan", Failing(None, error, 10**6, always))
    found = hdf5.read_tracks(tracks)
    assert found.table.equals(expected.table)
    assert (kept(found), found.direct) == ([], 0)
    assert direct._known_layouts(False).given_up


class Bucket:
    """A bucket that is overloaded a number of times, as pyarrow reports it: without a number."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.local = pafs.LocalFileSystem()

    def get_file_info(self, wanted: Any) -> Any:
        return self.local.get_file_info(wanted)

    def open_input_file(self, path: str) -> Any:
        if self.times > 0:
            self.times -= 1
            raise OSError(
                f"When reading information for key '{path}': AWS Error UNKNOWN (HTTP status 503) "
                "during HeadObject operation: No response body."
            )
        return self.local.open_input_file(path)


@pytest.mark.parametrize("known", [False, True])
def test_an_overloaded_bucket_loses_no_track(
    tracks: list[str], monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    expected = hdf5.read_tracks(tracks)
    if not known:
        direct._known_layouts.cache_clear()
    bucket = Bucket(TRIES - 1)
    monkeypatch.setattr(files, "_filesystem", lambda *_: (bucket, "/"))
    remote = [f"s3://{path}" for path in tracks]
    found = hdf5.read_tracks(remote)
    assert found.table.equals(expected.table)
    assert kept(found) == []
    bucket.times = 10**6
    with pytest.raises(UnavailableError, match=r"s3://.*\.h5: cannot be read.*HTTP status 503"):
        hdf5.read_tracks(remote)
    with pytest.raises(UnavailableError, match="HTTP status 503"):
        taste_profile.read_triplets("s3://bucket/train_triplets.txt")


def test_damage_is_still_damage(tracks: list[str], tmp_path: Path) -> None:
    damaged = tmp_path / "TRX.h5"
    damaged.write_bytes(Path(tracks[0]).read_bytes()[:5000])
    assert [r["reason"] for r in kept(hdf5.read_tracks([str(damaged)]))] == ["truncated HDF5 file"]
    assert [r["reason"] for r in kept(hdf5.read_tracks([str(tmp_path)]))] == ["not a regular file"]


# --- text and SQLite -------------------------------------------------------------------------


@pytest.mark.parametrize("error", READING, ids=repr)
@pytest.mark.parametrize(
    ("read", "path"),
    [
        (taste_profile.read_triplets, "tasteprofile/train_triplets.txt"),
        (taste_profile.read_mismatches, "tasteprofile/sid_mismatches.txt"),
        (musixmatch.read_lyrics, "musixmatch/mxm_dataset_train.txt"),
    ],
)
def test_text(
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[str], Batch],
    path: str,
    error: Exception,
) -> None:
    expected = read(str(corpus / path))
    failing = Failing(os.pread, error, TRIES - 1, always)
    monkeypatch.setattr(os, "pread", failing)
    found = read(str(corpus / path))
    assert found.table.equals(expected.table)
    assert found.rejects.equals(expected.rejects)
    failing.times = 10**6
    with pytest.raises(UnavailableError, match=f"{os.path.basename(path)}: cannot be read"):
        read(str(corpus / path))


def test_a_zip_archive_is_not_damaged_by_a_disk(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zipfile

    path = tmp_path / "triplets.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(corpus / "tasteprofile/train_triplets.txt", "train_triplets.txt")
    pread = os.pread
    calls = [0]

    def failing(*args: Any) -> bytes:
        calls[0] += 1
        if calls[0] > 2:  # within the member
            raise OSError(errno.EIO, "Input/output error")
        return pread(*args)

    monkeypatch.setattr(os, "pread", failing)
    monkeypatch.setattr(files, "_LOCAL_BUFFER", 64)
    with pytest.raises(UnavailableError, match=r"triplets\.zip: cannot be read"):
        taste_profile.read_triplets(str(path))


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "track_metadata.db"
    columns = ", ".join(msd_sqlite._COLUMNS)
    with sqlite3.connect(path) as db:
        db.execute(f"CREATE TABLE songs ({columns})")
        for i in range(4):
            row = (f"TR{i}", f"SO{i}", "a", "b", f"AR{i}", "c", 1.0, 0.5, 0.5, 1990)
            db.execute(f"INSERT INTO songs VALUES ({', '.join('?' * 10)})", row)
        db.execute("CREATE TABLE lyrics (track_id, mxm_tid, word, count, is_test)")
        db.execute("CREATE TABLE words (word)")
        db.execute("INSERT INTO words VALUES ('love')")
        db.executemany(
            "INSERT INTO lyrics VALUES (?, 1, 'love', 2, 0)",
            [(f"TRAAAAA12345678{i:03}",) for i in range(4)],
        )
    db.close()
    return str(path)


class Connection:
    """A connection whose queries meet trouble, those that `fails` says."""

    def __init__(self, real: sqlite3.Connection, execute: Failing) -> None:
        self.execute, self.close = execute, real.close
        execute.function = real.execute


def disk_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
    return error


@pytest.mark.parametrize(
    ("module", "read", "query"),
    [
        (msd_sqlite, lambda path: msd_sqlite.read_songs(path, None, 0, 4), "WHERE rowid = ?"),
        (msd_sqlite, lambda path: msd_sqlite.read_songs(path, path, 0, 4), "SELECT rowid"),
        (musixmatch, lambda path: musixmatch.read_lyrics_db(path, 0, 4), "DISTINCT"),
        (musixmatch, musixmatch.num_lyrics_db, "COUNT"),
        (msd_sqlite, msd_sqlite.num_rows, "COUNT"),
    ],
)
def test_a_database_loses_no_row_to_the_disk(
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    read: Callable[[str], Any],
    query: str,
) -> None:
    with sqlite3.connect(database) as db:
        db.execute("CREATE TABLE artist_mbtag (artist_id, mbtag)")
        db.execute("CREATE TABLE artist_term (artist_id, term)")
    db.close()
    expected = read(database)
    connect = module.connect
    failing = Failing(None, disk_error(), TRIES - 1, lambda text, *rest: query in text)
    monkeypatch.setattr(module, "connect", lambda path: Connection(connect(path), failing))
    found = read(database)
    assert failing.failed == TRIES - 1
    if isinstance(expected, Batch):
        assert found.table.equals(expected.table)
        assert found.table.num_rows == 4
        assert kept(found) == []
    else:
        assert found == expected == 4
    failing.times = 10**6
    with pytest.raises(UnavailableError, match=r"track_metadata\.db: cannot be read.*disk I/O"):
        read(database)


def test_a_database_that_is_none_is_the_files_fault(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database" * 1000)
    with pytest.raises(SourceError, match="not usable as a database"):
        msd_sqlite.num_rows(str(tmp_path / "x.db"))


DISTURBED = """
import errno, os, sys, time
from fusionrec.errors import UnavailableError
from fusionrec.formats import hdf5
from fusionrec.formats.hdf5 import access

access._BUFFER = 64
time.sleep = lambda seconds: None
pread, calls, kept = os.pread, 0, []

def failing(*args):
    global calls
    calls += 1
    if calls > late:
        raise OSError(errno.EIO, "Input/output error")
    return pread(*args)

os.pread = failing
for late in range(0, 60, 4):
    for read in (
        lambda: hdf5.read_tracks(sys.argv[1:], segments=True),
        lambda: hdf5.read_aggregate(sys.argv[1], 0, 1, segments=True),
    ):
        calls = 0
        try:
            read()
        except UnavailableError as error:
            kept.append(error)
print(len(kept))
"""


def test_a_process_whose_disk_fails_ends_in_order(tracks: list[str]) -> None:
    """libhdf5 freed, after Python's end, what an error had kept, and called back into Python."""
    done = subprocess.run(
        [sys.executable, "-c", DISTURBED, tracks[0]], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "30\n"), done.stderr
