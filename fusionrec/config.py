"""One typed configuration tree, a section a stage.

Every key has a type, a default, a line of documentation and bounds. YAML goes in,
``--set section.key=value`` overrides it, and the resolved tree is kept with every run.
An unknown key is an error that suggests the nearest one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from fusionrec.config_compare import CompareConfig
from fusionrec.config_section import Section
from fusionrec.config_section import key as _key
from fusionrec.errors import ConfigError


class SourceConfig(Section):
    """Where the Million Song Dataset's files lie; relative paths are below `root`."""

    root: str = _key(
        "",
        "folder or URI (s3://, gs://, hdfs://) of the corpus; the paths below are relative to it",
    )
    songs: str = _key(
        "MillionSong",
        "HDF5 tree (A/B/C folders), one aggregate or summary .h5 file, or track_metadata.db",
    )
    artist_terms: str | None = _key(
        None, "artist_term.db with the tags, where `songs` is track_metadata.db"
    )
    lyrics: tuple[str, ...] = _key(
        ("musixmatch/mxm_dataset_train.txt", "musixmatch/mxm_dataset_test.txt"),
        "musiXmatch files (.txt, .zip of it, or mxm_dataset.db); may be empty",
    )
    plays: tuple[str, ...] = _key(
        ("tasteprofile/train_triplets.txt",),
        "listening triplets (.txt or .zip; Taste Profile or Challenge files)",
    )
    mismatches: str | None = _key(
        "tasteprofile/sid_mismatches.txt", "wrong song-track pairs to leave out; null for none"
    )


class IngestConfig(Section):
    """Reading the source files into Parquet."""

    segments: Literal["none", "stats", "full"] = _key(
        "none",
        "segment arrays: not read, reduced to each song's statistics (all that the audio "
        "modality needs), or kept",
    )
    files_per_shard: int = _key(1_000, "files of the HDF5 tree read by one task", ge=1)
    rows_per_shard: int = _key(
        20_000, "rows of an aggregate HDF5 or SQLite file read by one task", ge=1
    )
    bytes_per_shard: int = _key(64 << 20, "bytes of a text file read by one task", ge=1024)
    max_reject_share: float = _key(
        0.05, "largest share of damaged items a source may have before the run stops", ge=0, le=1
    )


class SplitConfig(Section):
    """Songs into train, validation and test (paper 5.3; DIGEST protocols)."""

    by: Literal["song", "artist", "album"] = _key(
        "song",
        "`song` is the paper's random split; `artist` puts no artist on both sides, `album` no "
        "album",
    )
    folds: int = _key(5, "equal parts the songs are cut into; 5 gives the paper's 80/20", ge=2)
    test_fold: int = _key(0, "the fold that is the test part", ge=0)
    validation: float = _key(0.1, "share of the other songs kept for validation", ge=0, le=0.5)
    require_tags: bool = _key(
        False, "only songs with tags enter the split (the paper's 116,479), others are left out"
    )


class LabelConfig(Section):
    """Tags into classes (paper 3.1.1, 3.1.2, 5.1)."""

    embedding: Literal["multihot", "word2vec"] = _key("word2vec", "label embedding f")
    source: Literal["mbtags", "terms"] = _key(
        "mbtags", "MusicBrainz tags (the paper's) or Echo Nest terms"
    )
    k: int = _key(6, "number of classes", ge=2, le=1000)
    dimension: int = _key(100, "m, the Word2Vec label embedding's size", ge=2, le=2000)
    epochs: int = _key(20, "Word2Vec passes over the tag lists", ge=1)
    fit_on: Literal["train", "all"] = _key(
        "train", "songs that Word2Vec and K-Means see; `all` is the `paper` protocol's"
    )
    elbow: tuple[int, ...] = _key((), "values of k whose inertia is kept for the elbow curve")


class MetadataConfig(Section):
    """Metadata features (paper 3.1.4)."""

    dimension: int = _key(100, "size of each field's Word2Vec", ge=2, le=2000)
    epochs: int = _key(10, "Word2Vec passes over a field", ge=1)
    threads: int = _key(
        1, "threads of a field's Word2Vec; with more than one, two runs differ a little", ge=1
    )
    vectors: str | None = _key(
        None, "word2vec file (text or .bin) to start each field's Word2Vec from"
    )


class LyricsConfig(Section):
    """Lyrics features (paper 3.1.5, 5.2)."""

    encoder: str = _key(
        "FacebookAI/roberta-base",
        "hub name or local folder of the transformer, or `pretrain` for one trained on the corpus",
    )
    tfidf: Literal["sklearn", "printed"] = _key(
        "sklearn", "TfidfVectorizer's weights, or the formula as the paper prints it"
    )
    words: int = _key(128, "most significant words per song that are encoded", ge=1, le=5000)
    pooling: Literal["cls", "mean"] = _key("cls", "the CLS vector, or the mean over tokens")
    dtype: Literal["auto", "float32", "bfloat16"] = _key(
        "auto", "the encoder's precision; auto: bfloat16 where a trial shows that it pays"
    )
    token_budget: int | None = _key(
        None, "tokens in one batch; null for 4,096 on a CPU and 65,536 on a GPU", ge=16
    )
    compiled: bool = _key(
        False,
        "compile the model with torch.compile, for architectures that cannot be packed "
        "(RoBERTa's and BERT's can, which is quicker)",
    )
    num_gpus: float = _key(0.0, "GPUs of one encoder actor; 0 runs it on the CPU", ge=0)

    @field_validator("dtype", mode="before")
    @classmethod
    def _exact_enough(cls, value: object) -> object:
        if value == "int8":
            raise ValueError(
                "8-bit integers are not offered: on a pre-trained encoder the worst cosine to "
                "float32 was .985 to .995, whatever the processor; take auto or bfloat16"
            )
        return value


class EmbedConfig(Section):
    """Modalities into vectors."""

    modalities: tuple[Literal["metadata", "lyrics", "audio"], ...] = _key(
        ("metadata", "lyrics"), "the modalities that are embedded and fused", min_length=1
    )
    metadata: MetadataConfig = MetadataConfig()
    lyrics: LyricsConfig = LyricsConfig()


class PretrainConfig(Section):
    """The small RoBERTa of `embed.lyrics.encoder: pretrain` (masked-word modelling)."""

    workers: int = _key(
        1, "Ray Train data-parallel workers; 0 trains in one task without Ray Train", ge=0
    )
    num_gpus: float = _key(0.0, "GPUs of one worker", ge=0)
    hidden_size: int = _key(128, "width of the encoder", ge=8)
    layers: int = _key(2, "transformer layers", ge=1)
    heads: int = _key(4, "attention heads; divides hidden_size", ge=1)
    positions: bool = _key(
        False,
        "the encoder sees words with their counts and the place of each; false: the words "
        "alone, as a set",
    )
    epochs: int = _key(5, "passes over the bags", ge=1)
    batch_size: int = _key(64, "bags in a batch, over all workers", ge=1)
    learning_rate: float = _key(1e-3, "AdamW's peak rate", gt=0)
    mask_probability: float = _key(0.15, "share of the tokens that are to be predicted", gt=0, lt=1)
    heldout_share: float = _key(
        0.05, "share of the bags that only measure the perplexity", gt=0, le=0.5
    )
    dtype: Literal["auto", "float32", "bfloat16"] = _key(
        "auto", "precision of the matrix products; auto: bfloat16 where the hardware has it"
    )
    max_bags: int = _key(50_000, "bags used at most, chosen by hash", ge=1)


class FuseConfig(Section):
    """Scaling, PCA and the fusion operator (paper 3.2, 5.3)."""

    variance: float = _key(0.95, "share of the variance PCA keeps", gt=0, le=1)
    operator: Literal["concatenate", "add", "multiply", "max", "min", "mean", "gated"] = _key(
        "concatenate",
        "how the modalities become one vector; `gated`: a mean with learned weights for each song",
    )
    align: Literal["project", "pad", "truncate"] = _key(
        "project",
        "bring the modalities to one size, for all operators but concatenate: by a learned "
        "projection, or by padding or truncating their principal components",
    )
    width: int = _key(128, "that size under `project`", ge=1, le=10_000)
    missing: Literal["neutral", "learned", "drop"] = _key(
        "neutral",
        "a modality that a song does not have is left out of the operator (in concatenate, the "
        "training mean stands there), replaced by a learned vector, or the song is left out "
        "(and counted)",
    )

    @property
    def blockwise(self) -> bool:
        """PCA is fitted for each modality, and the network sees their borders.

        Otherwise, as in the paper, PCA is fitted on the concatenation.
        """
        return self.operator != "concatenate" or self.missing == "learned"


class TrainConfig(Section):
    """The fusion network's training (paper 5.3, Table 1)."""

    workers: int = _key(
        1, "Ray Train data-parallel workers; 0 trains in one task without Ray Train", ge=0
    )
    num_gpus: float = _key(0.0, "GPUs of one worker", ge=0)
    epochs: int = _key(200, "passes over the training songs (the paper: 2,000)", ge=1)
    batch_size: int = _key(256, "songs in a batch, over all workers", ge=2)
    evaluate_every: int | None = _key(
        None, "epochs from one evaluation to the next; null for about 100 a run", ge=1
    )
    checkpoint_every: int | None = _key(
        None, "epochs from one checkpoint to the next; null for about 20 a run", ge=1
    )
    eta: float = _key(0.001, "Adam's learning rate", gt=0, le=1)
    p: float = _key(0.5, "dropout probability", ge=0, lt=1)
    class_weights: bool = _key(True, "weigh the cross-entropy by inverse class frequency")
    label_smoothing: float = _key(0.0, "share of a label spread over all classes", ge=0, lt=1)
    weight_decay: float = _key(0.0, "decoupled weight decay (AdamW); 0 is plain Adam", ge=0)
    norm_group: int | None = _key(
        64,
        "songs whose moments batch normalisation shares; null for the whole batch, which makes "
        "the workers wait for each other at every layer",
        ge=2,
    )
    schedule: Literal["constant", "cosine"] = _key(
        "constant", "eta over the epochs; cosine falls from eta to almost 0"
    )
    patience: int | None = _key(
        None,
        "stop when validation accuracy has not risen for so many epochs, and keep the best "
        "network; null trains all epochs and keeps the last",
        ge=1,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = _key(
        "auto",
        "precision; auto: mixed with bfloat16 on a GPU, float32 on a CPU. In float64 the number "
        "of workers changes the result by less than 1e-5; in float32 Adam amplifies rounding",
    )
    in_memory_mb: int = _key(
        4096,
        "features up to this size are held by each worker; larger ones are streamed from the "
        "workspace by Ray Data",
        ge=0,
    )


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
    num_gpus: float = _key(0.0, "GPUs of one trial", ge=0)
    concurrent: int | None = _key(
        None, "trials at a time; null for as many as the cluster has CPUs (or GPUs)", ge=1
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

    protocol: Literal["heldout", "oord", "paper"] = _key("heldout", "evaluation protocol")
    top: int = _key(500, "length of each user's list", ge=1, le=10_000)
    weighting: Literal["raw", "log", "binary"] = _key(
        "raw", "how a play count weighs in the user vector; `raw` is the paper's"
    )
    users_per_shard: int = _key(5_000, "users one task ranks", ge=1)
    block_mb: int = _key(
        2048, "song vectors a task holds at once; more are ranked in blocks and merged", ge=0
    )


class EvaluateConfig(Section):
    """Metrics and their intervals."""

    resamples: int = _key(2_000, "bootstrap resamples over users", ge=100)
    level: float = _key(0.95, "confidence level of the intervals", gt=0.5, lt=1)


STAGES = (
    "ingest",
    "split",
    "label",
    "pretrain",
    "embed",
    "fuse",
    "tune",
    "train",
    "recommend",
    "evaluate",
    "report",
    "compare",
)
"""All stages, in the order of their inputs."""


class ClusterConfig(Section):
    """How Ray is reached or started."""

    address: str | None = _key(
        None, "Ray address; null joins the cluster this process runs in, or starts a local one"
    )
    num_cpus: int | None = _key(None, "CPUs of a locally started Ray; null for all", ge=1)
    object_store_mb: int | None = _key(None, "object store of a locally started Ray", ge=80)
    dashboard: bool = _key(False, "start the dashboard (on loopback) with a local Ray")
    resources: dict[str, dict[str, Annotated[float, Field(gt=0)]]] = _key(
        {}, "custom resources that each task of a stage asks for: {ingest: {near_data: 0.01}}"
    )

    @model_validator(mode="after")
    def _custom(self) -> ClusterConfig:
        for stage, resources in self.resources.items():
            if stage not in STAGES:
                near = difflib.get_close_matches(stage, STAGES, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; stages are {list(STAGES)}"
                raise ValueError(f"cluster.resources.{stage}: there is no such stage{hint}")
            for name in {"CPU", "GPU", "memory"} & set(resources):
                raise ValueError(
                    f"cluster.resources.{stage}.{name}: is no custom resource; CPUs and GPUs are "
                    "set by the stages' own keys (num_gpus, workers, threads)"
                )
        return self


class Config(Section):
    """The whole tree."""

    seed: int = _key(0, "seed of every random choice", ge=0, lt=2**31)
    workspace: str = _key("workspace", "folder or URI (s3://, gs://, ...) of all artifacts")
    source: SourceConfig = SourceConfig()
    ingest: IngestConfig = IngestConfig()
    split: SplitConfig = SplitConfig()
    label: LabelConfig = LabelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    embed: EmbedConfig = EmbedConfig()
    fuse: FuseConfig = FuseConfig()
    train: TrainConfig = TrainConfig()
    tune: TuneConfig = TuneConfig()
    report: ReportConfig = ReportConfig()
    recommend: RecommendConfig = RecommendConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    compare: CompareConfig = CompareConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.split.test_fold >= self.split.folds:
            raise ValueError(
                f"split.test_fold is {self.split.test_fold}, but with split.folds "
                f"{self.split.folds} it must be below {self.split.folds}"
            )
        if self.pretrain.hidden_size % self.pretrain.heads:
            raise ValueError(
                f"pretrain.hidden_size {self.pretrain.hidden_size} is no multiple of "
                f"pretrain.heads {self.pretrain.heads}"
            )
        if "audio" in self.embed.modalities and self.ingest.segments == "none":
            raise ValueError(
                "embed.modalities names audio, which needs ingest.segments: stats (it is none)"
            )
        group, batch = self.train.norm_group, self.train.batch_size
        if group is not None and 1 < round(batch / group) < self.train.workers:
            raise ValueError(
                f"train.batch_size {batch} in groups of {group} songs gives work to "
                f"{round(batch / group)} workers, not {self.train.workers}: lower "
                "train.norm_group, or set it to null"
            )
        if self.train.patience is not None and self.split.validation == 0:
            raise ValueError(
                "train.patience stops by validation accuracy, but split.validation is 0: "
                "set split.validation, or train.patience: null"
            )
        if self.recommend.protocol == "paper" and self.label.fit_on != "all":
            raise ValueError(
                "recommend.protocol: paper fits the labels on all songs: set label.fit_on: all"
            )
        return self


Override = Annotated[str, "section.key=value"]


def load(path: str | Path | None = None, overrides: Sequence[Override] = ()) -> Config:
    """Read YAML from a path or URI, apply ``section.key=value`` overrides, check the result.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no mapping, or a key or value is wrong.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(_text(str(path)))
        except FileNotFoundError:
            raise ConfigError(
                f"{path}: there is no such config file; pass an existing YAML file to --config"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read ({error})") from None
        except yaml.YAMLError as error:
            where = " ".join(str(error).split())
            raise ConfigError(f"{path}: is not valid YAML: {where}") from None
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError(f"{path}: must be a mapping of sections, not {type(loaded).__name__}")
        tree = loaded or {}
    for override in overrides:
        _apply(tree, override)
    return from_dict(tree, source=str(path) if path else "configuration")


def _text(path: str) -> str:
    if "://" not in path:
        return Path(path).read_text(encoding="utf-8")
    from fusionrec.formats import files  # pyarrow takes a third of a second

    with files.open_binary(path) as file:
        return file.read().decode()


def from_dict(tree: Mapping[str, Any], *, source: str = "configuration") -> Config:
    """Check a plain mapping; see :func:`load`."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(source, e) for e in error.errors())) from None


def replaced(config: Config, values: Mapping[str, Any]) -> Config:
    """The config with other values under some dotted names.

    Raises
    ------
    ConfigError
        If a name or a value is wrong.
    """
    tree = config.model_dump(mode="json")
    for name, value in values.items():
        *sections, key = name.split(".")
        node = tree
        for section in sections:
            node = node[section]
        node[key] = value
    return from_dict(tree)


def to_yaml(config: Config) -> str:
    """The resolved tree as YAML that :func:`load` takes."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def describe(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every key of the tree as (dotted name, default, documentation)."""
    for name, field in section.model_fields.items():
        if isinstance(field.default, Section):
            yield from describe(type(field.default), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.default, field.description or ""


def _apply(tree: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {override!r}: write it as section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML") from None
    if isinstance(value, str):
        value = _number(value)
    node = tree
    for key in keys[:-1]:
        child = node.get(key)
        if child is None:
            child = node[key] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override!r}: {key!r} is a value, not a section")
        node = child
    node[keys[-1]] = value


def _number(text: str) -> str | float:
    # YAML 1.1 reads 1e-3 as a string, which nobody who types it means.
    try:
        return float(text) if "e" in text.lower() and text[:1] in "+-.0123456789" else text
    except ValueError:
        return text


def _explain(source: str, error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    dotted = ".".join(path)
    if error["type"] == "extra_forbidden":
        known = [name for name, _, _ in describe()] + list(Config.model_fields)
        near = difflib.get_close_matches(dotted, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "; `fusionrec config` lists all keys"
        return f"{source}: unknown key {dotted!r}{hint}"
    message = error["msg"].removeprefix("Value error, ")
    if not dotted:
        return f"{source}: {message}"
    return f"{source}: {dotted} is {error['input']!r}: {message}"
