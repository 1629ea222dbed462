"""Hashes that are the same on every machine and in every process, unlike Python's own."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from hashlib import blake2b

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


def word_hash(word: str) -> int:
    """A hash that no environment variable changes, for gensim's initial vectors."""
    return zlib.crc32(word.encode())
