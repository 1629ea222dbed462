"""How well a network knows the classes, and how much of that an artist look-up would know."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from fusionrec.evaluation.classes import class_quality, mutual_information
from fusionrec.report.summary import ClassMeasures
from fusionrec.tables import matrix
from pipelines.compare.context import Context
from pipelines.runtime.workspace import Workspace


def network_quality(context: Context, trained: Workspace, F: np.ndarray) -> ClassMeasures:
    """Measures of the classes on the test songs that have one.

    Parameters
    ----------
    trained
        Where the labels are.
    F
        Class probabilities of all songs, (S, k).

    Returns
    -------
    `nmi` is of predicted and true classes. Empty without labelled songs of both parts.
    """
    labels = trained.read("label", "labels", ["song_id", "class"])
    rows, true = context.rows(labels["song_id"]), labels["class"].to_numpy()
    of_song = np.full(len(F), -1)
    of_song[rows] = true
    part = context.evaluation.part
    test, fitted = (
        np.flatnonzero((of_song >= 0) & chosen)
        for chosen in (part == "test", (part == "train") | (part == "validation"))
    )
    if not len(test) or not len(fitted):
        return {}
    artists = context.column("artist_id")
    # A song without an artist shares it with no other.
    artists = pc.if_else(pc.equal(pc.fill_null(artists, ""), ""), context.song_ids, artists)
    artists = artists.to_numpy(zero_copy_only=False)
    predicted = F[test].argmax(axis=1)
    lists = trained.read("label", "label_vectors", ["vector", "class", "songs"])
    of_list = np.repeat(np.arange(lists.num_rows), lists["songs"].to_numpy())
    measured = class_quality(
        predicted,
        of_song[fitted],
        of_song[test],
        train_artists=artists[fitted],
        test_artists=artists[test],
        vectors=matrix(lists["vector"])[of_list],
        vector_classes=lists["class"].to_numpy()[of_list],
        seed=context.config.seed,
    )
    return {
        "accuracy": measured.accuracy,
        "macro_f1": measured.macro_f1,
        "majority": measured.majority_level,
        "lookup_accuracy": measured.artist_lookup.accuracy,
        "lookup_known": measured.artist_lookup.share_known,
        "nmi": mutual_information(predicted, of_song[test]),
        "silhouette": measured.silhouette,
    }
