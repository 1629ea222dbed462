"""The estimate against the full softmax: over all that can be drawn, and with many draws."""

from itertools import product

import numpy as np
import torch

from fusionrec.models.sampled_softmax import candidates, sampled_softmax

SCORES = torch.tensor([0.3, -1.0, 2.0, 0.9], dtype=torch.float64)
SHARE = np.array([0.5, 0.3, 0.15, 0.05])
SONGS = len(SHARE)
OWN = 2


def loss_of(others: np.ndarray, evenly: np.ndarray, s: torch.Tensor) -> torch.Tensor:
    """Of an example whose positive is `OWN`, in a batch with examples of `others`."""
    positives = np.array([OWN, *others])
    songs, correction = candidates(positives, evenly, SHARE, SONGS)
    scores_BC = s[songs].expand(len(positives), -1)
    columns = torch.from_numpy(np.searchsorted(songs, positives))
    return sampled_softmax(scores_BC, columns, torch.from_numpy(correction).double())[0]


def test_the_estimated_sum_and_its_gradient_are_unbiased() -> None:
    """Over all batches of three examples and two even draws, with the chance of each."""
    mean = torch.zeros(())
    gradient = torch.zeros(SONGS, dtype=torch.float64)
    for first, second, *evenly in product(range(SONGS), repeat=4):
        s = SCORES.clone().requires_grad_()
        chance = SHARE[first] * SHARE[second] / SONGS**2
        total = (loss_of(np.array([first, second]), np.array(evenly), s) + s[OWN]).exp()
        gradient += chance * torch.autograd.grad(total, s)[0]
        mean = mean + chance * total.detach()
    torch.testing.assert_close(float(mean), float(SCORES.exp().sum()), rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, SCORES.exp(), rtol=1e-6, atol=0)


def test_with_many_draws_its_gradient_is_the_full_softmaxs() -> None:
    rng = np.random.default_rng(0)
    others = rng.choice(SONGS, 20_000, p=SHARE)
    evenly = rng.choice(SONGS, 5_000)
    s = SCORES.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss_of(others, evenly, s), s)
    expected = SCORES.softmax(0)
    expected[OWN] -= 1
    torch.testing.assert_close(found, expected, rtol=0, atol=0.005)
    # As they were drawn, songs that are played often are pushed down.
    drawn = np.concatenate([others, evenly])
    raw = SCORES.exp() * torch.from_numpy(np.bincount(drawn[drawn != OWN], minlength=SONGS))
    raw[OWN] = SCORES[OWN].exp()
    assert float((raw / raw.sum() - SCORES.softmax(0)).abs().max()) > 0.1


def test_an_example_without_another_candidate_costs_nothing() -> None:
    loss = loss_of(np.array([OWN]), np.array([OWN, OWN]), SCORES)
    assert float(loss) == 0
