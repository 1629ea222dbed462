"""Tagtraum's genre files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionrec.errors import SourceError
from fusionrec.formats.tagtraum import read_cls

ONE, TWO, THREE = (f"TRAAAA{c}128F9318786" for c in "KLM")


def test_genres_comments_and_rejects(tmp_path: Path) -> None:
    path = tmp_path / "msd.cls"
    path.write_bytes(
        f"# a comment\n{ONE}\tPop_Rock\n\n{TWO}\tJazz\tNew Age\nTRAA\tRap\n{THREE}\n".encode()
        + f"{THREE}\t\tR".encode()
        + b"\xe9"
    )
    batch = read_cls(str(path))
    assert batch.table.to_pylist() == [
        {"track_id": ONE, "genres": ["Pop_Rock"]},
        {"track_id": TWO, "genres": ["Jazz", "New Age"]},
        {"track_id": THREE, "genres": ["R\ufffd"]},
    ]
    assert [tuple(r.values()) for r in batch.rejects.to_pylist()] == [
        ("msd.cls", "5", "bad track id", "TRAA\tRap", "dropped"),
        ("msd.cls", "6", "no genre", THREE, "dropped"),
    ]
    assert (batch.read, batch.damaged_text) == (5, 1)


def test_another_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "genres.cls"
    path.write_bytes(b"genre,track\nrock,1\n")
    with pytest.raises(SourceError, match=r"genres\.cls: no line begins with a track id"):
        read_cls(str(path))
    with pytest.raises(SourceError, match="no such file"):
        read_cls(str(tmp_path / "gone.cls"))


@settings(deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_are_rows_or_rejects(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.cls"
    path.write_bytes(f"{ONE}\tRap\n".encode() + content)
    batch = read_cls(str(path))
    assert batch.table["track_id"][0].as_py() == ONE
    assert len(batch.table) + len(batch.rejects) == batch.read
