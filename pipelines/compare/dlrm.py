"""Two towers with a song tower of DLRM's form: method `dlrm`.

Dense features are all modalities fused, as `fusion-ranking` is fed with; fields are a song's
artist, release, MusicBrainz tags and Echo Nest terms. Tables have rows for what training songs
have; test songs are looked up in them when it is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pyarrow.compute as pc

from fusionrec.models.categories import categories, singles
from fusionrec.models.dlrm import DlrmTraining, Field
from fusionrec.models.settings import DlrmSettings, RankingSettings
from fusionrec.signals.histories import Histories
from pipelines.compare import content, towers
from pipelines.compare.context import Context, Scores
from pipelines.config import Config
from pipelines.runtime.stage import Json


def settings_key(config: Config) -> Mapping[str, Json]:
    """What of the config the method depends on, besides the factors' stage."""
    compare = config.compare
    return {
        "train": config.train.model_dump(mode="json", include=towers.SHARED - {"norm_group"}),
        "towers": compare.towers.model_dump(mode="json", exclude={"loss"}),
        "dlrm": compare.dlrm.model_dump(mode="json"),
        "wmf": compare.wmf.model_dump(mode="json"),
    }


def scores(context: Context) -> Scores:
    """Train it, and give all candidates and users vectors."""
    compare, evaluation = context.config.compare, context.evaluation
    inputs, known = towers.song_inputs(context)
    X, Y = content.targets(context)
    train, validation = content.parts(context, known, Y)
    users, songs, counts = context.plays(("train", "validation"))
    plays = Histories.of(users, songs, counts, (len(X), len(Y)))
    shape = compare.dlrm.fill(DlrmSettings)
    model = DlrmTraining(
        inputs,
        fields(context, train, shape),
        plays,
        Y,
        train=train,
        validation=validation,
        settings=towers.training_settings(context, compare.towers.epochs),
        ranking=compare.towers.fill(RankingSettings),
        shape=shape,
    ).run()
    V = model.users(plays.counts, evaluation.users)
    F = model.content[evaluation.candidates]
    return Scores(F, V, int((~known[evaluation.candidates]).sum()))


def fields(context: Context, train: np.ndarray, shape: DlrmSettings) -> Mapping[str, Field]:
    """Of all songs, by name; `train` are rows of the training songs."""
    of = partial(categories, train=train, most=shape.rows, seed=context.seed)
    artists, releases = context.column("artist_id"), context.column("release")
    # A title as "Greatest Hits" is a release of each of its artists; null where either is.
    known = pc.and_(pc.not_equal(artists, ""), pc.not_equal(releases, ""))
    albums = pc.if_else(known, pc.binary_join_element_wise(artists, releases, "\x1f"), None)
    tags, votes = context.column("mbtags"), context.column("mbtag_counts")
    terms, weights = context.column("terms"), context.column("term_weights")
    return {
        "artist": Field(of(singles(artists)), shape.unknown),
        "release": Field(of(singles(albums)), shape.unknown, "artist"),
        "mbtags": Field(of(tags, votes), shape.untagged),
        "terms": Field(of(terms, weights), shape.untagged),
    }
