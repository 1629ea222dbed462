"""Which files there are, and which of their columns is which."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionrec.errors import SourceError
from fusionrec.formats.tables import TableSpec, columns_of, table_files
from fusionrec.formats.tables.names import find_columns
from fusionrec.formats.tables.spec import COLUMNS, Kind
from tests.formats.tables.helpers import spec_of, write, write_parquet


def found(kind: Kind, *names: str, **columns: str) -> dict[str, str]:
    return find_columns("f.csv", TableSpec(kind, ("f.csv",), columns), names)


def test_columns_by_name_whatever_their_case() -> None:
    assert found("plays", "User-ID", "Track Id", "PLAY_COUNT", "ts", "x") == {
        "user_id": "User-ID",
        "song_id": "Track Id",
        "plays": "PLAY_COUNT",
        "timestamp": "ts",
    }
    assert found("songs", "id", "Track_Name", "artists", "genres", "album", "duration_ms") == {
        "song_id": "id",
        "title": "Track_Name",
        "artist_name": "artists",
        "tags": "genres",
        "release": "album",
        "duration": "duration_ms",
    }
    assert (
        found("plays", "user_id:token", "item_id:token", "rating:float")["rating"] == "rating:float"
    )


def test_own_names_and_the_map_come_first() -> None:
    assert found("songs", "track_id", "song_id")["track_id"] == "track_id"
    assert found("songs", "track_id")["song_id"] == "track_id"
    assert found("plays", "song_id", "item_id", "uid")["song_id"] == "song_id"
    assert found("plays", "a", "song_id", "uid", song_id="a")["song_id"] == "a"
    assert found("lyrics", "song_id", "track_id", "lyrics")["track_id"] == "track_id"


@pytest.mark.parametrize("kind", list(COLUMNS))
@given(data=st.data())
def test_own_names_are_always_found(kind: Kind, data: st.DataObject) -> None:
    required = {"plays": ["user_id", "song_id"], "features": ["song_id", "vector"]}
    names = set(required.get(kind, ["song_id"])) | data.draw(
        st.sets(st.sampled_from(COLUMNS[kind]))
    )
    assert found(kind, *sorted(names)) == {name: name for name in COLUMNS[kind] if name in names}


@pytest.mark.parametrize(
    ("names", "columns", "message"),
    [
        (("uid", "x"), {}, r"f\.csv: no column is song_id \(it has uid, x\).*tables\.plays\.col"),
        (("uid", "item_id", "track_id"), {}, "item_id and track_id may both be song_id"),
        (("uid", "song_id"), {"plays": "n"}, r"has no column n, which source\.tables\.plays"),
        (("uid", "song_id", "song_id"), {}, "has 2 columns song_id"),
        (("uid", "song_id", "Song-ID"), {"song_id": "nope"}, "has no column nope"),
    ],
)
def test_errors_say_what_to_do(
    names: tuple[str, ...], columns: dict[str, str], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        found("plays", *names, **columns)


def test_a_column_twice_that_nobody_wants_is_no_trouble(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "x,uid,song_id,x\n1,2,3,4\n")
    assert columns_of(path, spec_of("plays", path)) == {"user_id": "uid", "song_id": "song_id"}


def files_of(*paths: object) -> list[str]:
    return table_files(TableSpec("plays", tuple(map(str, paths))))


def test_folders_globs_and_files(tmp_path: Path) -> None:
    for name in (
        "day=2/b.csv",
        "day=1/a.csv.gz",
        "_SUCCESS",
        ".hidden.csv",
        "_tmp/c.csv",
        "README",
    ):
        write(tmp_path, f"plays/{name}", "user_id,song_id\n")
    folder = tmp_path / "plays"
    both = [str(folder / "day=1/a.csv.gz"), str(folder / "day=2/b.csv")]
    assert files_of(folder) == both
    assert files_of(folder / "*/*.csv*") == [str(folder / "_tmp/c.csv"), *both]
    assert files_of(folder / "day=[12]/*", both[0]) == both
    assert files_of(f"file://{folder}") == [f"file://{path}" for path in both]
    assert files_of(f"file://{folder}/day=*/*.csv") == [f"file://{both[1]}"]
    assert files_of(f"file://{folder}/**/b.csv") == [f"file://{both[1]}"]
    assert files_of(folder / "README") == [str(folder / "README")]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.csv: no such file or folder.*plays\.paths"):
        files_of(tmp_path / "gone.csv")
    with pytest.raises(SourceError, match=r"\*\.csv: no file matches"):
        files_of(tmp_path / "*.csv")
    with pytest.raises(SourceError, match="no file matches"):
        files_of(f"file://{tmp_path}/none/*.csv")
    with pytest.raises(SourceError, match="names no file"):
        files_of()
    os.mkdir(tmp_path / "e")
    with pytest.raises(SourceError, match="this folder has no Parquet"):
        files_of(tmp_path / "e")


def test_a_folder_of_several_kinds_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "d/a.csv", "user_id,song_id\n")
    write_parquet(tmp_path, "d/b.parquet", {"user_id": ["u"], "song_id": ["s"]})
    with pytest.raises(SourceError, match=r"holds a\.csv and b\.parquet.*by a glob.*\*\.csv"):
        files_of(tmp_path / "d")


def test_links_to_folders_in_circles(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    for name in ("d/a.csv", "d/in/b.csv", "outside/c.csv", "d/.store/e.csv"):
        write(tmp_path, name, "user_id,song_id\n")
    for link, target in {
        "again": ".",
        "up": "..",
        "in/top": "..",
        "out": "../outside",
        "twice": "../outside",
        "data": ".store",
    }.items():
        (folder / link).symlink_to(target, target_is_directory=True)
    (tmp_path / "outside/back").symlink_to(folder, target_is_directory=True)
    expected = [str(folder / name) for name in ("a.csv", "data/e.csv", "in/b.csv", "out/c.csv")]
    assert files_of(folder) == expected
    assert files_of(folder / "**/*.csv") == expected
    assert files_of(folder / "**") == expected
    assert files_of(folder / "**/?.csv") == expected
    assert files_of(folder / "*/b.csv") == [str(folder / "in/b.csv")]
