"""The methods of the comparison: each gives all candidates and users vectors (paper 5.4).

A method is a function of a fold that returns :class:`Scores`; score(u, s) = V_u . F(s) for all
of them. What needs random numbers takes the job's seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pyarrow.compute as pc
import torch

from fusionrec.models.epochs import precision
from fusionrec.models.examples import InMemory
from fusionrec.models.training import Training, predict
from pipelines import blend, train
from pipelines.blend.stage import fit
from pipelines.compare import content as content
from pipelines.compare import dlrm, external, hgnn, own, towers
from pipelines.compare.context import Context, Listed, Own, Scores
from pipelines.compare.folds import (
    features_workspace,
    labels_workspace,
    read_factors,
)
from pipelines.compare.quality import network_quality
from pipelines.config import Config, replaced
from pipelines.config.compare import EXTERNAL, Method, is_own
from pipelines.config.features import Operator
from pipelines.runtime.stage import Json
from pipelines.runtime.workspace import Workspace
from pipelines.train.examples import load_training_set, read_songs

_RANDOM_DIMENSIONS = 16


# --- without content ---------------------------------------------------------------------


def _random(context: Context) -> Scores:
    generator = np.random.default_rng(context.seed)
    shapes = (len(context.evaluation.candidates), len(context.evaluation.users))
    # Scores of independent normal vectors: every order of the songs is as likely, for any user.
    F, V = (generator.standard_normal((n, _RANDOM_DIMENSIONS), dtype=np.float32) for n in shapes)
    return Scores(F, V)


def _popularity(context: Context) -> Scores:
    """Plays of the artist's training songs."""
    artists = pc.fill_null(context.column("artist_id"), "")
    coded = artists.dictionary_encode()
    code = coded.indices.to_numpy()
    total = np.bincount(code, context.plays_by_song(("train", "validation")))
    unknown = (artists.to_numpy(zero_copy_only=False) == "") | (total[code] == 0)
    scores = context.one_for_all(np.where(unknown, 0, np.log1p(total)[code]))
    return replace(scores, without_input=int(unknown[context.evaluation.candidates].sum()))


def _hotttnesss(context: Context) -> Scores:
    values = context.column("artist_hotttnesss").to_numpy(zero_copy_only=False)
    scores = context.one_for_all(np.nan_to_num(values, nan=0.0))
    unknown = np.isnan(values)[context.evaluation.candidates]
    return replace(scores, without_input=int(unknown.sum()))


# --- references, which see the test songs' plays or tags ---------------------------------


def _wmf(context: Context) -> Scores:
    X, Y = read_factors(context.workspace, "all")
    return Scores(Y[context.evaluation.candidates], X[context.evaluation.users])


def _popularity_oracle(context: Context) -> Scores:
    return context.one_for_all(np.log1p(context.plays_by_song(("test",))))


def _classes(context: Context) -> Scores:
    """The true classes instead of the network's: a perfect classifier's ranking."""
    assert context.fusion is not None
    workspace = labels_workspace(context.config, context.workspace, context.fusion.k)
    table = workspace.read("label", "labels")
    rows = context.rows(table["song_id"])
    F = np.zeros((len(context.song_ids), context.fusion.k), np.float32)
    F[rows, table["class"].to_numpy()] = 1
    # A user all of whose songs are without a class has no preference.
    without = int((F[context.evaluation.candidates].sum(1) == 0).sum())
    return context.of_profiles(F, without_input=without)


# --- the paper's network -----------------------------------------------------------------


def _network(context: Context) -> Scores:
    """Train the fusion network in this process, and rank by its softmax output."""
    assert context.fusion is not None
    torch.set_num_threads(1)
    k, modalities = context.fusion.k, context.fusion.modalities
    operator = context.fusion.operator
    values = {"label.k": k, "fuse.modalities": modalities, "fuse.operator": operator}
    config = replaced(context.config, values)
    trained = features_workspace(context.config, context.workspace, modalities, operator)
    trained = labels_workspace(context.config, trained, k)
    data = load_training_set(config, trained)
    settings = replace(train.settings_of(config), seed=context.seed)
    feed = InMemory(
        data,
        batch_size=settings.batch_size,
        seed=settings.seed,
        norm_group=settings.norm_group,
        dtype=precision(settings.dtype, "cpu")[1],
    )
    training = Training(feed, settings)
    while not training.finished:
        training.run_epoch()
    network = training.result()
    songs = read_songs(trained)
    probabilities, _ = predict(network, songs.x, songs.present)
    F = np.full((len(context.song_ids), k), 1 / k, np.float32)
    rows = context.rows(songs.ids)
    F[rows] = probabilities
    known = np.zeros(len(F), bool)
    known[rows] = True
    unknown = int((~known[context.evaluation.candidates]).sum())
    return context.of_profiles(
        F, without_input=unknown, measures=network_quality(context, trained, F)
    )


# --- the blend ---------------------------------------------------------------------------


def _blend(context: Context) -> Scores:
    """All signals that the blend is made of, weighted by a simulated cold start."""
    assert context.blend is not None
    where, _ = _embedded(context)
    found, _ = fit(context.config, where, context.blend, context.seed)
    evaluation = context.evaluation
    F, V = found.F[evaluation.candidates], found.V[evaluation.users]
    return Scores(F, V, without_input=int((~F.any(axis=1)).sum()))


# --- all of them -------------------------------------------------------------------------


@dataclass(frozen=True)
class MethodSpec:
    """How a method is computed, and what its result depends on.

    Attributes
    ----------
    scores
        The method.
    seeded
        It has random numbers of its own.
    inputs
        Stages of the fold it reads, besides the songs, plays, users and the split.
    settings
        What of the config it depends on, besides those stages'.
    """

    scores: Callable[[Context], Scores | Listed]
    seeded: bool = False
    inputs: Callable[[Context], list[tuple[Workspace, str]]] = lambda context: []
    settings: Callable[[Config], Mapping[str, Json]] = lambda config: {}


def _weighting(config: Config) -> Mapping[str, Json]:
    return {"weighting": config.recommend.weighting}


def _audio_inputs(context: Context) -> list[tuple[Workspace, str]]:
    return [(context.workspace, "audio_words"), (context.workspace, "factors")]


def _label_input(context: Context) -> list[tuple[Workspace, str]]:
    assert context.fusion is not None
    return [(labels_workspace(context.config, context.workspace, context.fusion.k), "label")]


def _network_inputs(context: Context) -> list[tuple[Workspace, str]]:
    assert context.fusion is not None
    run = context.fusion
    return [_features_input(context, run.modalities, run.operator), *_label_input(context)]


def _fused_inputs(context: Context) -> list[tuple[Workspace, str]]:
    return [
        _features_input(context, context.config.embed.modalities),
        (context.workspace, "factors"),
    ]


def _embedded(context: Context) -> tuple[Workspace, str]:
    """Where the vectors of all modalities are, before they are fused."""
    where, _ = _features_input(context, context.config.embed.modalities)
    return where, "embed"


def _features_input(
    context: Context, modalities: Sequence[str], operator: Operator = "concatenate"
) -> tuple[Workspace, str]:
    return features_workspace(context.config, context.workspace, modalities, operator), "fuse"


def _compare_settings(*sections: str) -> Callable[[Config], Mapping[str, Json]]:
    def settings(config: Config) -> Mapping[str, Json]:
        compare = config.compare.model_dump(mode="json", include=set(sections))
        return {**compare, "scope": config.compare.wmf.scope}

    return settings


SPECS: dict[Method, MethodSpec] = {
    "random": MethodSpec(_random, seeded=True),
    "popularity": MethodSpec(_popularity),
    "hotttnesss": MethodSpec(_hotttnesss),
    "mlr": MethodSpec(
        content.metric_to_rank,
        inputs=_audio_inputs,
        settings=_compare_settings("mlr", "audio_words"),
    ),
    "linear": MethodSpec(
        lambda context: content.linear(context, content.bag_inputs(context)),
        inputs=_audio_inputs,
        settings=_compare_settings("audio_words"),
    ),
    "mlp": MethodSpec(
        content.perceptron, True, _audio_inputs, _compare_settings("neural", "audio_words")
    ),
    "cnn-mse": MethodSpec(
        lambda context: content.convolutional(context, "mse"),
        True,
        lambda context: [(context.workspace, "factors")],
        _compare_settings("neural"),
    ),
    "cnn-wpe": MethodSpec(
        lambda context: content.convolutional(context, "wpe"),
        True,
        lambda context: [(context.workspace, "factors")],
        _compare_settings("neural", "wmf"),
    ),
    "fusion": MethodSpec(
        _network,
        True,
        _network_inputs,
        lambda config: {
            **train.key_settings(train.of_classes(config)),
            **_weighting(config),
            "version": train.STAGE.version,
        },
    ),
    "linear-features": MethodSpec(
        lambda context: content.linear(context, content.fused_inputs(context)),
        inputs=_fused_inputs,
        settings=_compare_settings(),
    ),
    "fusion-factors": MethodSpec(
        towers.to_factors,
        True,
        _fused_inputs,
        lambda config: towers.settings_key(config, "factors"),
    ),
    "fusion-ranking": MethodSpec(
        towers.ranking,
        True,
        _fused_inputs,
        lambda config: towers.settings_key(config, "ranking"),
    ),
    "hgnn": MethodSpec(hgnn.scores, True, _fused_inputs, hgnn.settings_key),
    "dlrm": MethodSpec(dlrm.scores, True, _fused_inputs, dlrm.settings_key),
    "blend": MethodSpec(
        _blend,
        True,
        lambda context: [_embedded(context)],
        lambda config: {**blend.key_settings(config), "version": blend.STAGE.version},
    ),
    "wmf": MethodSpec(_wmf, inputs=lambda context: [(context.workspace, "factors")]),
    "classes": MethodSpec(_classes, inputs=_label_input, settings=_weighting),
    "popularity-oracle": MethodSpec(_popularity_oracle),
}
"""Every built-in method by its name in `compare.methods`."""

_OWN = MethodSpec(own.scores, True, lambda context: [_embedded(context)])
_EXTERNAL = MethodSpec(external.listed)


def spec_of(method: str) -> MethodSpec:
    """The specification of a method, a built-in one, of one's own, or of lists made elsewhere."""
    if method == EXTERNAL:
        return _EXTERNAL
    return _OWN if is_own(method) else SPECS[cast(Method, method)]


def is_seeded(method: str, owns: Mapping[str, Own]) -> bool:
    """Whether it is computed once a seed."""
    return owns[method].seeded if method in owns else spec_of(method).seeded


def diversity_vectors(context: Context) -> np.ndarray:
    """What makes two songs alike in the lists of every method: all modalities, fused (S, d)."""
    return content.fused_inputs(context).x


def inputs(method: str, context: Context) -> list[tuple[Workspace, str]]:
    """Stages of the fold that a method's result is made from, and where each is read."""
    fold = context.workspace
    shared = [(fold, "ingest"), (fold, "split"), (fold, "users")]
    # All modalities, fused, say how diverse the lists are, whatever the method.
    alike = _features_input(context, context.config.embed.modalities)
    return [*shared, alike, *spec_of(method).inputs(context)]


def key(method: str, context: Context) -> Mapping[str, Json]:
    """What a method's result on a fold depends on."""
    spec, read = spec_of(method), inputs(method, context)
    seeded = context.own.seeded if context.own else spec.seeded
    return {
        "method": method,
        "fusion": context.fusion.model_dump(mode="json") if context.fusion else None,
        **({"blend": context.blend.model_dump(mode="json")} if context.blend else {}),
        **({"code": context.own.code} if context.own else {}),
        **({"file": context.external.file} if context.external else {}),
        "seed": context.seed if seeded else None,
        "base_seed": context.config.seed,
        "top": context.config.recommend.top,
        "lists": context.config.compare.lists,
        "settings": spec.settings(context.config),
        "inputs": [where.require(stage)["identity"] for where, stage in read],
    }
