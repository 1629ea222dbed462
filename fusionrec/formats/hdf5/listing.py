"""The tracks of an HDF5 tree, listed once: where each lies, its size and its time.

A tree is anyone's folder. Only regular files are listed as tracks. A link is followed unless it
leads to a folder that is listed anyhow, so that no loop is entered and no folder read twice. What
is passed over is a reject with its reason; files of other names are no tracks and are not listed.
"""

from __future__ import annotations

import errno
import hashlib
import heapq
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
from fusionrec.formats.hdf5.spool import File, spooled
from fusionrec.formats.trouble import is_trouble_of_fetching, patiently

_THREADS = 16
"""Folders listed at a time: what takes the time on a network's disk is to wait for it."""

_AT_ONCE = 1 << 6
"""Folders whose content waits to be taken, as Python's objects."""

_WHOLE = 2
"""Level of folders that another filesystem lists with all in them: A/B of A/B/C."""

_SKIPPED_FOLDER = "AdditionalFiles"  # holds the summary file, beside the tracks' tree


@dataclass(frozen=True)
class Listing:
    """The files of a tree.

    Attributes
    ----------
    root
        The tree's folder: a local path or a URI.
    table
        Schema :data:`fusionrec.schemas.LISTING`, in ascending order of the paths' bytes; it lies in
        a temporary file (:func:`fusionrec.formats.hdf5.spool.spooled`).
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
                of_text = not pa.types.is_integer(column.type)
                for chunk in column.chunks:
                    numbers = pc.binary_length(chunk) if of_text else chunk
                    digest.update(np.asarray(numbers).tobytes())
                for chunk in column.chunks if of_text else ():
                    digest.update(b"".join(chunk.cast(pa.binary()).to_pylist()))
        return digest.hexdigest()


def list_tracks(root: str) -> Listing:
    """List the `.h5` files below `root`, or below its folder `data` if it has one.

    Hidden files and folders, and `AdditionalFiles`, are left out. A million files take some
    seconds on a local disk. The memory that it takes does not grow with the files, but by some
    hundred bytes a folder, and with what is passed over; on other filesystems than a local one,
    with what some folders of the second level hold.

    Raises
    ------
    SourceError
        `root` is no folder, or one of its folders goes while it is listed.
    UnavailableError
        A folder cannot be listed, or the listing has no room among the temporary files.
    """
    if not files.is_folder(root):
        raise SourceError(
            f"{root}: no such folder; give the folder that holds the HDF5 tree A/B/C/*.h5"
        )
    rejects = Rejects()
    table = spooled(_found(root, rejects))
    return Listing(root, table, rejects.to_table().sort_by("source"))


def _found(root: str, rejects: Rejects) -> Iterator[File]:
    local = files.local_path(root)
    try:
        walk = _RemoteWalk(root, rejects) if local is None else _Walk(local, rejects)
        yield from walk.files()
    except OSError as error:
        where = files.shown(error.filename or root)
        raise SourceError(
            f"{where}: cannot be listed ({error.strerror or error}); "
            "check the folder of the HDF5 files"
        ) from error


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


def _is_track(name: str) -> bool:
    return name.endswith(".h5") and not name.startswith(".")


def _is_entered(name: str) -> bool:
    return name != _SKIPPED_FOLDER and not name.startswith(".")


@dataclass
class _Folder:
    """What one folder holds: its tracks by path, folders with what they are known by, links."""

    files: list[File] = field(default_factory=list)
    folders: list[tuple[str, int | None]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    """Path, reason, detail."""


class _Walk:
    """A walk over a local tree: first its own folders, side by side, then those it has links to."""

    def __init__(self, root: str, rejects: Rejects) -> None:
        self._rejects = rejects
        self._root = root
        self._base = "data" if os.path.isdir(os.path.join(root, "data")) else ""
        # A link to a folder that holds the tree would lead back into it.
        self._seen: set[int] = set()
        for path in (root, os.path.join(root, self._base)):
            holder = Path(path).resolve()
            self._seen |= {_identity(os.stat(folder)) for folder in (holder, *holder.parents)}

    def files(self) -> Iterator[File]:
        """Every track, mostly in order."""
        with ThreadPoolExecutor(_THREADS) as pool:
            links: list[str] = []
            yield from self._below(pool, self._base, links)
            # One after the other: which of two links to a folder is followed is not chance.
            while links:
                link = heapq.heappop(links)
                if self._new(link, _identity(os.stat(os.path.join(self._root, link)))):
                    yield from self._below(pool, link, links)

    def _below(self, pool: ThreadPoolExecutor, folder: str, links: list[str]) -> Iterator[File]:
        """The tracks of a folder and of all in it; the links among these go to the heap `links`."""
        folders = [folder]  # the first one last
        while folders:
            taken = folders[: -_AT_ONCE - 1 : -1]
            del folders[-_AT_ONCE:]
            below: list[str] = []
            for found in pool.map(self._list, taken):
                yield from found.files
                for link in found.links:
                    heapq.heappush(links, link)
                for path, reason, detail in found.refused:
                    self._refuse(path, reason, detail)
                below += [path for path, identity in found.folders if self._new(path, identity)]
            folders += sorted(below, key=lambda path: f"{path}/", reverse=True)

    def _new(self, path: str, identity: int | None) -> bool:
        """Whether a folder was not met before: by a link, or where it is mounted twice."""
        if identity is None:
            return True
        if identity in self._seen:
            self._refuse(path, "folder that is listed already", action="excluded")
            return False
        self._seen.add(identity)
        return True

    def _refuse(self, path: str, reason: str, detail: str = "", action: str = "dropped") -> None:
        self._rejects.add(path, os.path.basename(path), reason, detail, action)

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
        found.files.sort()
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


class _RemoteWalk(_Walk):
    """The same on another filesystem, which has no links.

    A folder is a request, or several; one of the level :data:`_WHOLE` is listed with all below it,
    since on an object store a request brings a thousand files of however many folders.
    """

    def __init__(self, root: str, rejects: Rejects) -> None:
        self._rejects = rejects
        self._root = root
        self._base = "data" if files.is_folder(files.join(root, "data")) else ""
        filesystem, inner = files.resolve(root)
        self._filesystem, self._inner = filesystem, inner.rstrip("/")

    def _list(self, folder: str) -> _Folder:
        inner = f"{self._inner}/{folder}" if folder else self._inner or "/"
        below = folder.removeprefix(self._base).strip("/")
        whole = below.count("/") + 1 >= _WHOLE if below else False
        selector = pafs.FileSelector(inner, recursive=whole)
        infos = patiently(
            f"{self._root} ({inner})",
            lambda: self._filesystem.get_file_info(selector),
            is_trouble_of_fetching,
        )
        found = _Folder()
        for info in infos:
            path = info.path[len(self._inner) + 1 :]
            *folders, name = info.path[len(inner.rstrip("/")) + 1 :].split("/")
            if not all(map(_is_entered, folders)):
                continue
            if info.type == pafs.FileType.Directory:
                if _is_entered(name) and not whole:
                    found.folders.append((path, None))
            elif _is_track(name):
                found.files.append((path.encode(), info.size or 0, info.mtime_ns or 0))
        found.files.sort()
        return found


def _identity(status: os.stat_result) -> int:
    return status.st_dev << 64 | status.st_ino  # a pair would take twice the memory


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")
