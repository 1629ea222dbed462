"""Run: all stages in order; what is up to date is skipped."""

from __future__ import annotations

from pipelines import (
    blend,
    embed,
    evaluate,
    fuse,
    ingest,
    label,
    lists,
    pretrain,
    recommend,
    split,
    train,
)
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
    blend.STAGE,
    recommend.STAGE,
    evaluate.STAGE,
)
"""Those of every run, and some that it may do without."""


def stages(config: Config) -> tuple[Stage, ...]:
    """The stages this config needs, in order."""
    unasked = set()
    if pretrain.STAGE not in embed.STAGE.needs(config):
        unasked.add(pretrain.STAGE.name)
    if label.STAGE not in train.STAGE.needs(config):
        unasked.add(label.STAGE.name)
    if blend.STAGE not in recommend.STAGE.needs(config):
        unasked.add(blend.STAGE.name)
    found = tuple(stage for stage in STAGES if stage.name not in unasked)
    return (*found, lists.STAGE) if config.lists.run else found


def run(config: Config) -> dict[str, Manifest]:
    """Bring every stage of the workspace up to date; manifests by stage."""
    return {stage.name: stage.run(config) for stage in stages(config)}


if __name__ == "__main__":
    as_command("run")
