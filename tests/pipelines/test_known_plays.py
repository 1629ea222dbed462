"""The plays that are learned from: what is told of one song in many rows."""

import numpy as np
import pandas as pd
import pyarrow as pa

from fusionrec import schemas
from pipelines import known_plays


def table(users: list[int], songs: list[int], plays: list[int]) -> pa.Table:
    return pa.table({"user": users, "song": songs, "plays": plays}, schema=schemas.PLAYS)


def test_a_song_heard_in_many_rows_is_one_play_of_their_sum() -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.integers(0, 6, (200, 3)), columns=schemas.PLAYS.names)
    rows = rows.sort_values(["user", "song"], kind="stable")
    wanted = rows.groupby(["user", "song"], as_index=False)["plays"].sum()
    found = known_plays._once(table(*(rows[name].tolist() for name in rows)))
    assert found.schema == schemas.PLAYS
    assert found.to_pydict() == wanted.to_dict("list")


def test_plays_that_are_told_once_are_left_as_they_are() -> None:
    plays = table([0, 0, 1], [1, 2, 1], [3, 4, 5])
    assert known_plays._once(plays) is plays
    none = schemas.PLAYS.empty_table()
    assert known_plays._once(none) is none


def test_a_sum_that_no_column_can_hold_is_the_most_that_it_can() -> None:
    most = 2**31 - 1
    assert known_plays._once(table([0, 0], [1, 1], [most, most]))["plays"].to_pylist() == [most]
