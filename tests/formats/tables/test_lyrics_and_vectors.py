"""Words and vectors from tables, compared with plain Python and NumPy."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionrec.errors import SourceError
from fusionrec.formats.tables import (
    columns_of,
    feature_dimension,
    ranges,
    read_features,
    read_head,
    read_lyrics,
)
from fusionrec.formats.tables.lyrics import words_of
from fusionrec.tables import matrix
from tests.formats.tables.helpers import in_ranges, rejects, rows, spec_of, write, write_parquet


def lyrics(path: str, **fields: Any) -> Any:
    return read_lyrics(path, spec_of("lyrics", path, **fields))


def vectors(path: str, **fields: Any) -> Any:
    return read_features(path, spec_of("features", path, **fields))


@settings(deadline=None)
@given(
    text=st.text(st.sampled_from("aBc é'’ ,.1ß\n-_") | st.characters(codec="ascii"), max_size=30)
)
def test_words_are_those_of_a_plain_loop(text: str) -> None:
    plain = text.lower().replace("’", "'")
    expected = re.findall(r"[^\W_]+(?:'+[^\W_]+)*", plain)
    assert words_of(pa.array([text, None])).to_pylist() == [expected, []]


def test_words_of_other_scripts() -> None:
    texts = pa.array(["नमस्ते दुनिया!", "Привет, МИР", "e\u0301te\u0301 STRASSE"])
    assert words_of(texts).to_pylist() == [
        ["नमस्ते", "दुनिया"],
        ["привет", "мир"],
        ["e\u0301te\u0301", "strasse"],
    ]


def test_text_over_several_lines(tmp_path: Path) -> None:
    content = 'song_id,lyrics\n1,"Hello, hello\nmy ""friend"", don\'t"\n2,\n3,one\n,x\n'
    path = write(tmp_path, "a.csv", content)
    batch = lyrics(path)
    assert rows(batch.table) == [
        (
            "1",
            'Hello, hello\nmy "friend", don\'t',
            ["hello", "my", "friend", "don't"],
            [2, 1, 1, 1],
        ),
        ("3", "one", ["one"], [1]),
    ]
    assert rejects(batch) == [
        ("4", "no lyrics", "2", "excluded"),
        ("6", "empty song_id", "", "dropped"),
    ]
    assert ranges(path, spec_of("lyrics", path), rows=1, bytes_=5) == [(0, len(content))]


def test_a_long_file_of_text_over_lines_is_read_in_blocks(tmp_path: Path) -> None:
    text = "line, one\nline two\nline three\n" * 40
    path = write(tmp_path, "a.csv", "song_id,text\n" + f'7,"{text}"\n' * 5000)
    batch = lyrics(path)
    assert (len(batch.table), batch.read, len(batch.rejects)) == (5000, 5000, 0)
    assert batch.table["text"][4999].as_py() == text.strip()
    counts = dict(zip(*(batch.table[name][0].as_py() for name in ("words", "counts")), strict=True))
    assert counts == Counter(text.replace(",", "").split())


@pytest.mark.parametrize(
    "columns",
    [
        {"words": [["a", "b", "a"], ["c"], None]},
        {"words": [["a", "b"], ["c"], None], "counts": [[2, 1], [1], None]},
        {"bag": ["a:2 b", "c:1", None]},
        {"words": ['{"a": 2, "b": 1}', '{"c": 1}', None]},
    ],
)
def test_words_and_counts(tmp_path: Path, columns: dict[str, Any]) -> None:
    path = write_parquet(tmp_path, "a.parquet", {"track_id": ["x", "y", "z"], **columns})
    batch = lyrics(path)
    assert rows(batch.table) == [("x", None, ["a", "b"], [2, 1]), ("y", None, ["c"], [1])]
    assert rejects(batch) == [("3", "no lyrics", "z", "excluded")]


def test_words_whose_counts_are_none(tmp_path: Path) -> None:
    columns = {"words": [["a"], ["a"], ["a"], ["a"]], "counts": [[1, 2], [0], [1.5], [3]]}
    path = write_parquet(tmp_path, "a.parquet", {"song_id": [1, 2, 3, 4], **columns})
    batch = lyrics(path)
    assert rows(batch.table) == [("4", None, ["a"], [3])]
    assert [reject[:2] for reject in rejects(batch)] == [
        ("1", "counts do not match words"),
        ("2", "counts are not whole numbers above 0"),
        ("3", "counts are not whole numbers above 0"),
    ]


# --- Vectors ---------------------------------------------------------------------------------

VALUES = np.random.default_rng(8).standard_normal((9, 4)).astype(np.float32)
IDS = [f"s{i}" for i in range(9)]


def write_vectors(folder: Path, name: str) -> tuple[str, dict[str, Any]]:
    path = folder / name
    texts = [" ".join(repr(float(each)) for each in row) for row in VALUES]
    if name == "a.npy":
        np.save(path, VALUES.astype(np.float64))
        return str(path), {"ids": write(folder, "ids.txt", "\n".join(IDS))}
    if name == "a.npz":
        np.savez(path, ids=np.array(IDS), vectors=VALUES)
    elif name == "fixed.parquet":
        flat = pa.FixedSizeListArray.from_arrays(pa.array(VALUES.ravel()), 4)
        write_parquet(folder, name, {"song_id": IDS, "vector": flat}, row_group_size=4)
    elif name == "list.parquet":
        write_parquet(folder, name, {"track_id": IDS, "embedding": [*map(list, VALUES)]})
    elif name == "wide.parquet":
        write_parquet(folder, name, {"id": IDS, **{f"x{i}": VALUES[:, i] for i in range(4)}})
    elif name == "wide.tsv":
        lines = [f"{i}\t" + text.replace(" ", "\t") for i, text in zip(IDS, texts, strict=True)]
        write(folder, name, "\n".join(["id\ta\tb\tc\td", *lines]))
    elif name == "text.csv":
        lines = [f'{i},"[{text}]"' for i, text in zip(IDS, texts, strict=True)]
        write(folder, name, "\n".join(["song_id,vector", *lines]))
    else:
        lines = [
            f'{{"song_id": "{i}", "vector": [{text.replace(" ", ", ")}]}}'
            for i, text in zip(IDS, texts, strict=True)
        ]
        write(folder, name, "\n".join(lines))
    return str(path), {}


KINDS = [
    "a.npy",
    "a.npz",
    "fixed.parquet",
    "list.parquet",
    "wide.parquet",
    "wide.tsv",
    "text.csv",
    "a.jsonl",
]


@pytest.mark.parametrize("name", KINDS)
def test_vectors_of_every_kind_of_file(tmp_path: Path, name: str) -> None:
    path, fields = write_vectors(tmp_path, name)
    spec = spec_of("features", path, **fields)
    assert feature_dimension(path, spec) == 4
    batch = read_features(path, spec)
    assert batch.table["song_id"].to_pylist() == IDS
    np.testing.assert_array_equal(matrix(batch.table["vector"]), VALUES)
    assert (batch.read, len(batch.rejects)) == (9, 0)
    parts = in_ranges(read_features, path, spec, 3 if name.endswith(("npy", "parquet")) else 60)
    assert pa.concat_tables([part.table for part in parts]).equals(batch.table)
    assert len(read_head(path, spec, 2)) == 2


def test_vectors_that_are_none(tmp_path: Path) -> None:
    lists = [[1.0, 2.0], [1.0], [np.nan, 1.0], None, [np.inf, 0.0], [1e39, 0.0], [3.0, 4.0]]
    columns = {"song_id": ["a", "b", "c", "d", "e", "f", None], "vector": lists}
    path = write_parquet(tmp_path, "a.parquet", columns)
    batch = vectors(path)
    assert rows(batch.table) == [("a", [1.0, 2.0])]
    assert rejects(batch) == [
        ("2", "vector has another dimension", "1 numbers instead of 2", "dropped"),
        ("3", "vector has NaN or infinite values", "c", "dropped"),
        ("4", "vector is empty", "", "dropped"),
        ("5", "vector has NaN or infinite values", "e", "dropped"),
        ("6", "vector has NaN or infinite values", "f", "dropped"),
        ("7", "empty song_id", "", "dropped"),
    ]
    batch = read_features(path, spec_of("features", path), dimension=1)
    assert rows(batch.table) == [("b", [1.0])]


def test_cells_that_are_no_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "id,x,y\na,1,2\nb,nan,1\nc,1,z\nd,1e40,1\ne,5,6\n")
    batch = vectors(path)
    assert rows(batch.table) == [("a", [1.0, 2.0]), ("e", [5.0, 6.0])]
    assert [reject[:3] for reject in rejects(batch)] == [
        ("3", "vector has NaN or infinite values", "nan"),
        ("4", "vector has what is no number", "z"),
        ("5", "vector has NaN or infinite values", "d"),
    ]


@pytest.mark.parametrize(
    ("write_it", "fields", "message"),
    [
        (
            lambda path: np.save(path, np.ones((2, 2))),
            {},
            r"a\.npy: says not which songs.*NAME\.ids",
        ),
        (lambda path: np.save(path, np.ones((3, 2))), {"ids": True}, r"has 3 rows.*has 2 ids"),
        (lambda path: np.save(path, np.ones(2)), {"ids": True}, r"must be a matrix of numbers"),
        (
            lambda path: np.save(path, np.asfortranarray(np.ones((2, 2)))),
            {"ids": True},
            "column by column",
        ),
        (lambda path: Path(path).write_bytes(b"nothing"), {"ids": True}, r"is no \.npy file"),
    ],
)
def test_arrays_that_cannot_be_used(
    tmp_path: Path, write_it: Any, fields: dict[str, Any], message: str
) -> None:
    path = str(tmp_path / "a.npy")
    write_it(path)
    if fields:
        fields = {"ids": write(tmp_path, "ids.txt", "a\nb\n")}
    with pytest.raises(SourceError, match=message):
        vectors(path, **fields)


def test_archives_that_cannot_be_used(tmp_path: Path) -> None:
    path = str(tmp_path / "a.npz")
    np.savez(path, ids=np.array(["a", None], object), vectors=np.ones((2, 2)))
    with pytest.raises(SourceError, match="with ids as text or integers"):
        vectors(path)
    np.savez(path, a=np.ones((2, 2)), b=np.ones((2, 2)), ids=np.array([1, 2]))
    with pytest.raises(SourceError, match=r"2 of its arrays have 2 dimensions.*NAME\.columns"):
        vectors(path)
    spec = spec_of("features", path, columns={"vector": "b"})
    assert columns_of(path, spec) == {"song_id": "ids", "vector": "b"}
    assert rows(read_features(path, spec).table) == [("1", [1.0, 1.0]), ("2", [1.0, 1.0])]


def test_numpy_files_hold_no_plays(tmp_path: Path) -> None:
    path = str(tmp_path / "a.npy")
    np.save(path, np.ones((2, 2)))
    with pytest.raises(SourceError, match="NumPy files hold vectors alone"):
        columns_of(path, spec_of("plays", path))
