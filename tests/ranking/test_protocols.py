"""Protocols: what is hidden, that it stays hidden, and that shards do not matter."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionrec.errors import ConfigError
from fusionrec.ranking.protocols import (
    NO_PROFILE,
    NO_RELEVANT,
    EvaluatedUsers,
    SongLists,
    candidate_songs,
    profiles_and_relevant,
)

CATALOGUE = 30
PART = np.array((["train"] * 3 + ["validation"] + ["test"] * 5 + ["none"]) * 3, dtype=object)
USABLE = np.arange(CATALOGUE) % 7 != 6
USER_IDS = [f"user{u}" for u in range(20)]
SONG_IDS = [f"SO{s:02d}" for s in range(CATALOGUE)]

Rows = list[tuple[int, int, int]]
rows_of_plays = st.lists(
    st.tuples(st.integers(0, 19), st.integers(0, CATALOGUE - 1), st.integers(1, 50)), max_size=150
)
protocols = st.sampled_from(["heldout", "oord", "paper"])


def divide(rows: Rows, protocol: str, seed: int = 0, **changes: object) -> EvaluatedUsers:
    table = np.array(sorted(rows), dtype=np.int32).reshape(-1, 3)
    usual: dict[str, Any] = {
        "part": PART,
        "usable": USABLE,
        "protocol": protocol,
        "user_ids": USER_IDS,
        "song_ids": SONG_IDS,
        "seed": seed,
    }
    return profiles_and_relevant(*table.T, **{**usual, **changes})


def as_sets(users: EvaluatedUsers) -> dict[int, tuple[dict[int, int], set[int]]]:
    result = {}
    for row, user in enumerate(users.users.tolist()):
        h = slice(users.profiles.indptr[row], users.profiles.indptr[row + 1])
        r = slice(users.relevant.indptr[row], users.relevant.indptr[row + 1])
        result[user] = (
            dict(
                zip(users.profiles.songs[h].tolist(), users.profiles.plays[h].tolist(), strict=True)
            ),
            set(users.relevant.songs[r].tolist()),
        )
    return result


@settings(max_examples=100, deadline=None)
@given(rows=rows_of_plays, protocol=protocols, seed=st.integers(0, 50))
def test_definition(rows: Rows, protocol: str, seed: int) -> None:
    users = divide(rows, protocol, seed)
    found = as_sets(users)
    plays: dict[int, dict[int, int]] = {}
    for user, song, count in rows:
        mine = plays.setdefault(user, {})
        mine[song] = mine.get(song, 0) + count
    without: dict[str, list[int]] = {NO_PROFILE: [], NO_RELEVANT: []}
    for user, mine in sorted(plays.items()):
        test = {s for s in mine if PART[s] == "test"}
        if user not in found:
            usable = {s for s in mine if USABLE[s]}
            if protocol == "oord":
                fitted = {s for s in usable if PART[s] in ("train", "validation")}
                assert not fitted or not usable & test
                without[NO_RELEVANT if fitted else NO_PROFILE].append(user)
            continue
        profile, relevant = found[user]
        assert profile
        assert relevant
        assert not set(profile) & relevant
        assert relevant <= test
        assert all(USABLE[s] for s in set(profile) | relevant)
        assert all(profile[s] == mine[s] for s in profile)
        if protocol == "oord":
            assert relevant == {s for s in test if USABLE[s]}
            fitted = {s for s in mine if PART[s] in ("train", "validation") and USABLE[s]}
            assert set(profile) == fitted
        else:
            assert set(profile) | relevant == {s for s in test if USABLE[s]}
    assert sum(users.left_out.values()) == len(plays) - len(found)
    told = {reason: codes.tolist() for reason, codes in users.without.items()}
    assert sorted(chain.from_iterable(told.values())) == sorted(set(plays) - set(found))
    if protocol == "oord":
        assert told == without
    considered = ("test",) if protocol != "oord" else ("test", "train", "validation")
    pairs = [s for mine in plays.values() for s in mine]
    assert users.without_vector == sum(PART[s] in considered and not USABLE[s] for s in pairs)
    assert users.outside_split == sum(PART[s] == "none" for s in pairs)


@pytest.mark.parametrize(("size", "visible"), [(2, 1), (3, 2), (4, 2), (7, 4)])
def test_halves(size: int, visible: int) -> None:
    test_songs = np.flatnonzero(PART == "test")[:size]
    users = divide(
        [(0, int(s), 1) for s in test_songs], "heldout", usable=np.ones(CATALOGUE, dtype=bool)
    )
    assert len(users.profiles.songs) == visible
    assert len(users.relevant.songs) == size - visible


def test_left_out_and_why() -> None:
    rows = [(0, 0, 1), (1, 4, 5), (2, 4, 1), (2, 5, 1)]  # song 0 train, 4 and 5 test
    users = divide(rows, "heldout")
    assert users.users.tolist() == [2]
    assert users.left_out == {NO_PROFILE: 1, NO_RELEVANT: 1}
    users = divide([*rows, (2, 0, 1)], "oord")
    assert users.users.tolist() == [2]
    assert users.left_out == {NO_PROFILE: 1, NO_RELEVANT: 1}


def test_nobody_left_is_no_error() -> None:
    users = divide([], "heldout")
    assert len(users.users) == 0
    assert users.profiles.indptr.tolist() == [0]


def test_duplicate_rows_add_up() -> None:
    users = divide([(0, 0, 2), (0, 4, 1), (0, 0, 5)], "oord")
    assert as_sets(users) == {0: ({0: 7}, {4})}


@settings(max_examples=30, deadline=None)
@given(rows=rows_of_plays, protocol=protocols, cut=st.integers(0, 20))
def test_shards_row_order_and_codes_do_not_matter(rows: Rows, protocol: str, cut: int) -> None:
    whole = divide(rows, protocol)
    first = divide([r for r in rows if r[0] < cut], protocol)
    second = divide([r for r in rows if r[0] >= cut], protocol)
    assert as_sets(whole) == {**as_sets(first), **as_sets(second)}
    assert whole.left_out == {k: first.left_out[k] + second.left_out[k] for k in whole.left_out}

    # Users are coded the other way round: ids, not codes, decide what is hidden.
    backwards = divide(
        [(19 - u, s, c) for u, s, c in rows], protocol, user_ids=pa.array(USER_IDS[::-1])
    )
    assert as_sets(whole) == {19 - u: sets for u, sets in as_sets(backwards).items()}


def test_the_seed_and_the_user_decide_what_is_hidden() -> None:
    rows = [(u, int(s), 1) for u in range(20) for s in np.flatnonzero(PART == "test")]
    hidden = {u: frozenset(r) for u, (_, r) in as_sets(divide(rows, "heldout")).items()}
    other = {u: frozenset(r) for u, (_, r) in as_sets(divide(rows, "heldout", seed=1)).items()}
    assert len(set(hidden.values())) > 10
    assert sum(hidden[u] != other[u] for u in hidden) > 10
    assert as_sets(divide(rows, "paper")) == as_sets(divide(rows, "heldout"))


def test_what_is_hidden_does_not_depend_on_the_features() -> None:
    rows = [(u, int(s), 1) for u in range(20) for s in np.flatnonzero(PART == "test")]
    everything = as_sets(divide(rows, "heldout", usable=np.ones(CATALOGUE, dtype=bool)))
    for user, (profile, relevant) in as_sets(divide(rows, "heldout")).items():
        assert set(profile) <= set(everything[user][0])
        assert relevant <= everything[user][1]


def test_candidates_and_columns() -> None:
    candidates = candidate_songs(PART, USABLE)
    assert candidates.tolist() == [s for s in range(CATALOGUE) if PART[s] == "test" and s % 7 != 6]
    lists = SongLists(
        np.array([0, 2, 2, 4]),
        np.array([0, candidates[1], candidates[0], candidates[-1]], dtype=np.int32),
        np.array([9, 8, 7, 6]),
    )
    columns = lists.to_columns(candidates, CATALOGUE)
    assert columns.indptr.tolist() == [0, 1, 1, 3]
    assert columns.songs.tolist() == [1, 0, len(candidates) - 1]
    assert columns.plays.tolist() == [8, 7, 6]


def test_unknown_protocol_is_named() -> None:
    with pytest.raises(ConfigError, match=r"recommend\.protocol"):
        divide([], "loo")


def test_some_of_the_users_keep_their_songs() -> None:
    rows = [(u, s, u + s + 1) for u in range(6) for s in range(CATALOGUE) if (u * s) % 4 == 0]
    whole = divide(rows, "oord")
    assert len(whole.users) > 2
    kept = np.arange(len(whole.users)) % 2 == 1
    some = whole.of(kept)
    np.testing.assert_array_equal(some.users, whole.users[kept])
    for name in ("profiles", "relevant"):
        before, after = getattr(whole, name), getattr(some, name)
        for place, row in enumerate(np.flatnonzero(kept)):
            cells = slice(before.indptr[row], before.indptr[row + 1])
            here = slice(after.indptr[place], after.indptr[place + 1])
            np.testing.assert_array_equal(after.songs[here], before.songs[cells])
            np.testing.assert_array_equal(after.plays[here], before.plays[cells])
    assert some.left_out == whole.left_out


def test_all_that_users_played_is_a_row_a_user() -> None:
    """Also of who played nothing; what is said twice is added up."""
    users, songs, plays = (
        np.array(x, np.int32) for x in ([2, 0, 2, 2], [5, 1, 3, 5], [1, 4, 2, 6])
    )
    found = SongLists.of_plays(users, songs, plays, 4)
    assert found.indptr.tolist() == [0, 1, 1, 3, 3]
    assert found.sizes.tolist() == [1, 0, 2, 0]
    assert found.songs.tolist() == [1, 3, 5]
    assert found.plays.tolist() == [4, 2, 7]
    some = found.where(found.songs != 3)
    assert some.indptr.tolist() == [0, 1, 1, 2, 2]
    assert some.songs.tolist() == [1, 5]
