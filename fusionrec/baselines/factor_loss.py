"""What it costs to predict a song's latent factors wrongly (van den Oord et al. 2013, section 4).

Shapes: B songs in a batch, F factors, U users, L pairs of a song of the batch and a user who
listened to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusionrec.models.settings import LossName

Floats = NDArray[np.float32]
Rows = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Feedback:
    """Who listened to each song, for the weighted prediction error.

    Attributes
    ----------
    X
        User factors, float32, shape (U, F).
    indptr, users
        Song i was listened to by the rows `users[indptr[i]:indptr[i + 1]]` of `X`.
    confidence
        c_ui, float32, like `users`; it is 1 for all other pairs.
    """

    X: Floats
    indptr: NDArray[np.int64]
    users: Rows
    confidence: Floats

    def of(self, rows: Rows) -> tuple[NDArray[np.int64], Rows, Floats]:
        """`indptr`, `users` and `confidence` of some of the songs."""
        sizes = np.diff(self.indptr)[rows]
        indptr = np.concatenate([[0], np.cumsum(sizes)])
        where = np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], sizes)
        return indptr, self.users[where], self.confidence[where]


def weighted_prediction_error(
    y_BF: Tensor, gram_FF: Tensor, indptr: Tensor, users: Tensor, confidence: Tensor, X_UF: Tensor
) -> Tensor:
    """Sum over all users u of c_ui (p_ui - x_u . y_i)^2, for each song i, exactly.

    p_ui is 1 and c_ui given for the users who listened to the song; for all others they are 0
    and 1, so that their terms are those of y' X'X y, less the listeners' own: the cost is
    that of the listeners, not of all users (Hu et al. 2008 save their sweeps the same way).

    Parameters
    ----------
    y_BF
        Factors of the songs; the result can be differentiated by them.
    gram_FF
        X'X.
    indptr, users, confidence
        Int64 (B + 1,), int64 (L,) and float (L,): song i's listeners are the rows
        `users[indptr[i]:indptr[i + 1]]` of `X_UF`.
    X_UF
        User factors.

    Returns
    -------
    Tensor
        Shape (B,), of the type of `y_BF`.
    """
    sizes = indptr.diff()
    song_L = torch.repeat_interleave(torch.arange(len(y_BF), device=y_BF.device), sizes)
    score_L = (X_UF[users] * y_BF.index_select(0, song_L)).sum(dim=1)
    listeners_L = confidence * (1.0 - score_L).square() - score_L.square()
    everyone_B = ((y_BF @ gram_FF) * y_BF).sum(dim=1)
    return everyone_B.index_add(0, song_L, listeners_L)


def scale_of(targets: Floats) -> float:
    """Root mean square of targets: the unit in which a network predicts them."""
    return float(np.sqrt(np.square(targets, dtype=np.float64).mean()))


class FactorLoss:
    """The loss of each song of a batch, about 1 for a prediction that knows nothing.

    `mse` is the squared distance and `wpe` the weighted prediction error, each over what
    predicting 0 costs the mean training song. `cosine` is 1 - cos(prediction, target): it learns
    directions, and says nothing of lengths.

    Parameters
    ----------
    targets
        Float32, shape (n, F): factors of all songs.
    scale
        The unit of the predictions.
    feedback
        Of the n songs; for `wpe`.
    train
        The training songs.

    Raises
    ------
    ValueError
        `wpe` without `feedback`.
    """

    def __init__(
        self,
        loss: LossName,
        targets: Floats,
        scale: float,
        feedback: Feedback | None,
        train: Rows,
        device: str = "cpu",
    ) -> None:
        self.loss, self.targets, self.scale, self.device = loss, targets, scale, device
        if loss != "wpe":
            return
        if feedback is None:
            raise ValueError("the weighted prediction error needs feedback")
        self.feedback = feedback
        X = feedback.X.astype(np.float64)
        self.gram_FF = torch.from_numpy((X.T @ X).astype(np.float32)).to(device)
        self.X_UF = torch.tensor(feedback.X, dtype=torch.float32, device=device)
        self.of_zero = float(feedback.of(train)[2].sum(dtype=np.float64)) / len(train)

    def __call__(self, y_BF: Tensor, rows: Rows) -> Tensor:
        """Losses, shape (B,), of predictions of the songs `rows`, in units of `scale`."""
        if self.loss != "wpe":
            target_BF = torch.from_numpy(self.targets[rows] / np.float32(self.scale))
            target_BF = target_BF.to(self.device)
            if self.loss == "cosine":
                return 1 - nn.functional.cosine_similarity(y_BF, target_BF, dim=1)
            return (y_BF - target_BF).square().mean(dim=1)
        indptr, users, confidence = (
            torch.from_numpy(x).to(self.device) for x in self.feedback.of(rows)
        )
        listened = indptr, users, confidence.to(y_BF)
        y_BF = y_BF * self.scale
        gram_FF = self.gram_FF.to(y_BF)
        return weighted_prediction_error(y_BF, gram_FF, *listened, self.X_UF) / self.of_zero
