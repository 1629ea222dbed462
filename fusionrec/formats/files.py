"""A source's files, on this machine or on any filesystem that pyarrow knows.

A path with ``://`` is a URI (``s3://bucket/msd``, ``gs://``, ``hdfs://``, ``file://``),
any other a local path.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Callable
from functools import lru_cache, partial
from typing import IO, Any, TypeVar, cast
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs as pafs

from fusionrec.errors import SourceError, UnavailableError
from fusionrec.formats.trouble import is_trouble_of_fetching, patiently

T = TypeVar("T")

_LOCAL_BUFFER, _REMOTE_BUFFER = 1 << 16, 1 << 20
"""Bytes read at once: a request to another machine costs more than the bytes it brings."""


def is_uri(path: str) -> bool:
    """Whether a path is a URI and not a local path."""
    return "://" in path


def join(root: str, path: str) -> str:
    """`path` below `root`; `path` itself if it is absolute or a URI, or if there is no root."""
    if is_uri(path) or not root:
        return path
    if not is_uri(root):
        return os.path.join(os.path.expanduser(root), path)
    # Options of a filesystem stand behind its path: s3://bucket/msd?region=eu-west-1
    base, mark, options = root.partition("?")
    return f"{base.rstrip('/')}/{path.strip('/')}{mark}{options}"


def resolve(uri: str) -> tuple[Any, str]:
    """The pyarrow filesystem of a URI, and the path as that filesystem spells it.

    Raises
    ------
    SourceError
        No filesystem serves it.
    """
    parts = urlsplit(uri)
    try:
        filesystem, base = _filesystem(parts.scheme, parts.netloc, parts.query)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(
            f"{uri}: no such filesystem ({error}); give a local path or a URI that pyarrow reads"
        ) from error
    path = parts.path.strip("/")
    return filesystem, f"{base.rstrip('/')}/{path}" if path else base


@lru_cache(maxsize=16)
def _filesystem(scheme: str, host: str, options: str) -> tuple[Any, str]:
    # Once a host: some filesystems open connections when they are made.
    return cast(
        tuple[Any, str],
        pafs.FileSystem.from_uri(f"{scheme}://{host}/" + (f"?{options}" if options else "")),
    )


def local_path(path: str) -> str | None:
    """The path on this machine's own filesystem, None if it lies on another."""
    if not is_uri(path):
        return path
    filesystem, inner = resolve(path)
    return inner if isinstance(filesystem, pafs.LocalFileSystem) else None


def shown(path: str | bytes) -> str:
    """A path as text that can be written anywhere: bytes that are no UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class SteadyFile(io.RawIOBase):
    """A file's bytes from any filesystem; what meets trouble is asked for again.

    Attributes
    ----------
    failure
        The error that ended the reading, for libraries that read through this file and may
        lose it.

    Raises
    ------
    OSError
        The file is missing, or no regular file.
    UnavailableError
        The environment does not give it: see :mod:`fusionrec.formats.trouble`.
    """

    def __init__(self, path: str) -> None:
        self.failure: UnavailableError | None = None
        self._path = path
        self._position = 0
        self._opened: tuple[int, Any] | None = None
        self.length = self._patiently(lambda: self._open()[0])

    def read_at(self, count: int, start: int) -> bytes:
        """Up to `count` bytes from `start` on; fewer only at the end."""
        count = max(0, min(count, self.length - start))
        found = bytearray()
        while len(found) < count:
            at, rest = start + len(found), count - len(found)
            piece = self._patiently(partial(self._fetch, rest, at))
            if not piece:
                break
            found += piece
        return bytes(found)

    def readinto(self, buffer: Any) -> int:
        content = self.read_at(len(buffer), self._position)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.length}
        self._position = base[whence] + offset
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._release()
        super().close()

    def _open(self) -> tuple[int, Any]:
        if self._opened is None:
            if is_uri(self._path):
                filesystem, inner = resolve(self._path)
                file = filesystem.open_input_file(inner)
                self._opened = file.size(), file
            else:
                self._opened = _open_regular(self._path)
        return self._opened

    def _fetch(self, count: int, start: int) -> bytes:
        _, file = self._open()
        if isinstance(file, int):
            return os.pread(file, count, start)
        return bytes(file.read_at(count, start))

    def _patiently(self, function: Callable[[], T]) -> T:
        def attempt() -> T:
            try:
                return function()
            except BaseException:
                self._release()  # a handle may be stale: the next try opens the file anew
                raise

        try:
            return patiently(shown(self._path), attempt, is_trouble_of_fetching)
        except UnavailableError as error:
            self.failure = error
            raise

    def _release(self) -> None:
        opened, self._opened = self._opened, None
        with contextlib.suppress(OSError):
            if opened is not None and isinstance(opened[1], int):
                os.close(opened[1])
            elif opened is not None:
                opened[1].close()


def _open_regular(path: str) -> tuple[int, int]:
    """Size and descriptor of a local file. Without O_NONBLOCK a FIFO would wait for a writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file")
    except BaseException:
        os.close(descriptor)
        raise
    return status.st_size, descriptor


def open_binary(path: str) -> IO[bytes]:
    """Open a file for reading; it can be sought in.

    Raises
    ------
    OSError, UnavailableError
        As :class:`SteadyFile`.
    """
    return io.BufferedReader(SteadyFile(path), _REMOTE_BUFFER if is_uri(path) else _LOCAL_BUFFER)


def size(path: str) -> int:
    """Bytes of a file; OSError if there is none."""
    return state(path)[0]


def state(path: str) -> tuple[int, int]:
    """Bytes (0 for a folder) and time of the last change in ns; OSError if there is nothing."""
    folder, length, changed = _look_up(path)
    return (0 if folder else length), changed


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    try:
        _look_up(path)
    except OSError:
        return False
    return True


def is_folder(path: str) -> bool:
    """Whether a folder is there."""
    try:
        return _look_up(path)[0]
    except OSError:
        return False


def _look_up(path: str) -> tuple[bool, int, int]:
    """Whether a path is a folder, its bytes and its time in ns; OSError if there is nothing."""

    def local() -> tuple[bool, int, int]:
        status = os.stat(path)
        return stat.S_ISDIR(status.st_mode), status.st_size, status.st_mtime_ns

    def remote() -> tuple[bool, int, int]:
        filesystem, inner = resolve(path)
        info = filesystem.get_file_info(inner)
        if info.type == pafs.FileType.NotFound:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return info.type == pafs.FileType.Directory, info.size or 0, info.mtime_ns or 0

    return patiently(shown(path), remote if is_uri(path) else local, is_trouble_of_fetching)
