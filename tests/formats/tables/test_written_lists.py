"""Lists that are written as text: words with their counts, and tags, a row by itself."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fusionrec.formats.tables import read_lyrics, read_songs
from tests.formats.tables.helpers import rejects, rows, spec_of, write


def lyrics(path: str, **fields: Any) -> Any:
    return read_lyrics(path, spec_of("lyrics", path, **fields))


def words(path: str, **fields: Any) -> list[tuple[Any, ...]]:
    return rows(lyrics(path, **fields).table.select(["track_id", "words", "counts"]))


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        ("love|you again,3|2", "|"),
        ('"[""love"", ""you again""]","[3, 2]"', "|"),
        ("love;you again,3;2", ";"),
        ('"[""love"", ""you again""]",3|2', "|"),
    ],
)
def test_words_beside_their_counts(tmp_path: Path, cells: str, separator: str) -> None:
    path = write(tmp_path, "a.csv", f"song_id,words,counts\na,{cells}\nb,,\nc,x,\n")
    batch = lyrics(path, separator=separator)
    assert words(path, separator=separator) == [("a", ["love", "you again"], [3, 2])]
    assert [reject[:2] for reject in rejects(batch)] == [
        ("3", "no lyrics"),
        ("4", "counts do not match words"),
    ]


CELLS = {
    '{"love": 3, "you": 1}': (["love", "you"], [3, 1]),
    "you:2 me": (["you", "me"], [2, 1]),
    '["you:2", "me", "me"]': (["you:2", "me"], [1, 2]),
    "love you love": (["love", "you"], [2, 1]),
    '{"a": [1], "b": 2}': None,
    '{"love": 0}': None,
    "{{}}": None,
    "love:x": None,
}


@settings(deadline=None)
@given(cells=st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=5))
def test_a_row_does_not_depend_on_how_others_are_written(
    cells: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "mixed.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["song_id", "words"], *enumerate(cells)])
    expected = [(str(i), *found) for i, cell in enumerate(cells) if (found := CELLS[cell])]
    assert words(str(path)) == expected


_CELL = st.text(st.sampled_from("[]{}()'\"\\,:|#0a1 \ud83d\x00ß") | st.characters(), max_size=12)


@example(cells=[("{{}}", "{[1]}")], of_json=False)
@example(cells=[('["\\ud83d"]', "[{}]")], of_json=True)
@settings(deadline=None, max_examples=300)
@given(
    cells=st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=3),
    of_json=st.booleans(),
)
def test_cells_of_any_text(
    cells: list[tuple[str, str]], of_json: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    fields = ("words", "counts"), ("tags", "tag_counts")
    for read, names in zip((read_lyrics, read_songs), fields, strict=True):
        for used in (names, names[:1]):
            if of_json:
                objects = [
                    {"song_id": "s", **dict(zip(used, cell, strict=False))} for cell in cells
                ]
                content = "".join(json.dumps(each) + "\n" for each in objects).encode()
            else:
                quoted = [
                    ",".join('"' + each.replace('"', '""') + '"' for each in cell[: len(used)])
                    for cell in cells
                ]
                lines = [f"song_id,{','.join(used)}", *(f"s,{each}" for each in quoted)]
                content = "\n".join(lines).encode("utf-8", "surrogatepass")
            path = write(folder, "any.jsonl" if of_json else "any.csv", content)
            kind = "lyrics" if read is read_lyrics else "songs"
            batch = read(path, spec_of(kind, path))  # type: ignore[arg-type]
            lost = sum(reject[3] in ("dropped", "excluded") for reject in rejects(batch))
            assert len(batch.table) + lost == batch.read
            batch.table.validate(full=True)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_half_characters_and_sets_in_tags(tmp_path: Path, name: str) -> None:
    cells = ["{{}}", "{[1]}", r'["rock \ud83d", "pop"]']
    if name == "a.csv":
        quoted = ['1,"{}"\n'.format(cell.replace('"', '""')) for cell in cells]
        content = "song_id,tags\n" + "".join(quoted)
    else:
        content = "".join(json.dumps({"song_id": 1, "tags": cell}) + "\n" for cell in cells)
    path = write(tmp_path, name, content)
    batch = read_songs(path, spec_of("songs", path))
    *odd, damaged = batch.table["terms"].to_pylist()
    assert odd == [["{{}}"], ["{[1]}"]]
    assert damaged[1] == "pop"
    assert damaged[0].startswith("rock \ufffd")
    assert batch.damaged_text == 1
