"""The baselines that learn from content: to factors, or a metric (van den Oord et al. 2013).

A song without what a method is fed with gets the mean of its inputs: it stays a candidate, and
is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from scipy.sparse import csr_array

from fusionrec.baselines.cnn import fit_cnn
from fusionrec.baselines.factor_loss import Feedback
from fusionrec.baselines.factorisation import confidence
from fusionrec.baselines.mlr import fit_metric, profile_vectors, relevant_by_listeners, song_factors
from fusionrec.baselines.regression import fit_linear, fit_mlp
from fusionrec.errors import DataError
from fusionrec.features.audio_words import fit_projection
from fusionrec.hashing import stable_hash
from fusionrec.ranking.users import user_vectors
from pipelines.compare import audio_words
from pipelines.compare.context import Context, Scores
from pipelines.compare.folds import features_workspace, read_factors
from pipelines.runtime.workspace import part_number
from pipelines.train.examples import read_songs


@dataclass(frozen=True)
class Inputs:
    """What a content model is fed with.

    Attributes
    ----------
    x
        Float32 (S, d); zeros, the training mean, for a song without.
    known
        Bool (S,).
    """

    x: np.ndarray
    known: np.ndarray


def bag_inputs(context: Context) -> Inputs:
    """Bags of audio words as term frequencies reduced by PCA, fitted on training songs."""
    settings = context.config.compare.audio_words
    table = context.workspace.read("audio_words", "bags").combine_chunks()
    rows = context.rows(table["song_id"])
    lengths = pc.list_value_length(table["words"]).to_numpy()
    bags = csr_array(
        (
            pc.list_flatten(table["counts"]).to_numpy().astype(np.float32),
            pc.list_flatten(table["words"]).to_numpy(),
            np.concatenate([[0], np.cumsum(lengths)]),
        ),
        shape=(len(rows), settings.codewords),
    )
    fitted = context.evaluation.part[rows] == "train"
    projection = fit_projection(bags[fitted], settings.variance)
    reduced, has_frames = projection.transform(bags)
    x = np.zeros((len(context.song_ids), reduced.shape[1]), np.float32)
    x[rows] = reduced
    known = np.zeros(len(x), bool)
    known[rows] = has_frames
    return Inputs(x, known)


def fused_inputs(context: Context) -> Inputs:
    """All modalities, as the network is fed with them."""
    features = features_workspace(
        context.config, context.workspace, context.config.embed.modalities
    )
    songs = read_songs(features)
    rows = context.rows(songs.ids)
    x = np.zeros((len(context.song_ids), songs.x.shape[1]), np.float32)
    x[rows] = songs.x
    known = np.zeros(len(x), bool)
    known[rows] = True
    return Inputs(x, known)


def targets(context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Factors of all users and songs; a song's are zeros where no play of it may be seen."""
    return read_factors(context.workspace, context.config.compare.wmf.scope)


def _to_factors(context: Context, predicted: np.ndarray, unknown: int) -> Scores:
    X, _ = targets(context)
    users = X[context.evaluation.users]
    return Scores(predicted.astype(np.float32), users, unknown)


def parts(context: Context, known: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation songs that have both inputs and factors."""
    usable = known & (Y != 0).any(axis=1)
    part = context.evaluation.part
    fitted, held = (np.flatnonzero(usable & (part == name)) for name in ("train", "validation"))
    if len(fitted) < 2:
        raise DataError(
            f"only {len(fitted)} training songs have both inputs and plays: there is nothing to "
            "learn factors from"
        )
    return fitted, held


def linear(context: Context, inputs: Inputs) -> Scores:
    _, Y = targets(context)
    fitted, held = parts(context, inputs.known, Y)
    validation = (inputs.x[held], Y[held]) if len(held) else None
    model = fit_linear(inputs.x[fitted], Y[fitted], validation=validation)
    return _predicted(context, inputs, model.predict)


def _predicted(
    context: Context, inputs: Inputs, predict: Callable[[np.ndarray], np.ndarray]
) -> Scores:
    candidates = context.evaluation.candidates
    unknown = int((~inputs.known[candidates]).sum())
    return _to_factors(context, predict(inputs.x[candidates]), unknown)


def perceptron(context: Context) -> Scores:
    inputs, settings = bag_inputs(context), context.config.compare.neural
    _, Y = targets(context)
    fitted, held = parts(context, inputs.known, Y)
    model = fit_mlp(
        inputs.x[fitted],
        Y[fitted],
        validation=(inputs.x[held], Y[held]) if len(held) else None,
        hidden=settings.hidden,
        eta=settings.eta,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        patience=settings.patience,
        seed=context.seed,
    )
    return _predicted(context, inputs, model.predict)


def metric_to_rank(context: Context) -> Scores:
    """Metric learning to rank; a song's score is its mean similarity to the user's songs."""
    inputs, settings = bag_inputs(context), context.config.compare.mlr
    users, songs, _ = context.plays(("train",))
    chosen = np.flatnonzero(inputs.known & (context.evaluation.part == "train"))
    key = stable_hash(
        context.song_ids.take(pa.array(chosen)).to_pylist(), seed=context.config.seed, purpose="mlr"
    )
    chosen = np.sort(chosen[np.argsort(key, kind="stable")[: settings.queries]])
    position = np.full(len(inputs.x), -1)
    position[chosen] = np.arange(len(chosen))
    rows = position[songs] >= 0
    indptr, similar = relevant_by_listeners(
        users[rows], position[songs[rows]], n_songs=len(chosen), top=settings.similar
    )
    metric = fit_metric(
        inputs.x[chosen],
        indptr,
        similar,
        C=settings.slack,
        iterations=settings.iterations,
    )
    evaluation, profiles = context.evaluation, context.evaluation.profiles
    P = profile_vectors(metric, inputs.x)
    V = user_vectors(profiles.indptr, profiles.songs, profiles.plays, P, "binary")
    unknown = int((~inputs.known[evaluation.candidates]).sum())
    return Scores(song_factors(metric, inputs.x[evaluation.candidates]), V, unknown)


def convolutional(context: Context, loss: Literal["mse", "wpe"]) -> Scores:
    """A convolutional network from segments to factors, by squared or weighted error."""
    torch.set_num_threads(1)
    settings = context.config.compare.neural
    X, Y = targets(context)
    fitted, held = parts(context, np.ones(len(Y), bool), Y)
    songs = np.concatenate([fitted, held])
    key = stable_hash(
        context.song_ids.take(pa.array(songs)).to_pylist(), seed=context.config.seed, purpose="cnn"
    )
    chosen = songs[np.argsort(key, kind="stable")[: settings.cnn_songs]]
    found = list(_segments(context, chosen))
    songs = np.concatenate([rows for rows, _, _ in found])
    lengths = np.concatenate([np.diff(offsets) for _, offsets, _ in found])
    frames = np.concatenate([frames for _, _, frames in found])
    del found
    model = fit_cnn(
        np.concatenate([[0], np.cumsum(lengths)]),
        frames,
        Y[songs],
        loss=loss,
        feedback=feedback(context, songs, X) if loss == "wpe" else None,
        validation_rows=np.flatnonzero(np.isin(songs, held)),
        segments=settings.segments,
        eta=settings.eta,
        batch_size=settings.batch_size,
        epochs=settings.cnn_epochs,
        patience=settings.patience,
        seed=context.seed,
    )
    del frames
    candidates = context.evaluation.candidates
    predicted = np.tile(Y[songs].mean(axis=0), (len(candidates), 1))
    known = np.zeros(len(candidates), bool)
    for rows, offsets, frames in _segments(context, candidates):
        columns = np.searchsorted(candidates, rows)
        predicted[columns] = model.predict(offsets, frames)
        known[columns] = True
    return _to_factors(context, predicted, int((~known).sum()))


def _segments(
    context: Context, songs: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """These songs' segments, a part of the corpus at a time (100 kB a song).

    Codes of the songs that have any, ascending (n,); where each one's begin (n + 1,); timbre
    and pitches, float32 (total, 24).
    """
    wanted = context.song_ids.take(pa.array(songs))
    for name in context.workspace.parts("ingest", "segments"):
        found, segments = audio_words.segments_of(context.workspace, part_number(name), wanted)
        lengths = pc.list_value_length(segments["timbre"]).to_numpy()
        frames = [
            pc.list_flatten(pc.list_flatten(segments[name])).to_numpy().reshape(-1, 12)
            for name in ("timbre", "pitches")
        ]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        yield context.rows(found["song_id"]), offsets, np.hstack(frames).astype(np.float32)


def feedback(context: Context, songs: np.ndarray, X: np.ndarray) -> Feedback:
    """Who plays these songs, with what confidence."""
    wmf = context.config.compare.wmf
    users, played, counts = context.plays(("train", "validation"))
    position = np.full(len(context.song_ids), -1)
    position[songs] = np.arange(len(songs))
    rows = position[played] >= 0
    c = confidence(counts[rows], wmf.alpha, wmf.epsilon)
    return Feedback.by_song(X, position[played[rows]], users[rows], c, len(songs))
