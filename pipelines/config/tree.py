"""The whole configuration: one typed tree, a section for each of its parts."""

from __future__ import annotations

from pydantic import model_validator

from fusionrec.models.settings import norm_groups
from pipelines.config.blend import BlendConfig
from pipelines.config.cluster import ClusterConfig
from pipelines.config.compare import CompareConfig
from pipelines.config.features import (
    TAKEN,
    EmbedConfig,
    FuseConfig,
    LabelConfig,
    PretrainConfig,
    check_modalities,
)
from pipelines.config.ladder import LadderConfig
from pipelines.config.learning import TrainConfig, TuneConfig
from pipelines.config.lists import ListsConfig
from pipelines.config.results import EvaluateConfig, RecommendConfig, ReportConfig
from pipelines.config.section import Section
from pipelines.config.section import key as _key
from pipelines.config.sources import IngestConfig, SourceConfig, SplitConfig
from pipelines.config.update import UpdateConfig


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
    blend: BlendConfig = BlendConfig()
    recommend: RecommendConfig = RecommendConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    lists: ListsConfig = ListsConfig()
    update: UpdateConfig = UpdateConfig()
    compare: CompareConfig = CompareConfig()
    ladder: LadderConfig = LadderConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.split.test_fold >= self.split.folds:
            raise ValueError(
                f"split.test_fold is {self.split.test_fold}, but with split.folds "
                f"{self.split.folds} it must be below {self.split.folds}"
            )
        if self.split.by == "time":
            _check_time(self.split, self.recommend)
        if self.pretrain.hidden_size % self.pretrain.heads:
            raise ValueError(
                f"pretrain.hidden_size {self.pretrain.hidden_size} is no multiple of "
                f"pretrain.heads {self.pretrain.heads}"
            )
        self._check_modalities()
        for modality in set(self.fuse.modalities or ()) - set(self.embed.modalities):
            raise ValueError(
                f"fuse.modalities names {modality}, but embed.modalities does not: add it there"
            )
        ranked, objective = self.recommend.model, self.train.objective
        if ranked == "network" and objective == "genre":
            raise ValueError(
                "recommend.model: network ranks by what train.objective factors or ranking "
                "learns, but it is genre: set train.objective, or recommend.model: genre"
            )
        if ranked == "genre" and objective != "genre":
            raise ValueError(
                f"recommend.model: genre ranks by classes, which train.objective: {objective} does "
                "not learn: set recommend.model: network (or blend), or train.objective: genre"
            )
        group, batch = self.train.norm_group, self.train.batch_size
        groups = norm_groups(batch, group)
        if objective != "ranking" and 1 < groups < self.train.workers:
            raise ValueError(
                f"train.batch_size {batch} in groups of {group} songs gives work to "
                f"{groups} workers, not {self.train.workers}: lower "
                "train.norm_group, or set it to null"
            )
        if self.train.patience is not None and self.split.validation == 0:
            raise ValueError(
                "train.patience stops by the validation songs, but split.validation is 0: "
                "set split.validation, or train.patience: null"
            )
        if self.recommend.protocol == "paper" and self.label.fit_on != "all":
            raise ValueError(
                "recommend.protocol: paper fits the labels on all songs: set label.fit_on: all"
            )
        return self

    def _check_modalities(self) -> None:
        """Raise a ValueError for modalities that there are not, or that nothing can be made of."""
        tables = self.source.format != "msd"
        own = tuple(self.source.tables.features) if tables else ()
        for name in own:
            if name in TAKEN:
                raise ValueError(
                    f"source.tables.features has {name}, which means something else beside a "
                    f"modality: take another name, such as own_{name}"
                )
        named = [
            ("embed.modalities", self.embed.modalities),
            ("fuse.modalities", self.fuse.modalities or ()),
            *(("compare.fusion", run.modalities) for run in self.compare.fusion),
            *(("ladder.rungs", r.fusion.modalities) for r in self.ladder.rungs if r.fusion),
        ]
        for key, modalities in named:
            check_modalities(key, modalities, own)
        if "audio" in self.embed.modalities:
            if tables:
                raise ValueError(
                    "embed.modalities names audio, which is made of the Million Song Dataset's "
                    f"segments, and source.format: {self.source.format} has none: take vectors of "
                    "your own (source.tables.features), or leave it out"
                )
            if self.ingest.segments == "none":
                raise ValueError(
                    "embed.modalities names audio, which needs ingest.segments: stats (it is none)"
                )


def _check_time(split: SplitConfig, recommend: RecommendConfig) -> None:
    """Raise a ValueError for what means nothing under one cut in time."""
    for name in ("folds", "test_fold"):
        value, default = getattr(split, name), SplitConfig.model_fields[name].default
        if value != default:
            raise ValueError(
                f"split.{name} is {value}, but split.by: time is one cut without folds: leave it "
                f"at {default}, and set split.cut or split.test_share"
            )
    if recommend.protocol != "oord":
        raise ValueError(
            f"recommend.protocol: {recommend.protocol} makes profiles of half of a user's test "
            "songs, but under split.by: time all their plays are later than what may be known: "
            "set recommend.protocol: oord"
        )
