"""Lists with few songs of a group, against going through all candidates one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionrec.ranking import limited
from fusionrec.ranking.limited import most_songs, rank_limited
from fusionrec.ranking.lists import RankedLists
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users


def excluded(rows: list[list[int]]) -> SongLists:
    songs = np.array([song for row in rows for song in row], np.int32)
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return SongLists(indptr, songs, np.ones(len(songs), np.int64))


def by_hand(scores: np.ndarray, out: list[int], groups: np.ndarray, k: int, most: int) -> list[int]:
    """One user's: the best first, of equal ones the smaller column."""
    found: list[int] = []
    for song in sorted(range(len(scores)), key=lambda song: (-scores[song], song)):
        full = sum(groups[other] == groups[song] for other in found) >= most
        if len(found) < k and not full and song not in out:
            found.append(song)
    return found


def check(
    V: np.ndarray, F: np.ndarray, rows: list[list[int]], groups: np.ndarray, k: int, most: int
) -> list[int]:
    exclude, depths = excluded(rows), []

    def rank(some: np.ndarray, depth: int) -> RankedLists:
        depths.append(depth)
        own = excluded([rows[user] for user in some])
        return rank_users(V[some], F, depth, exclude=own)

    found = rank_limited(rank, exclude, k, groups=groups, most=most)
    scores = V @ F.T
    for user, out in enumerate(rows):
        expected = by_hand(scores[user], out, groups, k, most)
        assert found.indices[user, : found.counts[user]].tolist() == expected
        assert (found.indices[user, found.counts[user] :] == -1).all()
        assert found.scores[user, : len(expected)].tolist() == scores[user, expected].tolist()
        assert np.isnan(found.scores[user, len(expected) :]).all()
        most_allowed = most_songs(exclude, groups, most)[user]
        assert len(expected) == min(k, most_allowed)
    return depths


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_lists_are_those_of_going_through_all_songs(data) -> None:
    """Whole numbers, so that products are exact and most of them tie."""
    songs, users = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    F = rng.integers(0, 3, (songs, 2)).astype(np.float32)
    V = rng.integers(-1, 2, (users, 2)).astype(np.float32)
    groups = rng.integers(0, data.draw(st.integers(1, 12)), songs)
    rows = [np.flatnonzero(rng.random(songs) < 0.3).tolist() for _ in range(users)]
    k, most = data.draw(st.integers(1, songs + 3)), data.draw(st.integers(1, 4))
    check(V, F, rows, groups, k, most)


@pytest.mark.parametrize("at_once", [1, 1 << 23])
def test_only_who_needs_it_is_ranked_deeper(monkeypatch, at_once) -> None:
    """The first user's best songs are all of one artist, the other's of many."""
    monkeypatch.setattr(limited, "_RANKED_AT_ONCE", at_once)
    monkeypatch.setattr(limited, "_LIMITED_AT_ONCE", at_once)
    songs = 64
    F = np.stack([np.arange(songs)[::-1], np.arange(songs)], axis=1).astype(np.float32)
    V = np.eye(2, dtype=np.float32)
    groups = np.concatenate([np.zeros(50, int), np.arange(1, 15)])
    depths = check(V, F, [[], [3]], groups, 4, 1)
    assert depths == ([8, 8, 16, 32, 64] if at_once == 1 else [8, 16, 32, 64])


def test_who_can_have_no_more_is_not_ranked_again() -> None:
    """Two artists, one song each: a list of ten cannot be, and two songs are found at once."""
    rng = np.random.default_rng(0)
    F, V = rng.normal(size=(200, 3)), rng.normal(size=(3, 3))
    groups = np.arange(200) % 2
    F, V = (np.round(X * 4).astype(np.float32) for X in (F, V))
    assert check(V, F, [[], [0], list(range(200))], groups, 10, 1) == [20]
