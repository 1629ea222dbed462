"""What is learned of users' taste: factors of the plays, and the network on them."""

from __future__ import annotations

from fusionrec.models.settings import LossName, RankingSettings
from pipelines.config.section import Section, key


class FactorsConfig(Section):
    """Weighted matrix factorisation (Hu et al. 2008), c = 1 + alpha log(1 + plays / epsilon)."""

    factors: int = key(50, "latent factors", ge=1, le=1000)
    alpha: float = key(10.0, "weight of a play count", gt=0)
    epsilon: float = key(1.0, "play count at which its logarithm begins to saturate", gt=0)
    regularisation: float = key(10.0, "lambda of both sides", ge=0)
    iterations: int = key(10, "sweeps of alternating least squares", ge=1)


class TowersConfig(Section):
    """The fusion network on taste instead of classes; the rest of its settings are `train`'s.

    Under `train.patience` it is the validation loss that has not fallen.
    """

    loss: LossName = key(
        "mse",
        "of the network on factors: squared error, van den Oord et al.'s weighted prediction "
        "error, or 1 - cosine",
    )
    epochs: int = key(20, "passes of the two towers over the plays of the training songs", ge=1)
    dimensions: int = key(
        RankingSettings.dimensions, "of the two towers' vectors, without a song's bias", ge=1
    )
    pairs: int = key(RankingSettings.pairs, "plays in a batch of the two towers", ge=2)
    negatives: int = key(
        RankingSettings.negatives, "songs drawn evenly beside those of a batch's plays", ge=1
    )
    history: int = key(
        RankingSettings.history, "songs of a user's history that an example has, at most", ge=1
    )
    cold: float = key(
        RankingSettings.cold,
        "how often a song is learned from without its collaborative vector",
        ge=0,
        le=1,
    )
