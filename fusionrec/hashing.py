"""Hashes that are the same on every machine and in every process, unlike Python's own."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def stable_hash(ids: Iterable[object], *, seed: int, purpose: str) -> NDArray[np.uint64]:
    """Hash ids to 64 bits, the same on every machine and in every process.

    Parameters
    ----------
    ids
        Ids, as anything whose `str` is the id (strings, Arrow scalars).
    seed
        Another seed gives unrelated hashes.
    purpose
        Another purpose gives unrelated hashes too, so that one seed serves every choice.

    Returns
    -------
    Array of shape (ids,), uint64: the first 8 bytes of BLAKE2b, little-endian.
    """
    prefix = blake2b(f"{seed}\x1f{purpose}\x1f".encode(), digest_size=8)
    digests = bytearray()
    for item in ids:
        state = prefix.copy()
        state.update(str(item).encode())
        digests += state.digest()
    return np.frombuffer(bytes(digests), dtype="<u8").astype(np.uint64)


def wide_hash(ids: Iterable[str]) -> NDArray[np.uint32]:
    """Hash ids to 128 bits, by which they are told apart: shape (ids, 4), uint32."""
    digests = bytearray()
    for item in ids:
        digests += blake2b(item.encode(errors="surrogateescape"), digest_size=16).digest()
    return np.frombuffer(bytes(digests), dtype="<u4").astype(np.uint32).reshape(-1, 4)


_CHUNK = 16 << 20
"""Bytes that are hashed at a time, by several threads where there are processors for them."""

_HASHERS = 4


def content_hash(files: Iterable[Path]) -> str:
    """One hash of the names and contents of files, of 32 hexadecimal digits.

    Neither their folder nor their times count, nor the order in which they are named. It is that
    of a list of the hashes of chunks, so that the processors share a large file.

    Raises
    ------
    OSError
        A file cannot be read.
    """
    paths = sorted(files, key=lambda path: path.name)
    total = blake2b(digest_size=16)
    with ThreadPoolExecutor(_HASHERS) as pool:
        for path in paths:
            size = path.stat().st_size
            total.update(f"{path.name}\0{size}\0".encode(errors="surrogateescape"))
            for digest in pool.map(partial(_chunk_hash, path), range(0, size, _CHUNK)):
                total.update(digest)
    return total.hexdigest()


def _chunk_hash(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return blake2b(file.read(_CHUNK)).digest()


def word_hash(word: str) -> int:
    """A hash that no environment variable changes, for gensim's initial vectors."""
    return zlib.crc32(word.encode())
