"""Hashes are the functions they are documented to be: stored splits and seeds depend on them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fusionrec import hashing
from fusionrec.hashing import content_hash, piece_of, stable_hash, word_hash


def test_stable_hash_is_the_published_function() -> None:
    expected = hashlib.blake2b(b"7\x1ffold\x1fSO1", digest_size=8).digest()
    got = stable_hash(["SO1", "SO2"], seed=7, purpose="fold")
    assert got.dtype == np.uint64
    assert int(got[0]) == int.from_bytes(expected, "little")
    assert got[0] != got[1]
    assert got[0] != stable_hash(["SO1"], seed=8, purpose="fold")[0]
    assert got[0] != stable_hash(["SO1"], seed=7, purpose="validation")[0]
    assert len(stable_hash([], seed=0, purpose="fold")) == 0


def test_word_hash_is_crc32() -> None:
    assert word_hash("123456789") == 0xCBF43926  # the check value of CRC-32


def test_content_hash_is_the_published_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "_CHUNK", 4)
    contents = {"b": b"12345678", "a": b"123456789", "empty": b""}
    files = [tmp_path / name for name in contents]
    for file in files:
        file.write_bytes(contents[file.name])
    expected = hashlib.blake2b(digest_size=16)
    for header, chunks in (
        (b"a\x009\x00", [b"1234", b"5678", b"9"]),
        (b"b\x008\x00", [b"1234", b"5678"]),
        (b"empty\x000\x00", []),
    ):
        expected.update(header + b"".join(hashlib.blake2b(chunk).digest() for chunk in chunks))
    assert content_hash(files) == content_hash(reversed(files)) == expected.hexdigest()
    files[0].write_bytes(b"12345679")
    assert content_hash(files) != expected.hexdigest()
    assert content_hash(files[1:]) != content_hash(files)


@pytest.mark.parametrize("length", [3, 8, 18, 40])
def test_pieces_are_alike_in_size_and_the_same_for_an_id_wherever_it_stands(length) -> None:
    ids = [f"{number:0{length}x}" for number in range(4_000)]
    found = piece_of(pa.array(ids), 7)
    assert abs(np.bincount(found, minlength=7) - 4_000 / 7).max() < 120
    # Among ids of other lengths, in another form of Arrow, and in a slice.
    mixed = pa.chunked_array([["", "é", *ids[:9]], ["a longer one than them all", *ids[9:]]])
    places = piece_of(mixed.slice(1), 7)
    assert places[1:10].tolist() + places[11:].tolist() == found.tolist()
    assert piece_of(pa.array([i.encode() for i in ids], pa.binary()), 7).tolist() == found.tolist()
    assert not piece_of(mixed, 1).any()
    assert piece_of(pa.array([], pa.string()), 5).tolist() == []
    assert piece_of(pa.array(["", ""]), 7).tolist() == [piece_of(pa.array(["", "a"]), 7)[0]] * 2
