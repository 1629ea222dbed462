"""Two towers on a graph of songs and artists: method `hgnn`.

Fed with all modalities fused, as `fusion-ranking` is. Edges come of the plays and the artists of
training songs; test songs are added when it is trained.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch

from fusionrec.models.graph import song_graph
from fusionrec.models.hgnn import GraphTraining
from fusionrec.models.settings import GraphSettings, RankingSettings, Settings
from fusionrec.signals.histories import Histories
from fusionrec.signals.songs import codes
from pipelines.compare import content
from pipelines.compare.context import Context, Scores
from pipelines.config import Config
from pipelines.runtime.stage import Json


def settings_key(config: Config) -> Mapping[str, Json]:
    """What of the config the method depends on, besides the factors' stage."""
    shared = {"eta", "p", "weight_decay", "schedule", "patience", "evaluate_every", "dtype"}
    compare = config.compare
    return {
        "train": config.train.model_dump(mode="json", include=shared),
        "towers": compare.towers.model_dump(mode="json", exclude={"loss"}),
        "hgnn": compare.hgnn.model_dump(mode="json"),
        "scope": compare.wmf.scope,
    }


def scores(context: Context) -> Scores:
    """Train it, and give all candidates and users vectors."""
    config, evaluation = context.config, context.evaluation
    inputs = content.fused_inputs(context)
    X, Y = content.targets(context)
    train, validation = content.parts(context, inputs.known, Y)
    users, songs, counts = context.plays(("train", "validation"))
    plays = Histories.of(users, songs, counts, (len(X), len(Y)))
    shape = config.compare.hgnn.fill(GraphSettings)
    graph = song_graph(
        inputs.x,
        plays.without(~np.isin(np.arange(len(Y)), train)),
        codes(pa.chunked_array([context.column("artist_id")])),
        train,
        nearest=shape.nearest,
        unseen_artists=config.split.by == "artist",
    )
    torch.set_num_threads(1)
    model = GraphTraining(
        inputs.x,
        plays,
        graph,
        train=train,
        validation=validation,
        settings=config.train.fill(
            Settings, seed=context.seed, epochs=config.compare.towers.epochs
        ),
        ranking=config.compare.towers.fill(RankingSettings),
        shape=shape,
    ).run()
    F = model.vectors[evaluation.candidates]
    unknown = int((~inputs.known[evaluation.candidates]).sum())
    return Scores(F, model.users(plays.counts, evaluation.users), unknown)
