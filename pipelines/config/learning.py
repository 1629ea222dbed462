"""Training the network, and the search of its settings."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from fusionrec.models.settings import Settings
from pipelines.config.section import Gpus, Section
from pipelines.config.section import key as _key
from pipelines.config.taste import FactorsConfig, TowersConfig

SONGS_A_THREAD = 64
"""Fewer songs of a batch do not keep a thread at work: products of them are too small."""

Objective = Literal["genre", "factors", "ranking"]


class TrainConfig(Section):
    """The fusion network's training (paper 5.3, Table 1)."""

    objective: Objective = _key(
        "genre",
        "what the network learns: the songs' classes (`genre`, the paper's), latent factors of "
        "the plays (`factors`), or, as the song tower of two, to rank what users play (`ranking`)",
    )
    workers: int = _key(
        1, "Ray Train data-parallel workers; 0 trains in one task without Ray Train", ge=0
    )
    threads: int | None = _key(
        1,
        "cores of one worker, which Ray keeps for it; null for its share of a node's, but one a "
        f"{SONGS_A_THREAD} songs of its share of a batch, and one beside a GPU. Where there are "
        "more than 1, features that are streamed need one core beside them. In float64 the "
        "number changes the result by less than 1e-5, as that of the workers does",
        ge=1,
    )
    num_gpus: Gpus = _key(
        "auto",
        "GPUs of one worker; auto: one each where the cluster has or may bring as many as there "
        "are workers; 0 trains on CPUs",
    )
    epochs: int = _key(Settings.epochs, "passes over the training songs (the paper: 2,000)", ge=1)
    batch_size: int = _key(Settings.batch_size, "songs in a batch, over all workers", ge=2)
    evaluate_every: int | None = _key(
        Settings.evaluate_every,
        "epochs from one evaluation to the next; null for about 100 a run",
        ge=1,
    )
    checkpoint_every: int | None = _key(
        None, "epochs from one checkpoint to the next; null for about 20 a run", ge=1
    )
    eta: float = _key(Settings.eta, "Adam's learning rate", gt=0, le=1)
    eta_batch: int | None = _key(
        Settings.eta_batch,
        "songs of the batch that eta is meant for: with train.batch_size it then grows as the "
        "square root, eta * (batch_size / eta_batch)^0.5, over the first five epochs (a tenth of "
        "them where that is fewer); null for eta whatever the batch, as in the paper. Objective "
        "ranking has other batches, and leaves it out",
        ge=2,
    )
    p: float = _key(Settings.p, "dropout probability", ge=0, lt=1)
    modality_dropout: float = _key(
        Settings.modality_dropout,
        "how often a modality that a song has is left out in training, though never all of a "
        "song's: 76 % of the full data's tracks have no lyrics, and the network learns to do "
        "without what others have. Where PCA is fitted for each modality: fuse.missing: learned, "
        "or a fuse.operator other than concatenate",
        ge=0,
        le=1,
    )
    class_weights: bool = _key(
        Settings.class_weights, "weigh the cross-entropy by inverse class frequency"
    )
    label_smoothing: float = _key(
        Settings.label_smoothing, "share of a label spread over all classes", ge=0, lt=1
    )
    weight_decay: float = _key(
        Settings.weight_decay, "decoupled weight decay (AdamW); 0 is plain Adam", ge=0
    )
    norm_group: int | None = _key(
        Settings.norm_group,
        "songs whose moments batch normalisation shares; null for the whole batch, which makes "
        "the workers wait for each other at every layer",
        ge=2,
    )
    schedule: Literal["constant", "cosine"] = _key(
        Settings.schedule, "eta over the epochs; cosine falls from eta to almost 0"
    )
    patience: int | None = _key(
        Settings.patience,
        "stop when validation accuracy has not risen for so many epochs (under objectives other "
        "than genre: the validation loss fallen), and keep the best network; null trains all "
        "epochs and keeps the last",
        ge=1,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = _key(
        Settings.dtype,
        "precision; auto: mixed with bfloat16 on a GPU, float32 on a CPU. In float64 the number "
        "of workers changes the result by less than 1e-5; in float32 Adam amplifies rounding",
    )
    in_memory_mb: int = _key(
        4096,
        "features up to this size are held by each worker; larger ones are streamed from the "
        "workspace by Ray Data, under `genre`, and refused under the other objectives",
        ge=0,
    )
    wmf: FactorsConfig = FactorsConfig()
    towers: TowersConfig = TowersConfig()


class Range(Section):
    """An interval to search."""

    low: float = _key(0.0, "smallest value")
    high: float = _key(1.0, "largest value")
    log: bool = _key(False, "sample its logarithm evenly")

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 where log is set")
        return self


SEARCHABLE = (
    "label.k",
    "label.embedding",
    "embed.lyrics.words",
    "fuse.operator",
    "train.eta",
    "train.p",
    "train.batch_size",
)
"""The keys `tune.space` may name."""


class TuneConfig(Section):
    """The search for hyperparameters by Ray Tune (paper 5.3, Table 1)."""

    space: dict[str, Range | tuple[int | float | str, ...]] = _key(
        {
            "label.k": (3, 4, 6, 8, 13),
            "train.eta": Range(low=1e-4, high=1e-2, log=True),
            "train.p": Range(low=0.0, high=0.6),
        },
        "what is searched: a key and a list of values, or an interval {low, high, log} for "
        "train.eta and train.p; also label.embedding, embed.lyrics.words, fuse.operator and "
        "train.batch_size",
        min_length=1,
    )
    trials: int = _key(20, "configurations that are tried", ge=1)
    metric: Literal["map", "accuracy"] = _key(
        "map", "what is maximised on the validation songs: mAP@500, or accuracy over the k classes"
    )
    search: Literal["random", "optuna"] = _key("random", "how configurations are chosen")
    scheduler: Literal["asha", "none"] = _key(
        "asha", "asha stops the worse trials early; none trains all to the end"
    )
    reports: int = _key(10, "times a trial is evaluated", ge=1)
    reduction: float = _key(3.0, "asha keeps one in so many trials from rung to rung", gt=1)
    grace: float = _key(0.2, "share of the epochs no trial is stopped before", gt=0, le=1)
    users: int = _key(20_000, "users whose validation songs give the mAP, chosen by hash", ge=1)
    num_gpus: Gpus = _key(
        "auto",
        "GPUs of one trial; auto: 0.25, so that four share a GPU, where the cluster has or may "
        "bring one; 0 trains on CPUs",
    )
    concurrent: int | None = _key(
        None, "trials at a time; null for as many as the cluster has CPUs and GPUs for", ge=1
    )

    @model_validator(mode="after")
    def _known(self) -> TuneConfig:
        for name, values in self.space.items():
            if name not in SEARCHABLE:
                raise ValueError(f"space names {name!r}; it may name {', '.join(SEARCHABLE)}")
            if isinstance(values, Range) and name not in ("train.eta", "train.p"):
                raise ValueError(f"space.{name} needs a list of values, not an interval")
            if not isinstance(values, Range) and not values:
                raise ValueError(f"space.{name} has no values")
        return self
