"""Run: all stages in order; what is up to date is skipped."""

from __future__ import annotations

from pipelines import embed, evaluate, fuse, ingest, label, pretrain, recommend, split, train
from pipelines.config import Config
from pipelines.runtime.command import as_command
from pipelines.runtime.stage import Stage
from pipelines.runtime.workspace import Manifest

STAGES: tuple[Stage, ...] = (
    ingest.STAGE,
    split.STAGE,
    label.STAGE,
    pretrain.STAGE,
    embed.STAGE,
    fuse.STAGE,
    train.STAGE,
    recommend.STAGE,
    evaluate.STAGE,
)


def stages(config: Config) -> tuple[Stage, ...]:
    """The stages this config needs, in order."""
    if pretrain.STAGE in embed.STAGE.needs(config):
        return STAGES
    return tuple(stage for stage in STAGES if stage is not pretrain.STAGE)


def run(config: Config) -> dict[str, Manifest]:
    """Bring every stage of the workspace up to date; manifests by stage."""
    return {stage.name: stage.run(config) for stage in stages(config)}


if __name__ == "__main__":
    as_command("run")
