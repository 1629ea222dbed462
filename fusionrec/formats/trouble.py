"""Trouble of the environment, told apart from what is wrong with a file.

A server that is overloaded, a disk that fails, a process that is out of file handles or memory: the
file may be sound, so to reject it would lose data. What meets such trouble is tried again, with
growing pauses; if that does not help, the run stops with an error that names the file.
"""

from __future__ import annotations

import errno
import functools
import logging
import sqlite3
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from fusionrec.errors import UnavailableError

log = logging.getLogger("fusionrec")

T = TypeVar("T")
P = ParamSpec("P")

PAUSES = (0.2, 1.0, 4.0)
"""Seconds before each further try."""

_OF_THE_PATH = frozenset(
    (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
        errno.ESPIPE,
    )
)
"""What the system says of a path that names no file, or none that can be read as one."""

_OF_SQLITE = frozenset(
    (
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    )
)


def is_trouble(error: BaseException) -> bool:
    """Whether an exception is the environment's: network, permissions, handles, memory, disk.

    An OSError without a number is not: that is how libhdf5 and zip archives report damage. Where
    no content is looked at, but bytes are fetched, ask :func:`is_trouble_of_fetching`.
    """
    if isinstance(error, sqlite3.Error):
        return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF in _OF_SQLITE
    if isinstance(error, MemoryError | ConnectionError | TimeoutError):
        return True
    return isinstance(error, OSError) and (error.errno or errno.ENOENT) not in _OF_THE_PATH


def is_trouble_of_fetching(error: BaseException) -> bool:
    """The same of bytes that are fetched, unseen: pyarrow's S3 errors have no number."""
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return False
    return is_trouble(error) or (isinstance(error, OSError) and error.errno is None)


def patiently(
    path: str,
    function: Callable[[], T],
    of_environment: Callable[[BaseException], bool] = is_trouble,
) -> T:
    """The result of `function`, which reads `path`; tried again after trouble.

    Raises
    ------
    UnavailableError
        The trouble lasts.
    """
    for pause in (*PAUSES, None):
        try:
            return function()
        except Exception as error:
            if not of_environment(error):
                raise
            cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if pause is None:
                raise UnavailableError(
                    f"{path}: cannot be read, after {len(PAUSES) + 1} tries ({cause}); this is no "
                    "damage of the file: see to the disk, the network, the permissions or the "
                    "memory and run the command again"
                ) from error
            log.warning("%s: %s; trying again in %g s", path, cause, pause)
            time.sleep(pause)
    raise AssertionError("unreachable")


def patient(function: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
    """Make a reader, whose first argument is the path, read :func:`patiently`."""

    def reader(path: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return patiently(path, lambda: function(path, *args, **kwargs))

    functools.update_wrapper(reader, function)
    return reader
