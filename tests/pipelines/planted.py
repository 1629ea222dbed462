"""The best that can be known of a sample corpus's listeners: the chances by which they chose."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fusionrec.formats.sample.model import planted_scores
from pipelines.compare.folds import read_evaluation
from pipelines.runtime.workspace import Workspace


def optimum(corpus: Path, fold: Workspace) -> NDArray[np.float64]:
    """Average precision of each user of a comparison's fold, of the planted chances' order."""
    songs = pd.read_csv(corpus / "truth_songs.tsv", sep="\t")
    songs = songs.drop_duplicates("song").set_index("song")  # of a song's tracks, any
    users = pd.read_csv(corpus / "truth_users.tsv", sep="\t").set_index("user")
    evaluation = read_evaluation(fold)
    ids = fold.read("ingest", "songs", ["song_id"])["song_id"].to_pylist()
    names = fold.read("ingest", "users")["user_id"].to_pylist()
    own = songs.loc[[ids[code] for code in evaluation.candidates]]
    scores = planted_scores(
        users.loc[[names[code] for code in evaluation.users]].to_numpy(),
        own[list(users.columns)].to_numpy(),
        own["popularity"].to_numpy(),
    )
    relevant = evaluation.relevant
    found = []
    for user, row in enumerate(scores):
        liked = relevant.songs[relevant.indptr[user] : relevant.indptr[user + 1]]
        hits = np.isin(np.argsort(-row), liked)
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        found.append((precision * hits).sum() / hits.sum())
    return np.array(found)
