"""Names of songs as rows of tables: who has a row, who shares one, and what is unknown."""

import numpy as np
import pyarrow as pa
import pytest

from fusionrec.models.categories import UNKNOWN, Categories, categories, singles


def rows_of(found: Categories, song: int) -> dict[int, float]:
    """A song's rows with their shares, those of one row added up."""
    shares: dict[int, float] = {}
    for entry in range(found.indptr[song], found.indptr[song + 1]):
        row = int(found.rows[entry])
        shares[row] = shares.get(row, 0.0) + float(found.shares[entry])
    return shares


def test_one_name_is_one_row_and_what_no_training_song_has_is_unknown() -> None:
    names = singles(pa.array(["b", "a", "b", None, "", "c", "a"]))
    found = categories(names, train=np.array([0, 1, 2, 3]), most=100, seed=0)
    assert found.size == 3
    # The more frequent one comes first.
    assert [rows_of(found, song) for song in range(7)] == [
        {1: 1.0},
        {2: 1.0},
        {1: 1.0},
        {UNKNOWN: 1.0},
        {UNKNOWN: 1.0},
        {UNKNOWN: 1.0},
        {2: 1.0},
    ]


def test_tags_count_by_their_votes() -> None:
    tags = pa.array([["x", "y"], ["x", "z"], ["z"], None, [], ["y", "x"], ["x", "y"]])
    votes = pa.array([[3, 1], [1, 5], [2], None, [], [0, 0], [1]])
    found = categories(tags, votes, train=np.array([0, 3]), most=100, seed=0)
    row = {share: row for row, share in rows_of(found, 0).items()}
    x, y = row[0.75], row[0.25]
    assert rows_of(found, 1) == {x: 1.0}  # z is no training song's
    assert [rows_of(found, song) for song in (2, 3, 4)] == [{UNKNOWN: 1.0}] * 3
    assert rows_of(found, 5) == {x: 0.5, y: 0.5}  # no votes
    assert rows_of(found, 6) == {x: 0.5, y: 0.5}  # as many votes as tags it has not
    without = categories(tags, train=np.array([0, 3]), most=100, seed=0)
    assert rows_of(without, 0) == {x: 0.5, y: 0.5}


@pytest.mark.parametrize("most", [2, 3, 11, 40])
def test_rare_names_share_rows_where_there_are_more_names_than_rows(most: int) -> None:
    names = [f"artist {i}" for i in range(40) for _ in range(40 - i)]
    column = pa.array(names)
    everything = np.arange(len(names))
    found = categories(singles(column), train=everything, most=most, seed=0)
    assert found.size == most
    own = (most - 1) // 2
    first = {name: found.rows[names.index(name)] for name in names}
    assert [first[f"artist {i}"] for i in range(own)] == list(range(1, own + 1))
    shared = {first[f"artist {i}"] for i in range(own, 40)}
    assert min(shared) > own
    assert max(shared) < most
    if most == 40:
        assert len(shared) > 10
    # A name is one row, wherever it stands.
    assert all(found.rows[song] == first[name] for song, name in enumerate(names))
    backwards = categories(singles(column[::-1]), train=everything, most=most, seed=0)
    np.testing.assert_array_equal(backwards.rows[::-1], found.rows)


def test_no_song_has_any_name() -> None:
    found = categories(pa.nulls(3, pa.list_(pa.string())), train=np.arange(3), most=9, seed=0)
    assert (found.size, found.rows.tolist(), found.shares.tolist()) == (1, [0, 0, 0], [1, 1, 1])
