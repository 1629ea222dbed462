"""Lists of two sets of candidates merged, against a ranking of all of them at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionrec.ranking.limited import TopLists, rank_limited
from fusionrec.ranking.merging import merged, merged_limited, padded
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users


def lists(V: np.ndarray, F: np.ndarray, k: int, heard: list[list[int]], start: int) -> TopLists:
    """The best K of these songs, whose columns count from `start`."""
    here = [sorted(s - start for s in of if start <= s < start + len(F)) for of in heard]
    sizes = [len(of) for of in here]
    columns = np.array([song for of in here for song in of], np.int32)
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    exclude = SongLists(indptr, columns, np.ones(len(columns), np.int64))
    found = TopLists.of(rank_users(V, F, k, exclude=exclude))
    moved = np.where(found.indices < 0, -1, found.indices + start).astype(np.int32)
    return TopLists(moved, found.scores, found.counts)


@pytest.mark.parametrize(("songs", "new", "k"), [(40, 7, 10), (5, 3, 10), (30, 30, 12), (9, 1, 9)])
def test_it_is_the_ranking_of_all_with_many_ties(songs, new, k) -> None:
    rng = np.random.default_rng(songs)
    V = rng.integers(0, 3, (25, 2)).astype(np.float32)
    F = rng.integers(0, 3, (songs + new, 2)).astype(np.float32)  # so that most scores are equal
    heard = [rng.choice(songs + new, rng.integers(0, songs + 1), False).tolist() for _ in V]
    first = lists(V, F[:songs], k, heard, 0)
    second = lists(V, F[songs:], min(k, new), heard, songs)
    found = merged(first, second, k)
    scores = V @ F.T
    for user, of in enumerate(heard):
        left = [song for song in range(songs + new) if song not in of]
        best = sorted(left, key=lambda song: (-scores[user, song], song))[:k]
        count = found.counts[user]
        assert found.indices[user, :count].tolist() == best
        np.testing.assert_array_equal(found.scores[user, :count], scores[user, best])
        assert (found.indices[user, count:] == -1).all()
        assert np.isnan(found.scores[user, count:]).all()


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_with_a_limit_it_is_that_of_going_through_all_songs(data) -> None:
    """Whole numbers, so that products are exact and most of them tie."""
    counts = [data.draw(st.integers(1, 30)) for _ in range(2)]
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    k, most = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 3))
    V = rng.integers(-1, 3, (4, 2)).astype(np.float32)
    F = rng.integers(0, 3, (sum(counts), 2)).astype(np.float32)
    groups = rng.integers(0, data.draw(st.integers(1, 15)), len(F))
    heard = rng.random((len(V), len(F))) < 0.2
    each = []
    for start, stop in ((0, counts[0]), (counts[0], len(F))):
        user, song = np.nonzero(heard[:, start:stop])
        plays = np.ones(len(user), np.int32)
        exclude = SongLists.of_plays(user.astype(np.int32), song.astype(np.int32), plays, len(V))
        rows = F[start:stop]
        found = rank_limited(
            lambda some, depth, rows=rows, exclude=exclude: rank_users(
                V[some], rows, depth, exclude=exclude.of(np.isin(np.arange(len(V)), some))
            ),
            exclude,
            k,
            groups=groups[start:stop],
            most=most,
        )
        moved = np.where(found.indices < 0, -1, found.indices + start).astype(np.int32)
        each.append(TopLists(moved, found.scores, found.counts))
    both = merged_limited(each[0], each[1], k, groups, most)
    scores = V @ F.T
    for user in range(len(V)):
        best: list[int] = []
        left = np.flatnonzero(~heard[user]).tolist()
        for song in sorted(left, key=lambda song: (-scores[user, song], song)):
            if sum(groups[other] == groups[song] for other in best) < most and len(best) < k:
                best.append(song)
        assert both.indices[user, : both.counts[user]].tolist() == best
        assert (both.indices[user, len(best) :] == -1).all()
        np.testing.assert_array_equal(both.scores[user, : len(best)], scores[user, best])


def test_lists_that_lie_one_after_the_other_become_rows() -> None:
    found = padded(np.array([2, 0, 3]), np.array([5, 4, 9, 8, 7], np.float32), 3)
    assert found.indices.tolist() == [[0, 1, -1], [-1, -1, -1], [2, 3, 4]]
    np.testing.assert_array_equal(
        found.scores, np.array([[5, 4, np.nan], [np.nan] * 3, [9, 8, 7]], np.float32)
    )
    assert found.counts.tolist() == [2, 0, 3]
