"""The paper's table, the lists and their metrics."""

from __future__ import annotations

from typing import Literal

from pipelines.config.section import Gpus, Section
from pipelines.config.section import key as _key


class TableRun(Section):
    """A row of Table 1."""

    k: int = _key(6, "number of classes", ge=2, le=1000)
    eta: float = _key(0.001, "Adam's learning rate", gt=0, le=1)
    p: float = _key(0.5, "dropout probability", ge=0, lt=1)


class ReportConfig(Section):
    """The paper's Table 1 and figures 4 to 10."""

    runs: tuple[TableRun, ...] = _key(
        (
            TableRun(k=6, eta=0.0002, p=0.2),
            TableRun(k=6, eta=0.001, p=0.5),
            TableRun(k=4, eta=0.001, p=0.5),
            TableRun(k=3, eta=0.001, p=0.5),
        ),
        "what is trained for Table 1, with the other settings of `train`",
    )
    elbow_to: int = _key(100, "the elbow curves go from k = 2 to this", ge=2, le=1000)


class RecommendConfig(Section):
    """User vectors and ranking (paper 3.4)."""

    model: Literal["genre", "network", "blend"] = _key(
        "blend",
        "what is ranked by: the network's class probabilities (`genre`, the paper's), its vectors "
        "of songs and users under the other objectives of `train` (`network`), or the blend of "
        "signals",
    )
    protocol: Literal["heldout", "oord", "paper"] = _key("heldout", "evaluation protocol")
    top: int = _key(500, "length of each user's list", ge=1, le=10_000)
    weighting: Literal["raw", "log", "binary"] = _key(
        "raw", "how a play count weighs in the user vector; `raw` is the paper's"
    )
    users_per_shard: int = _key(5_000, "users one task ranks", ge=1)
    block_mb: int = _key(
        2048, "song vectors a task holds at once; more are ranked in blocks and merged", ge=0
    )
    num_gpus: Gpus = _key(
        "auto",
        "GPUs of one ranking task, for a catalogue of one block; auto: 0.25, so that four share a "
        "GPU, where the cluster has or may bring GPUs that rank faster than all its CPUs, which "
        "takes large ones with few CPUs; 0 ranks on CPUs, with the same lists",
    )


class EvaluateConfig(Section):
    """Metrics and their intervals."""

    resamples: int = _key(2_000, "bootstrap resamples of users and songs", ge=100)
    level: float = _key(0.95, "confidence level of the intervals", gt=0.5, lt=1)
