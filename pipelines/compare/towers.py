"""The fusion network on taste instead of classes: methods `fusion-factors`, `fusion-ranking`.

Its inputs are all modalities fused, and it is trained on training songs as the paper's network is;
validation songs are for early stopping, if `train.patience` asks for it. (With hundreds of songs
their squared error is lowest after few epochs, long before the ranking is best.) Of the test songs
it sees the content.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch

from fusionrec.models.ranking import RankingTraining
from fusionrec.models.settings import RankingSettings, Settings
from fusionrec.models.song_tower import SongInputs
from fusionrec.models.to_factors import FactorTraining
from fusionrec.signals.histories import Histories
from pipelines.compare import content
from pipelines.compare.context import Context, Scores
from pipelines.compare.folds import features_workspace
from pipelines.config import Config, replaced
from pipelines.runtime.stage import Json
from pipelines.train.examples import fused_blocks, fusion_settings, read_songs

SHARED = {
    *("eta", "p", "weight_decay", "norm_group", "schedule", "patience", "evaluate_every", "dtype"),
    "modality_dropout",
}
"""The settings of the paper's network that these have, too."""


def settings_key(config: Config, method: Literal["factors", "ranking"]) -> Mapping[str, Json]:
    """What of the config a method depends on, besides the factors' stage."""
    train, towers = config.train, config.compare.towers
    if method == "factors":
        of_train = train.model_dump(mode="json", include=SHARED | {"epochs", "batch_size"})
        own = towers.model_dump(mode="json", include={"loss"})
    else:
        of_train = train.model_dump(mode="json", include=SHARED)
        own = towers.model_dump(mode="json", exclude={"loss"})
    return {"train": of_train, "towers": own, "wmf": config.compare.wmf.model_dump(mode="json")}


def to_factors(context: Context) -> Scores:
    """Factors of the songs predicted from content; users have their own."""
    inputs, known = song_inputs(context)
    X, Y = content.targets(context)
    train, validation = content.parts(context, known, Y)
    loss = context.config.compare.towers.loss
    model = FactorTraining(
        inputs,
        Y,
        train=train,
        validation=validation,
        loss=loss,
        settings=training_settings(context, context.config.train.epochs),
        feedback=content.feedback(context, np.arange(len(Y)), X) if loss == "wpe" else None,
    ).run()
    evaluation = context.evaluation
    F = model.predict(inputs.x[evaluation.candidates], inputs.present[evaluation.candidates])
    return Scores(F, X[evaluation.users], int((~known[evaluation.candidates]).sum()))


def ranking(context: Context) -> Scores:
    """Two towers."""
    inputs, known = song_inputs(context)
    X, Y = content.targets(context)
    train, validation = content.parts(context, known, Y)
    users, songs, counts = context.plays(("train", "validation"))
    plays = Histories.of(users, songs, counts, (len(X), len(Y)))
    model = RankingTraining(
        inputs,
        plays,
        Y,
        train=train,
        validation=validation,
        settings=training_settings(context, context.config.compare.towers.epochs),
        ranking=context.config.compare.towers.fill(RankingSettings),
    ).run()
    evaluation = context.evaluation
    content_F = model.content(inputs.x, inputs.present)
    # As in training: of a song without inputs, the factors say nothing either.
    of_usable = np.zeros_like(Y)
    for rows in (train, validation):
        of_usable[rows] = Y[rows]
    V = model.users(model.warm(content_F, of_usable), plays.counts, evaluation.users)
    return Scores(content_F[evaluation.candidates], V, int((~known[evaluation.candidates]).sum()))


def training_settings(context: Context, epochs: int) -> Settings:
    torch.set_num_threads(1)
    return context.config.train.fill(Settings, seed=context.seed, epochs=epochs)


def song_inputs(context: Context) -> tuple[SongInputs, np.ndarray]:
    """Fused features of all songs, zeros for a song without any; who has some, bool (S,)."""
    config = replaced(context.config, {"fuse.operator": "concatenate"})
    workspace = features_workspace(config, context.workspace, config.embed.modalities)
    songs = read_songs(workspace)
    rows = context.rows(songs.ids)
    x = np.zeros((len(context.song_ids), songs.x.shape[1]), np.float32)
    present = np.zeros((len(x), songs.present.shape[1]), bool)
    x[rows], present[rows] = songs.x, songs.present
    fusion = fusion_settings(config, fused_blocks(workspace))
    return SongInputs(x, present, fusion), np.asarray(present.any(axis=1))
