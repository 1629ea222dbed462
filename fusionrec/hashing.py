"""Hashes that are the same on every machine and in every process, unlike Python's own."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
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


def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64: every bit of the input moves every bit of the output."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def piece_of(ids: pa.Array | pa.ChunkedArray, pieces: int) -> NDArray[np.int64]:
    """Into which of `pieces` each id falls, by a quick hash of its bytes: shape (ids,), int64.

    Equal ids fall into one piece, and many ids into pieces of like size. It tells no ids apart:
    that is for :func:`wide_hash`, which takes several times as long.
    """
    found = np.zeros(len(ids), np.int64)
    if pieces == 1 or not len(ids):
        return found
    whole = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    whole = whole.cast(pa.large_binary())
    _, offsets, content = whole.buffers()
    bounds = np.frombuffer(offsets, np.int64)[whole.offset : whole.offset + len(whole) + 1]
    text = np.frombuffer(content or b"", np.uint8)
    sizes = np.diff(bounds)
    for size in np.unique(sizes).tolist():
        here = np.flatnonzero(sizes == size)
        # By words of 8 bytes, the last filled up with zeros.
        words = np.zeros((len(here), -(-size // 8) * 8), np.uint8)
        if size and len(here) == len(found):
            words[:, :size] = text[bounds[0] : bounds[-1]].reshape(-1, size)
        else:
            words[:, :size] = text[bounds[here][:, None] + np.arange(size)]
        state = np.full(len(here), size, np.uint64)
        for word in words.view("<u8").astype(np.uint64).T:
            state = mix(state ^ word)
        found[here] = ((state >> np.uint64(32)) * np.uint64(pieces)) >> np.uint64(32)
    return found


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
