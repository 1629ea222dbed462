"""Lists of two sets of candidates merged, against a ranking of all of them at once."""

import numpy as np
import pytest

from fusionrec.ranking.limited import TopLists
from fusionrec.ranking.merging import merged, padded
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


def test_lists_that_lie_one_after_the_other_become_rows() -> None:
    found = padded(np.array([2, 0, 3]), np.array([5, 4, 9, 8, 7], np.float32), 3)
    assert found.indices.tolist() == [[0, 1, -1], [-1, -1, -1], [2, 3, 4]]
    np.testing.assert_array_equal(
        found.scores, np.array([[5, 4, np.nan], [np.nan] * 3, [9, 8, 7]], np.float32)
    )
    assert found.counts.tolist() == [2, 0, 3]
