"""What is given to a finished workspace from Python, before any workspace is looked at."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fusionrec.errors import DataError
from pipelines.opened.given import as_table, listed_ids, vectors_of
from pipelines.opened.plays import MOST_PLAYS, GivenPlays


def two(first: object, second: object) -> pa.Table:
    """Rows of one user, with these plays."""
    return pa.table({"user_id": ["a", "a"], "song_id": ["s", "t"], "plays": [first, second]})


@pytest.mark.parametrize(
    ("plays", "message"),
    [
        ({"me": {"a": "x"}}, r"^plays: row 1: plays is 'x': give a whole number from 1 to 2147"),
        ({"me": {"a": 1, "b": "x"}}, r"^plays: row 2: plays is 'x'"),
        ({"me": {"a": 1, "b": None}}, r"^plays: row 2: plays is None"),
        ({"me": {"a": MOST_PLAYS + 1}}, r"^plays: row 1: plays is 2147483648: give"),
        ({"me": {"a": 10**400}}, r"^plays: row 1: plays is 1000"),
        (two([1], [2]), r"^plays: row 1: plays is \[1\]"),
        (two("3", "many"), r"^plays: row 2: plays is 'many'"),
        (two(3, 3_000_000_000), r"^plays: row 2: plays is 3000000000"),
        (two(3, 2**60), r"^plays: row 2: plays is 1152921504606846976"),
        (two(None, 1), r"^plays: row 1: plays is None"),
        ({"me": ["a", None]}, r"^plays: row 2: a song's id of user me is None: give ids as text"),
        ({"me": {b"a": 1}}, r"^plays: row 1: a song's id of user me is b'a'"),
        ({"me": [""]}, r"^plays: row 1: a song's id of user me is ''"),
        ({None: ["a"]}, r"^plays: a user's id is None"),
        ({1: ["a"], "1": ["b"]}, r"^plays: the users 1 and '1' are both 1 as text"),
        (
            pd.DataFrame({"user_id": [None, "a", 3], "song_id": ["s", "t", "u"]}),
            r"^plays: row 3: user_id is of type int, and before of type str",
        ),
    ],
)
def test_plays_that_say_nothing_sound_are_refused_by_their_row(plays, message) -> None:
    with pytest.raises(DataError, match=message) as found:
        GivenPlays.of(plays)
    assert "\n" not in str(found.value)


def test_plays_are_taken_as_they_are_up_to_the_most() -> None:
    given = GivenPlays.of({"a": {7: MOST_PLAYS, "s": np.int64(2)}, 3: [], "b": ["s", "s"]})
    assert given.users.to_pylist() == ["a", "3", "b"]
    assert [given.users[u].as_py() for u in given.user] == ["a", "a", "b", "b"]
    assert [given.songs[s].as_py() for s in given.song] == ["7", "s", "s", "s"]
    assert given.plays.tolist() == [MOST_PLAYS, 2, 1, 1]
    assert GivenPlays.of(two("3", "4")).plays.tolist() == [3, 4]
    assert not len(GivenPlays.of({}).users)


ROWS = [None, [1, 2], None, [3, 4]]
KINDS = [pa.list_(pa.float64()), pa.list_(pa.int64()), pa.list_(pa.float32(), 2)]


@pytest.mark.parametrize("kind", [*KINDS, pa.large_list(pa.float16())])
@pytest.mark.parametrize("first", [0, 1])
def test_vectors_stay_with_their_rows(kind, first) -> None:
    """Where some are null, of lists of any kind, in chunks of any size."""
    rows = pa.array([None if row is None else np.array(row) for row in ROWS], kind)
    column = pa.chunked_array([rows.slice(0, 2), rows.slice(2)]).slice(first)
    found, present = vectors_of(column, 2, "songs", "sound", "as they were")
    assert present.tolist() == [False, True, False, True][first:]
    assert found.tolist() == [[0, 0], [1, 2], [0, 0], [3, 4]][first:]
    found, present = vectors_of(column, 2, "songs", "sound", "", np.arange(4)[first:] == 3)
    assert present.tolist() == [False, False, False, True][first:]
    assert found[-1].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2], None, [1]], r"^songs: row 3: sound must be 2 finite numbers, as they were$"),
        ([[1, 2], [1, 2, 3]], "row 2"),
        ([[1, None], [1, 2]], "row 1"),
        ([[1, 2], [1, float("nan")]], "row 2"),
        ([[1, 2], [1, 1e300]], "row 2"),
        ([[]], "row 1"),
        (["1, 2"], r"^songs: column sound is of type string: give lists of numbers"),
        ([["1"]], "column sound is of type list"),
        ([1.0], "column sound is of type double"),
    ],
)
def test_what_is_no_vector_is_refused(rows, message) -> None:
    with pytest.raises(DataError, match=message):
        vectors_of(pa.chunked_array([rows]), 2, "songs", "sound", "as they were")


def test_ids_are_given_in_any_list() -> None:
    for ids in (["a", 3], pd.Series(["a", "3"]), pa.array(["a", "3"]), np.array(["a", "3"])):
        assert listed_ids(ids, "candidates").to_pylist() == ["a", "3"]
    for wrong, message in (
        ([1.5], "^candidates: id 1 is 1.5"),
        (5, "^candidates: are of type int"),
    ):
        with pytest.raises(DataError, match=message):
            listed_ids(wrong, "candidates")


def test_what_is_neither_table_nor_frame_is_told_apart() -> None:
    assert as_table(["a"], "songs") is None
    table = pa.table({"song_id": ["a"]})
    assert as_table(table, "songs") is table
    assert as_table(table.to_pandas(), "songs").to_pydict() == {"song_id": ["a"]}
