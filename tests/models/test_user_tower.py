"""Histories and their attention against plain loops."""

import numpy as np
import torch
from scipy.sparse import csr_array

from fusionrec.models.user_tower import Attention, Played, histories

COUNTS = csr_array(
    np.array([[1, 0, 4, 2, 0], [0, 7, 0, 0, 0], [0, 0, 0, 0, 0], [3, 1, 1, 9, 2]], np.float32)
)
V = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def pooled(attention: Attention, played: Played) -> torch.Tensor:
    weights, owner = torch.from_numpy(played.weights), torch.from_numpy(played.owner)
    return attention(V[torch.from_numpy(played.songs)], weights, owner, played.users)


def trained() -> Attention:
    attention = Attention(3)
    with torch.no_grad():
        attention.query += torch.tensor([1.0, -2.0, 0.5])
        attention.slope += 0.7
    return attention


def test_a_history_of_one_song_is_that_song() -> None:
    torch.testing.assert_close(pooled(trained(), histories(COUNTS, np.array([1])))[0], V[1])


def test_it_begins_as_the_mean_weighted_by_log_plays() -> None:
    users = np.array([0, 3])
    found = pooled(Attention(3), histories(COUNTS, users))
    w = torch.from_numpy(np.log1p(COUNTS.toarray()[users]))
    torch.testing.assert_close(found, w @ V / w.sum(1, keepdim=True))


def test_attention_is_a_softmax_over_each_history() -> None:
    attention, users = trained(), np.array([3, 0, 2, 3, 1])
    found = pooled(attention, histories(COUNTS, users))
    for row, user in enumerate(users):
        songs = np.flatnonzero(COUNTS.toarray()[user])
        if not len(songs):
            assert not found[row].any()
            continue
        logs = torch.from_numpy(np.log(np.log1p(COUNTS.toarray()[user, songs])))
        weights = (V[songs] @ attention.query / 3**0.5 + attention.slope * logs).softmax(0)
        torch.testing.assert_close(found[row], weights @ V[songs])


def test_large_scores_do_not_overflow() -> None:
    attention = trained()
    with torch.no_grad():
        attention.query *= 1e4
    assert pooled(attention, histories(COUNTS, np.arange(4))).isfinite().all()


def test_an_example_does_not_have_its_own_song_in_its_history() -> None:
    users, own = np.array([0, 3, 3, 1]), np.array([2, 0, 4, 1])
    found = histories(COUNTS, users, without=own)
    each = [found.songs[found.owner == row].tolist() for row in range(4)]
    assert each == [[0, 3], [1, 2, 3, 4], [0, 1, 2, 3], []]
    np.testing.assert_allclose(found.weights[:2], np.log1p([1, 2]), rtol=1e-6)


def test_of_a_long_history_some_songs_are_drawn_each_as_often() -> None:
    rng = np.random.default_rng(0)
    users = np.array([3] * 2000 + [0])
    found = histories(COUNTS, users, most=3, rng=rng)
    assert (np.bincount(found.owner) == 3).all()
    drawn = np.bincount(found.songs[found.owner < 2000], minlength=5)
    np.testing.assert_allclose(drawn / 2000, 0.6, atol=0.05)
    assert found.songs[found.owner == 2000].tolist() == [0, 2, 3]
    # Weights stay with their songs.
    expected = np.log1p(COUNTS.toarray()[users[found.owner], found.songs])
    np.testing.assert_allclose(found.weights, expected, rtol=1e-6)
