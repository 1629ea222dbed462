"""A source's files, on this machine or on any filesystem that pyarrow knows.

A path with ``://`` is a URI (``s3://bucket/msd``, ``gs://``, ``hdfs://``, ``file://``),
any other a local path.
"""

from __future__ import annotations

import io
import os
from functools import lru_cache
from typing import IO, Any, cast
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs as pafs

from fusionrec.errors import SourceError

_BUFFER_BYTES = 1 << 20


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


def open_binary(path: str) -> IO[bytes]:
    """Open a file for reading; it can be sought in.

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    """
    if not is_uri(path):
        return open(path, "rb")
    filesystem, inner = resolve(path)
    return io.BufferedReader(filesystem.open_input_file(inner), _BUFFER_BYTES)


def size(path: str) -> int:
    """Bytes of a file; OSError if there is none."""
    return state(path)[0]


def state(path: str) -> tuple[int, int]:
    """Bytes (0 for a folder) and time of the last change in ns; OSError if there is nothing."""
    if not is_uri(path):
        status = os.stat(path)
        return (0 if os.path.isdir(path) else status.st_size), status.st_mtime_ns
    filesystem, inner = resolve(path)
    info = filesystem.get_file_info(inner)
    if info.type == pafs.FileType.NotFound:
        raise FileNotFoundError(f"{path}: no such file")
    return info.size or 0, info.mtime_ns or 0


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    if not is_uri(path):
        return os.path.exists(path)
    filesystem, inner = resolve(path)
    return bool(filesystem.get_file_info(inner).type != pafs.FileType.NotFound)


def is_folder(path: str) -> bool:
    """Whether a folder is there."""
    if not is_uri(path):
        return os.path.isdir(path)
    filesystem, inner = resolve(path)
    return bool(filesystem.get_file_info(inner).type == pafs.FileType.Directory)


def list_folder(path: str) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, each sorted; OSError if there is none."""
    if not is_uri(path):
        with os.scandir(path) as entries:
            found = [(entry.is_dir(), entry.name) for entry in entries]
    else:
        filesystem, inner = resolve(path)
        infos = filesystem.get_file_info(pafs.FileSelector(inner))
        found = [(info.type == pafs.FileType.Directory, info.base_name) for info in infos]
    found.sort()
    return [name for folder, name in found if folder], [
        name for folder, name in found if not folder
    ]
