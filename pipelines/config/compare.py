"""The configuration of the comparison with the baselines (paper Table 2)."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, PositiveInt, field_validator, model_validator

from fusionrec.models.settings import DlrmSettings, GraphSettings
from pipelines.config.blend import BlendRun
from pipelines.config.features import Modality, Operator
from pipelines.config.section import Section, key
from pipelines.config.taste import FactorsConfig, TowersConfig

Method = Literal[
    "random",
    "popularity",
    "hotttnesss",
    "mlr",
    "linear",
    "mlp",
    "cnn-mse",
    "cnn-wpe",
    "fusion",
    "linear-features",
    "fusion-factors",
    "fusion-ranking",
    "hgnn",
    "dlrm",
    "blend",
    "wmf",
    "classes",
    "popularity-oracle",
]

METHODS: tuple[Method, ...] = get_args(Method)
"""Every method of the comparison."""

ASKED_FOR: tuple[Method, ...] = ("fusion-factors", "fusion-ranking", "hgnn", "dlrm")
"""Those that are compared only if `compare.methods` names them: they pay with many songs."""

EXTERNAL = "external"
"""What lists of `compare.external` are as a method."""

_OWN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_ROW = re.compile(r"\w[\w .+-]*")


def is_own(method: str) -> bool:
    """Whether a name is of a method of one's own: `module:Name` or `package.module:Name`."""
    return _OWN.fullmatch(method) is not None


def _known(method: str) -> str:
    if method not in METHODS and not is_own(method):
        raise ValueError(
            f"no such method: name one of {', '.join(METHODS)}, or one of your own as "
            "package.module:Name"
        )
    return method


MethodName = Annotated[str, AfterValidator(_known)]

REFERENCES: tuple[Method, ...] = ("wmf", "classes", "popularity-oracle")
"""Those that see what the others must not: plays or tags of the test songs."""


class FusionRun(Section):
    """A fusion network of the comparison."""

    k: int = key(6, "number of classes", ge=2, le=1000)
    modalities: tuple[Modality, ...] = key(
        ("metadata", "lyrics"), "what it is fed with; embed.modalities must have them", min_length=1
    )
    operator: Operator = key("concatenate", "how these become one vector, as fuse.operator")

    @property
    def name(self) -> str:
        """Its name in the tables; that of the paper's operator, concatenation, is left out."""
        name = f"fusion k={self.k} {'+'.join(self.modalities)}"
        return name if self.operator == "concatenate" else f"{name} {self.operator}"


class WmfConfig(FactorsConfig):
    """The factorisation that content models learn, and that `wmf` ranks by."""

    scope: Literal["train", "all"] = key(
        "train",
        "songs whose plays make the factors that content models learn; under `all`, the plays "
        "of test songs have been seen, and no figure is a forecast",
    )


class AudioWordsConfig(Section):
    """The bag of audio words: quantised timbre and pitch frames with their differences."""

    codewords: int = key(500, "size of the codebook (van den Oord et al.: 4,000)", ge=2)
    songs: int = key(10_000, "training songs the codebook is fitted on, chosen by hash", ge=1)
    frames: int = key(100, "frames of each of them", ge=1)
    variance: float = key(0.95, "share of the variance PCA keeps of the bags", gt=0, le=1)


class NeuralConfig(Section):
    """The baselines' multilayer perceptron and convolutional network."""

    hidden: int = key(1000, "hidden units of the perceptron", ge=1)
    epochs: int = key(100, "passes over the training songs, at most", ge=1)
    patience: int = key(10, "stop when the validation loss has not fallen for so many", ge=1)
    batch_size: int = key(64, "songs in a batch", ge=1)
    eta: float = key(0.001, "Adam's learning rate", gt=0)
    segments: int = key(128, "segments in a window of the convolutional network", ge=8)
    cnn_epochs: int = key(30, "passes of the convolutional network, at most", ge=1)
    cnn_songs: int = key(
        10_000,
        "training songs of the convolutional network, chosen by hash (70 kB of memory each)",
        ge=2,
    )


class MlrConfig(Section):
    """Metric learning to rank (McFee & Lanckriet 2010) on the bag of audio words."""

    slack: float = key(10_000.0, "C, the weight of the ranking loss", gt=0)
    queries: int = key(2_000, "training songs that are queries and answers, by hash", ge=2)
    similar: int = key(10, "songs with the most listeners in common are a query's answers", ge=1)
    iterations: int = key(50, "cutting planes, at most", ge=1)


class HgnnConfig(Section):
    """Two towers on a graph of songs and artists; the rest of its settings are `towers`'."""

    layers: int = key(GraphSettings.layers, "rounds of messages", ge=1, le=4)
    nearest: int = key(
        GraphSettings.nearest,
        "songs that a song is linked with, by each of listeners and content",
        ge=1,
    )
    sampled: int = key(
        GraphSettings.sampled, "neighbours of a kind that a batch draws for a node", ge=1
    )


class DlrmConfig(Section):
    """Two towers with a song tower of DLRM's form; the rest of its settings are `towers`'."""

    embedding: int = key(DlrmSettings.embedding, "dimensions of an embedding", ge=1)
    rows: int = key(
        DlrmSettings.rows, "of an embedding table, at most: rarer names share rows", ge=2
    )
    bottom: tuple[PositiveInt, ...] = key(
        DlrmSettings.bottom, "hidden widths of the network of dense features"
    )
    top: tuple[PositiveInt, ...] = key(
        DlrmSettings.top, "hidden widths of the network of the embeddings' products"
    )
    embeddings_too: bool = key(
        DlrmSettings.embeddings_too,
        "the top network sees the embeddings beside their products, as DLRM's does not",
    )
    unknown: float = key(
        DlrmSettings.unknown,
        "how often a training song is drawn to be of an unknown artist, or else release",
        ge=0,
        le=1,
    )
    untagged: float = key(
        DlrmSettings.untagged, "how often it is drawn to be without a kind of tags", ge=0, le=1
    )


class CompareConfig(Section):
    """The comparison of all methods by van den Oord's protocol, `oord`."""

    splits: tuple[Literal["song", "artist", "album", "time"], ...] = key(
        ("song", "artist"),
        "the splits it is made under; `time` is a single cut, `split.cut`",
        min_length=1,
    )
    test_folds: tuple[int, ...] | None = key(
        None, "which of split.folds are tested; null for all, so that each song is tested once"
    )
    methods: tuple[MethodName, ...] = key(
        tuple(method for method in METHODS if method not in ASKED_FOR),
        f"what is compared; {', '.join(ASKED_FOR)} are beside the default; package.module:Name is "
        "a method of one's own (fusionrec.methods)",
        min_length=1,
    )
    external: dict[str, str] = key(
        {},
        "lists made elsewhere, compared with the methods: a name and the path or URI of Parquet, "
        "JSON lines or CSV (fusionrec.formats.user_lists)",
    )
    fusion: tuple[FusionRun, ...] = key(
        (
            FusionRun(k=6, modalities=("metadata",)),
            FusionRun(k=3),
            FusionRun(k=4),
            FusionRun(k=6),
        ),
        "the fusion networks (Table 2's by default)",
    )
    blends: tuple[BlendRun, ...] = key(
        (
            BlendRun(context=False, other_plays=False),
            BlendRun(other_plays=False),
            BlendRun(),
        ),
        "the blends of signals, with the other settings of `blend`",
    )
    fold_seeds: int = key(
        1, "how often the songs are cut into folds anew, each time by another seed", ge=1
    )
    seeds: int = key(5, "trainings of whatever is trained from random numbers", ge=1)
    users: int = key(20_000, "users, chosen by hash (the paper: 20,000)", ge=1)
    resamples: int = key(10_000, "bootstrap resamples of users and songs", ge=100)
    lists: int = key(
        20, "songs of each list whose coverage, popularity, diversity and novelty count", ge=1
    )
    against: str | None = key(
        None, "the method all others are compared with, by its name; null for the last of `fusion`"
    )
    wmf: WmfConfig = WmfConfig()
    audio_words: AudioWordsConfig = AudioWordsConfig()
    neural: NeuralConfig = NeuralConfig()
    towers: TowersConfig = TowersConfig()
    hgnn: HgnnConfig = HgnnConfig()
    dlrm: DlrmConfig = DlrmConfig()
    mlr: MlrConfig = MlrConfig()

    @field_validator("external")
    @classmethod
    def _rows_of_a_table(cls, external: dict[str, str]) -> dict[str, str]:
        for name in external:
            if not _ROW.fullmatch(name):
                raise ValueError(
                    f"{name!r} is to be a row's name: write it with letters, digits, spaces and "
                    "._+- only"
                )
        return external

    @model_validator(mode="after")
    def _distinct(self) -> CompareConfig:
        for name in ("splits", "methods", "fusion", "blends", "test_folds"):
            values = getattr(self, name) or ()
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names something twice")
        # Their names are their rows in the table, and what rankings are told apart by.
        names = [run.name for run in self.blends]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"blends has {name!r} twice: entries that name the same signals differ by "
                    "`other_plays` alone, as `context` only says what they may name; leave one out"
                )
        return self
