"""Lists made elsewhere: every form and kind of file says the same, and what is wrong is named."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusionrec.errors import SourceError
from fusionrec.formats import user_lists

LISTS = {"v": ["c", "a"], "u": ["b", "c", "a"], "w": []}
ROWS = [
    *({"user_id": "u", "song_id": song, "rank": rank} for song, rank in (("a", 9), ("b", 2))),
    *({"user_id": "v", "song_id": song, "rank": rank} for song, rank in (("a", 2), ("c", 1))),
    {"user_id": "u", "song_id": "c", "rank": 4},
]


def found(path: Path) -> dict[str, list[str]]:
    lists = user_lists.read(str(path))
    songs = lists.songs.to_pylist()
    bounds = zip(lists.indptr[:-1], lists.indptr[1:], strict=True)
    return {
        user: songs[start:stop]
        for user, (start, stop) in zip(lists.users.to_pylist(), bounds, strict=True)
    }


def parquet(path: Path, **columns: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def test_a_row_a_user(tmp_path) -> None:
    columns = {"user_id": list(LISTS), "song_ids": list(LISTS.values()), "more": [1, 2, 3]}
    one = parquet(tmp_path / "lists.parquet", **columns)
    assert found(one) == LISTS
    kinds = {"user_id": pa.large_string(), "song_ids": pa.large_list(pa.large_string())}
    large = {name: pa.array(columns[name], kind) for name, kind in kinds.items()}
    assert found(parquet(tmp_path / "large.parquet", **large)) == LISTS
    for number in range(3):
        part = {name: values[number : number + 1] for name, values in columns.items()}
        part["song_ids"] = pa.array(part["song_ids"], pa.list_(pa.string()))
        parquet(tmp_path / "parts" / f"part-{number}.parquet", **part)
    assert found(tmp_path / "parts") == LISTS
    assert found(Path(f"{tmp_path}/parts")) == LISTS
    lines = tmp_path / "lists.jsonl"
    rows = [{"user_id": user, "song_ids": songs} for user, songs in LISTS.items()]
    lines.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert found(lines) == LISTS
    assert user_lists.read(f"file://{one}").users.to_pylist() == list(LISTS)


def test_a_row_a_song(tmp_path) -> None:
    expected = {user: LISTS[user] for user in ("u", "v")}
    by_rank = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    by_score = {**by_rank, "score": [-0.5 * float(rank) for rank in by_rank.pop("rank")]}
    del by_score["rank"]
    assert found(parquet(tmp_path / "score.parquet", **by_score)) == expected
    table = tmp_path / "lists.csv"
    table.write_text(
        "rank,user_id,song_id\n"
        + "".join(f"{row['rank']},{row['user_id']},{row['song_id']}\n" for row in ROWS)
    )
    assert found(table) == expected
    lines = tmp_path / "lists.jsonl"
    lines.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    assert found(lines) == expected


def test_equal_scores_are_in_the_files_order(tmp_path) -> None:
    songs = ["d", "b", "a", "c"]
    columns = {"user_id": ["u"] * 4, "song_id": songs, "score": [1, 1, 1, 2]}
    assert found(parquet(tmp_path / "x.parquet", **columns)) == {"u": ["c", "d", "b", "a"]}


def test_ids_of_digits_stay_text(tmp_path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("user_id,song_id,score\n007,01,0.5\n")
    assert found(file) == {"007": ["01"]}


U, S = ["u", "v"], ["a", "b"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": U, "song_ids": [S, S]}, "has no column user_id (it has user, song_ids): give"),
        ({"user_id": U}, "has no column song_ids or song_id (it has user_id)"),
        ({"user_id": U, "song_id": S}, "has no column rank or score (it has user_id, song_id)"),
        ({"user_id": [1, 2], "song_ids": [S, S]}, "user_id is of type int64: make it string"),
        ({"user_id": U, "song_ids": [[1], [2]]}, "song_ids is of type list"),
        ({"user_id": U, "song_ids": S}, "song_ids is of type string: make it list"),
        ({"user_id": U, "song_id": S, "rank": [0.5, 1.0]}, "rank is of type double: make it int64"),
        ({"user_id": ["u", None], "song_ids": [S, S]}, "user_id of row 2: is null"),
        ({"user_id": U, "song_ids": [S, None]}, "song_ids of row 2: is null"),
        ({"user_id": U, "song_ids": [S, ["a", None]]}, "song_ids of row 2: has a null in it"),
        ({"user_id": U, "song_id": S, "score": [1, float("nan")]}, "score of row 2: is not finite"),
        ({"user_id": ["u", "u"], "song_ids": [S, S]}, "user_id of row 2: 'u' as in row 1; leave"),
        ({"user_id": U, "song_ids": [S, ["b", "a", "b"]]}, "song_ids of row 2: 'b' twice in this"),
        (
            {"user_id": ["u", "u"], "song_id": ["a", "a"], "rank": [1, 2]},
            "song_id of row 2: 'a' as in row 1",
        ),
        ({"user_id": ["u", "u"], "song_id": S, "rank": [3, 3]}, "rank of row 2: '3' as in row 1"),
    ],
)
def test_file_column_and_row_are_named(tmp_path, columns, message) -> None:
    file = parquet(tmp_path / "lists.parquet", **columns)
    with pytest.raises(SourceError) as caught:
        user_lists.read(str(file))
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_user_of_two_parts_is_named_with_both(tmp_path) -> None:
    for number in (1, 2):
        parquet(tmp_path / "p" / f"{number}.parquet", user_id=[str(number), "u"], song_ids=[S, S])
    with pytest.raises(SourceError, match=r"2\.parquet: user_id of row 2: 'u' as in row 2 of .*/1"):
        user_lists.read(str(tmp_path / "p"))


def test_files_that_are_none(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    bad = tmp_path / "bad.parquet"
    bad.write_text("no Parquet")
    for path, message in (
        ("gone.parquet", "there is no such file"),
        ("lists.txt", "name it .parquet, .jsonl or .csv"),
        ("empty", "this folder has no .parquet file"),
        ("bad.parquet", "cannot be read as parquet"),
    ):
        for function in (user_lists.check, user_lists.read):
            with pytest.raises(SourceError, match=message):
                function(str(tmp_path / path))
    with pytest.raises(SourceError, match="no such file"):
        user_lists.fingerprint(str(tmp_path / "gone.parquet"))


def test_a_fingerprint_is_of_the_content_alone(tmp_path) -> None:
    one = parquet(tmp_path / "one.parquet", user_id=U, song_ids=[S, S])
    two = parquet(tmp_path / "two.parquet", user_id=U, song_ids=[S, S])
    assert user_lists.fingerprint(str(one)) == user_lists.fingerprint(str(two))
    parquet(two, user_id=U, song_ids=[S, S[::-1]])
    assert user_lists.fingerprint(str(one)) != user_lists.fingerprint(str(two))
