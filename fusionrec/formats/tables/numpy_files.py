"""Arrays as NumPy writes them, some rows at a time: a `.npy` file, and the members of an `.npz`."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from fusionrec.errors import SourceError
from fusionrec.formats import files

_PIECE = 1 << 20

# zipfile: NotImplementedError for a compression that it lacks, RuntimeError for encryption.
_DAMAGE = (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError)


@dataclass
class Stored:
    """An array of which the header has been read.

    Attributes
    ----------
    path
        Its file, for errors.
    shape, dtype
        As the header says.
    by_columns
        It is written column by column, so that its rows are nowhere together.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_columns: bool
    _file: IO[bytes] = field(repr=False)
    _begin: int = 0
    _whole: np.ndarray | None = field(default=None, repr=False)

    def rows(self, first: int, last: int) -> np.ndarray:
        """Rows from `first` to before `last`: no others are read, but of one by columns.

        Those of a compressed member should be asked for in their order.

        Raises
        ------
        SourceError
            The file ends before them, is damaged, or holds objects.
        """
        if self.dtype.hasobject:
            raise SourceError(f"{self.path}: holds Python objects; write numbers or text alone")
        if self.by_columns:
            if self._whole is None:
                self._whole = self._read(0, math.prod(self.shape)).reshape(self.shape, order="F")
            return self._whole[first:last]
        a_row = math.prod(self.shape[1:])
        return self._read(first * a_row, last * a_row).reshape(-1, *self.shape[1:])

    def _read(self, first: int, last: int) -> np.ndarray:
        size = self.dtype.itemsize
        if not size:
            return np.zeros(last - first, self.dtype)
        with damage_of(self.path, "cannot be read"):
            self._file.seek(self._begin + first * size)
            content = bytearray()
            while len(content) < (last - first) * size:
                piece = self._file.read(min((last - first) * size - len(content), 16 * _PIECE))
                if not piece:
                    raise SourceError(f"{self.path}: ends before its last row; write it again")
                content += piece
        return np.frombuffer(content, self.dtype)


@contextmanager
def damage_of(path: str, what: str) -> Iterator[None]:
    """What NumPy and zipfile raise of a damaged file becomes a SourceError."""
    try:
        yield
    except _DAMAGE as error:
        told = str(error) or type(error).__name__
        raise SourceError(f"{path}: {what} ({told}); write it again") from None


def opened(path: str) -> IO[bytes]:
    """The file; a SourceError if it cannot be read."""
    try:
        return files.open_binary(path)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from None


def stored(path: str, file: IO[bytes], kind: str = ".npy") -> Stored:
    """The array that a file begins with.

    Raises
    ------
    SourceError
        It does not begin with one.
    """
    with damage_of(path, f"is no {kind} file of plain arrays"):
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, by_columns, dtype = read(file)
    return Stored(path, shape, dtype, by_columns and len(shape) > 1, file, file.tell())


class Archive:
    """The arrays of an `.npz` by their names; nothing but what is asked for is read."""

    def __init__(self, path: str, file: zipfile.ZipFile) -> None:
        self._path, self._file = path, file
        self._members = {
            name.removesuffix(".npy"): name for name in file.namelist() if name.endswith(".npy")
        }

    def dimensions(self) -> dict[str, int]:
        """How many dimensions each array has."""
        found = {}
        for name in self._members:
            with self._member(name) as file:
                found[name] = len(stored(self._path, file, ".npz").shape)
        return found

    def array(self, name: str) -> Stored:
        """One of them, whose rows can be read until the archive is closed."""
        return stored(self._path, self._member(name), ".npz")

    def _member(self, name: str) -> IO[bytes]:
        with damage_of(self._path, "is no .npz file of plain arrays"):
            return self._file.open(self._members[name])


@contextmanager
def archive(path: str) -> Iterator[Archive]:
    """An `.npz` file, while it is open.

    Raises
    ------
    SourceError
        It cannot be read, or is none.
    """
    with opened(path) as file:
        with damage_of(path, "is no .npz file of plain arrays"):
            found = zipfile.ZipFile(file)
        with found:
            yield Archive(path, found)
