"""The tracks of an HDF5 tree, listed once: where each lies, its size and its time.

A tree is anyone's folder. Only regular files are listed as tracks. A link is followed unless it
leads to a folder that is listed anyhow, so that no loop is entered and no folder read twice. What
is passed over is a reject with its reason; files of other names are no tracks and are not listed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs as pafs

from fusionrec.errors import SourceError
from fusionrec.formats import files
from fusionrec.formats.batch import Rejects
from fusionrec.formats.trouble import is_trouble_of_fetching, patiently
from fusionrec.schemas import LISTING

_THREADS = 16
"""Folders listed at a time: what takes the time on a network's disk is to wait for it."""

_BATCH = 1 << 16
"""Files whose names are held as Python's objects, of which a million would take 300 MB."""

_AT_ONCE = 1 << 10
"""Folders whose content waits to be taken, for the same reason."""

_SKIPPED_FOLDER = "AdditionalFiles"  # holds the summary file, beside the tracks' tree

_File = tuple[bytes, int, int]


@dataclass(frozen=True)
class Listing:
    """The files of a tree.

    Attributes
    ----------
    root
        The tree's folder: a local path or a URI.
    table
        Schema :data:`fusionrec.schemas.LISTING`, in ascending order of the paths' bytes.
    rejects
        What was passed over, schema :data:`fusionrec.schemas.REJECTS`; `source` is the path.
    """

    root: str
    table: pa.Table
    rejects: pa.Table

    def digest(self) -> str:
        """A hash that changes with any file's path, size or time, and with what is passed over."""
        digest = hashlib.blake2b(digest_size=16)
        for table in (self.table, self.rejects):
            for column in table.columns:
                if not pa.types.is_integer(column.type):
                    digest.update(np.asarray(pc.binary_length(column)).tobytes())
                    column = column.cast(pa.binary())
                    digest.update(b"".join(column.to_pylist()))
                else:
                    digest.update(np.asarray(column).tobytes())
        return digest.hexdigest()


def list_tracks(root: str) -> Listing:
    """List the `.h5` files below `root`, or below its folder `data` if it has one.

    Hidden files and folders, and `AdditionalFiles`, are left out. A million files take some
    seconds on a local disk.

    Raises
    ------
    SourceError
        `root` is no folder, or one of its folders goes while it is listed.
    UnavailableError
        A folder cannot be listed.
    """
    if not files.is_folder(root):
        raise SourceError(
            f"{root}: no such folder; give the folder that holds the HDF5 tree A/B/C/*.h5"
        )
    local = files.local_path(root)
    try:
        if local is not None:
            walk = _Walk(local)
            table, rejects = _table(walk.files()), walk.rejects
        else:
            table, rejects = _table(_remote(root)), Rejects()
    except OSError as error:
        where = files.shown(error.filename or root)
        raise SourceError(
            f"{where}: cannot be listed ({error.strerror or error}); "
            "check the folder of the HDF5 files"
        ) from error
    return Listing(root, table, rejects.to_table().sort_by("source"))


def full_paths(root: str, listed: pa.Table) -> list[str]:
    """Where the files of a listing of `root`, or of a part of it, lie."""
    if not files.is_uri(root):
        return [os.path.join(root, os.fsdecode(path)) for path in listed["path"].to_pylist()]
    paths = []
    for path in listed["path"].to_pylist():
        try:
            paths.append(files.join(root, path.decode()))
        except UnicodeDecodeError:  # no URI can name it, and only file:// has such names
            paths.append(os.path.join(files.local_path(root) or root, os.fsdecode(path)))
    return paths


def track_paths(root: str) -> list[str]:
    """Full paths of all tracks below `root`; see :func:`list_tracks`."""
    return full_paths(root, list_tracks(root).table)


def _table(found: Iterator[_File]) -> pa.Table:
    tables = [LISTING.empty_table()]
    rows: list[_File] = []

    def flush() -> None:
        columns = zip(*rows, strict=True)
        arrays = [pa.array(c, f.type) for c, f in zip(columns, LISTING, strict=True)]
        tables.append(pa.Table.from_arrays(arrays, schema=LISTING))
        rows.clear()

    for row in found:
        rows.append(row)
        if len(rows) == _BATCH:
            flush()
    if rows:
        flush()
    return pa.concat_tables(tables).sort_by("path").combine_chunks()


def _is_track(name: str) -> bool:
    return name.endswith(".h5") and not name.startswith(".")


def _is_entered(name: str) -> bool:
    return name != _SKIPPED_FOLDER and not name.startswith(".")


@dataclass
class _Folder:
    """What one folder of a local tree holds."""

    files: list[_File] = field(default_factory=list)
    folders: list[tuple[str, tuple[int, int]]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    """Path, reason, detail."""


class _Walk:
    """A walk over a local tree: first its own folders, side by side, then those it has links to."""

    def __init__(self, root: str) -> None:
        self.rejects = Rejects()
        self._root = root
        self._base = "data" if os.path.isdir(os.path.join(root, "data")) else ""
        # A link to a folder that holds the tree would lead back into it.
        self._seen: set[tuple[int, int]] = set()
        for path in (root, os.path.join(root, self._base)):
            holder = Path(path).resolve()
            self._seen |= {_identity(os.stat(folder)) for folder in (holder, *holder.parents)}

    def files(self) -> Iterator[_File]:
        """Every track."""
        with ThreadPoolExecutor(_THREADS) as pool:
            links: list[str] = []
            yield from self._below(pool, [self._base], links)
            # One after the other: which of two links to a folder is followed is not chance.
            while links:
                links.sort(reverse=True)
                link = links.pop()
                if self._new(link, _identity(os.stat(os.path.join(self._root, link)))):
                    yield from self._below(pool, [link], links)

    def _below(
        self, pool: ThreadPoolExecutor, folders: list[str], links: list[str]
    ) -> Iterator[_File]:
        """The tracks of folders and of the folders in them; the links among these are noted."""
        while folders:
            below: list[str] = []
            for start in range(0, len(folders), _AT_ONCE):
                for found in pool.map(self._list, folders[start : start + _AT_ONCE]):
                    yield from found.files
                    links += found.links
                    for path, reason, detail in found.refused:
                        self._refuse(path, reason, detail)
                    below += [path for path, identity in found.folders if self._new(path, identity)]
            folders = below

    def _new(self, path: str, identity: tuple[int, int]) -> bool:
        """Whether a folder was not met before: by a link, or where it is mounted twice."""
        if identity in self._seen:
            self._refuse(path, "folder that is listed already", action="excluded")
            return False
        self._seen.add(identity)
        return True

    def _refuse(self, path: str, reason: str, detail: str = "", action: str = "dropped") -> None:
        self.rejects.add(path, os.path.basename(path), reason, detail, action)

    def _list(self, folder: str) -> _Folder:
        where = os.path.join(self._root, folder) if folder else self._root
        return patiently(files.shown(where), lambda: self._listed(folder, where))

    def _listed(self, folder: str, where: str) -> _Folder:
        found = _Folder()
        with os.scandir(where) as entries:
            for entry in entries:
                name = entry.name
                path = f"{folder}/{name}" if folder else name
                if entry.is_dir(follow_symlinks=False):
                    if _is_entered(name):
                        status = entry.stat(follow_symlinks=False)
                        found.folders.append((path, _identity(status)))
                elif entry.is_symlink():
                    if _is_entered(name):
                        self._follow(entry, path, found)
                elif _is_track(name):
                    self._take(entry.stat(follow_symlinks=False), path, found)
        return found

    def _follow(self, entry: os.DirEntry[str], path: str, found: _Folder) -> None:
        try:
            status = entry.stat()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            loop = error.errno == errno.ELOOP
            reason = "link that leads back to itself" if loop else "link to nothing"
            found.refused.append((path, reason, os.readlink(entry.path)))
            return
        if stat.S_ISDIR(status.st_mode):
            found.links.append(path)
        elif _is_track(entry.name):
            self._take(status, path, found)

    def _take(self, status: os.stat_result, path: str, found: _Folder) -> None:
        if stat.S_ISREG(status.st_mode):
            found.files.append((os.fsencode(path), status.st_size, status.st_mtime_ns))
        else:
            found.refused.append((path, "not a regular file", _kind(status.st_mode)))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def _remote(root: str) -> Iterator[_File]:
    """The tracks of a tree on another filesystem: a request brings the files of many folders."""
    filesystem, inner = files.resolve(root)
    data = f"{inner.rstrip('/')}/data"
    base = data if files.is_folder(files.join(root, "data")) else inner

    def select(folder: str, recursive: bool) -> list[pafs.FileInfo]:
        selector = pafs.FileSelector(folder, recursive=recursive)
        found: list[pafs.FileInfo] = patiently(
            f"{root} ({folder})",
            lambda: filesystem.get_file_info(selector),
            is_trouble_of_fetching,
        )
        return found

    def track(info: pafs.FileInfo) -> _File | None:
        below = info.path[len(base.rstrip("/")) + 1 :]
        *folders, name = below.split("/")
        if info.type == pafs.FileType.Directory or not _is_track(name):
            return None
        if not all(map(_is_entered, folders)):
            return None
        path = info.path[len(inner.rstrip("/")) + 1 :]
        return path.encode(), info.size or 0, info.mtime_ns or 0

    top = select(base, recursive=False)
    yield from filter(None, map(track, top))
    folders = sorted(info.path for info in top if info.type == pafs.FileType.Directory)
    with ThreadPoolExecutor(_THREADS) as pool:
        for infos in pool.map(lambda folder: select(folder, recursive=True), folders):
            yield from filter(None, map(track, infos))
