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
    by_line = tmp_path / "lists.jsonl"
    rows = [{"user_id": user, "song_ids": songs} for user, songs in LISTS.items()]
    by_line.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert found(by_line) == LISTS
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
    by_line = tmp_path / "lists.jsonl"
    by_line.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    assert found(by_line) == expected


def test_equal_scores_are_in_the_files_order(tmp_path) -> None:
    songs = ["d", "b", "a", "c"]
    columns = {"user_id": ["u"] * 4, "song_id": songs, "score": [1, 1, 1, 2]}
    assert found(parquet(tmp_path / "x.parquet", **columns)) == {"u": ["c", "d", "b", "a"]}


def test_ids_of_digits_stay_text(tmp_path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("user_id,song_id,score\n007,01,0.5\n")
    assert found(file) == {"007": ["01"]}


def lines(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_json_lines_may_be_long(tmp_path) -> None:
    songs = [f"SO{number:016d}" for number in range(150_000)]  # 3 MB
    rows = [{"user_id": user, "song_ids": songs} for user in ("u", "v")]
    rows.insert(1, {"user_id": "w", "song_ids": ["a"]})
    assert found(lines(tmp_path / "x.jsonl", *rows)) == {"u": songs, "w": ["a"], "v": songs}


def test_json_ids_that_look_like_times_stay_text(tmp_path) -> None:
    user, song = "2011-01-01", "2012-02-03 04:05:06"
    rows = [{"more": 1, "user_id": user, "song_ids": [song]}, {"user_id": song, "song_ids": []}]
    assert found(lines(tmp_path / "a.jsonl", *rows)) == {user: [song], song: []}
    one = {"user_id": user, "song_id": song, "score": 1}
    assert found(lines(tmp_path / "b.jsonl", one, {**one, "song_id": "s", "score": 1.5})) == {
        user: ["s", song]
    }


def test_lists_may_all_be_empty(tmp_path) -> None:
    empty = {"u": [], "v": []}
    rows = [{"user_id": user, "song_ids": []} for user in empty]
    assert found(lines(tmp_path / "x.jsonl", *rows)) == empty
    assert found(parquet(tmp_path / "x.parquet", user_id=["u", "v"], song_ids=[[], []])) == empty
    typed = pa.array([], pa.list_(pa.string()))
    none = parquet(tmp_path / "none.parquet", user_id=pa.array([], pa.string()), song_ids=typed)
    assert found(none) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column user_id (it has none)"),
        ("{", "cannot be read as jsonl"),
        ("[1]", "its first line is no JSON object: give user_id"),
        ('{"user_id": "u", "more": 1}', "has no column song_ids or song_id (it has user_id, more)"),
        ('{"user_id": "u", "user_id": "v", "song_ids": []}', "has 2 columns user_id: keep one"),
        ('{"user_id": 1, "song_ids": []}', "cannot be read as jsonl"),
        ('{"user_id": "u", "song_ids": []}\n{"user_id": "v"}', "song_ids of row 2: is null"),
    ],
)
def test_json_lines_that_are_none(tmp_path, text, message) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(text)
    with pytest.raises(SourceError) as caught:
        user_lists.read(str(file))
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_csv_of_whole_scores_may_end_in_others(tmp_path) -> None:
    file = tmp_path / "x.csv"
    many = "".join(f"u,s{number},{-number}\n" for number in range(200_000))
    file.write_text(f"user_id,song_id,score\n{many}u,last,0.5\n")
    assert found(file)["u"][:2] == ["last", "s0"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.dictionary(pa.int32(), pa.string())),
        pa.large_list(pa.string()),
        pa.list_(pa.large_string()),
        pa.list_(pa.string(), 2),
    ],
)
def test_text_of_every_kind(tmp_path, kind) -> None:
    coded = pa.array(["u", "v"]).dictionary_encode()
    songs = pa.array([["a", "b"], ["b", "c"]], pa.list_(kind.value_type))
    songs = songs if pa.types.is_dictionary(kind.value_type) else songs.cast(kind)
    file = parquet(tmp_path / "x.parquet", user_id=coded, song_ids=songs)
    assert found(file) == {"u": ["a", "b"], "v": ["b", "c"]}


def test_ids_have_wide_offsets(tmp_path) -> None:
    """2 GiB of ids are no bound: they are what offsets of 32 bits can count."""
    file = parquet(tmp_path / "x.parquet", user_id=["u"], song_ids=[["a"]])
    lists = user_lists.read(str(file))
    assert lists.users.type == lists.songs.type == pa.large_string()


def test_a_column_twice_is_refused(tmp_path) -> None:
    table = pa.table([["u"], ["v"], [["a"]]], names=["user_id", "user_id", "song_ids"])
    pq.write_table(table, tmp_path / "x.parquet")
    (tmp_path / "x.csv").write_text("user_id,song_id,rank,rank\nu,a,1,1\n")
    for name, column in (("x.parquet", "user_id"), ("x.csv", "rank")):
        with pytest.raises(SourceError, match=f"{name}: has 2 columns {column}: keep one"):
            user_lists.read(str(tmp_path / name))
    with pytest.raises(SourceError, match="has 2 columns user_id"):
        user_lists.check(str(tmp_path / "x.parquet"))


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
        (
            {"user_id": U, "song_id": S, "rank": pa.array([1, 1 << 63], pa.uint64())},
            "rank cannot be made int64 (",
        ),
        (
            {"user_id": U, "song_id": S, "score": [1, (1 << 60) + 1]},
            "score cannot be made double (",
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
