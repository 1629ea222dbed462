"""Embed: every modality into one vector a song, in parts aligned with `songs`.

Vectors of one's own are modalities by their name, beside those that have a module here. The driver
holds the word weights (40 kB) and one report a part.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from fusionrec.features.lyrics.hub import encoder_fingerprint
from fusionrec.features.words import vectors_fingerprint
from pipelines import ingest, pretrain, split
from pipelines.config import Config
from pipelines.config.features import BUILT_IN
from pipelines.embed.lyrics import GPUS
from pipelines.embed.own import embed_own
from pipelines.embed.tokens import PRETRAIN, reads_text
from pipelines.runtime.shards import Shard, shards_of
from pipelines.runtime.stage import Counts, Stage
from pipelines.runtime.workspace import StageRun, Workspace

Embedding = Callable[[Config, StageRun, list[Shard]], Counts]


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Embed each modality the config names."""
    parts = shards_of(workspace, "ingest", "songs")
    return {name: embedding(name)(config, run, parts) for name in config.embed.modalities}


def embedding(modality: str) -> Embedding:
    """What embeds a modality: `embed_<modality>` of the module of its name; else own vectors do."""
    if modality not in BUILT_IN:
        return partial(embed_own, modality)
    module = import_module(f"pipelines.embed.{modality}")
    embed: Embedding = getattr(module, f"embed_{modality}")
    return embed


def _settings(config: Config) -> dict[str, Any]:
    apart = {"num_gpus", "token_budget", "compiled"}
    if not reads_text(config):
        apart.add("long")
    return {
        "embed": config.embed.model_dump(exclude={"lyrics": apart}),
        "seed": config.seed,
    }


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
    settings=_settings,
    work=work,
    source=_source,
    gpus=GPUS,
)
