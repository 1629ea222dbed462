"""Embed: every modality into one vector a song, in parts aligned with `songs`.

The driver holds the word weights (40 kB) and one report a part.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from fusionrec.features.lyrics.hub import encoder_fingerprint
from fusionrec.features.words import vectors_fingerprint
from pipelines import ingest, pretrain, split
from pipelines.config import Config
from pipelines.embed.lyrics import GPUS, PRETRAIN
from pipelines.runtime.shards import Shard, shards_of
from pipelines.runtime.stage import Counts, Stage
from pipelines.runtime.workspace import StageRun, Workspace

Embedding = Callable[[Config, StageRun, list[Shard]], Counts]


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Embed each modality the config names."""
    parts = shards_of(workspace, "ingest", "songs")
    return {name: embedding(name)(config, run, parts) for name in config.embed.modalities}


def embedding(modality: str) -> Embedding:
    """What embeds a modality: `embed_<modality>` of the module of its name."""
    module = import_module(f"pipelines.embed.{modality}")
    embed: Embedding = getattr(module, f"embed_{modality}")
    return embed


def _source(config: Config) -> dict[str, str]:
    """The files outside of the workspace that vectors are made with, by their content."""
    found = {}
    if "lyrics" in config.embed.modalities and config.embed.lyrics.encoder != PRETRAIN:
        found["encoder"] = encoder_fingerprint(config.embed.lyrics.encoder)
    if "metadata" in config.embed.modalities and config.embed.metadata.vectors is not None:
        found["vectors"] = vectors_fingerprint(config.embed.metadata.vectors)
    return found


STAGE = Stage(
    name="embed",
    needs=lambda config: (
        (ingest.STAGE, split.STAGE, pretrain.STAGE)
        if "lyrics" in config.embed.modalities and config.embed.lyrics.encoder == PRETRAIN
        else (ingest.STAGE, split.STAGE)
    ),
    settings=lambda config: {
        "embed": config.embed.model_dump(
            exclude={"lyrics": {"num_gpus", "token_budget", "compiled"}}
        ),
        "seed": config.seed,
    },
    work=work,
    source=_source,
    gpus=GPUS,
)
