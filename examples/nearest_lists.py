"""Lists for `compare.external`, made without fusionrec: nearest songs, by scikit-learn.

    python examples/nearest_lists.py WORKSPACE LISTS.parquet [--fold 0] [--neighbours 20]

reads what `fusionrec ingest` and `fusionrec split` have written, which is Parquet, and ranks the
songs that a comparison of this test fold ranks. A song is for a user what its nearest songs among
those that may be known are: the sum of their similarities, each times the logarithm of the user's
plays. Songs are alike by their artist and by their terms and tags (TF-IDF, cosine).

One list a user serves every split that the workspace has: a song that any of them has in the fold
is ranked, and nobody's plays of it are looked at. So a comparison by song does not tell it what one
by artist hides, and less is known than to a method that is asked for each split by itself. A split
by time has no folds and hides plays by when they were, also of songs that may be known: it is left
out with a line, as lists for it have to be made of the plays before its cut alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

OTHERS = 1e-3
"""What the mean of all users counts beside a user's own plays: it breaks ties, and serves who has
played nothing that is known."""


def main() -> None:
    """Read, rank and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("lists", type=Path)
    parser.add_argument("--fold", type=int, default=0, help="compare.test_folds, one of them")
    parser.add_argument("--neighbours", type=int, default=20)
    options = parser.parse_args()
    key = json.loads((options.workspace / "current.json").read_text())["stages"]["ingest"]
    ingested = options.workspace / "ingest" / key
    songs = pd.read_parquet(ingested / "songs", columns=["song_id", "artist_id", "terms", "mbtags"])
    users = pd.read_parquet(ingested / "users")["user_id"]
    plays = pd.read_parquet(ingested / "plays")  # rows of users and of songs, and how often
    ranked, known = parts(options.workspace, key, options.fold)
    near = nearest(songs, ranked, known, options.neighbours)
    weights = np.log1p(plays["plays"].to_numpy(float))
    shape = len(users), len(songs)
    history = csr_array((weights, (plays["user"], plays["song"])), shape=shape)[:, known]
    scores = (history @ near.T).toarray()
    scores += OTHERS * scores.mean(axis=0)
    ids = songs["song_id"].to_numpy()[ranked]
    order = np.argsort(-scores, axis=1, kind="stable")
    lists = pd.DataFrame({"user_id": users, "song_ids": [ids[row].tolist() for row in order]})
    lists.to_parquet(options.lists)
    print(f"{len(lists):,} lists of {len(ids):,} songs, by plays of {len(known):,} others")


def parts(workspace: Path, ingest: str, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of songs that are in the fold by any split, and of those that are in others by all."""
    folds = []
    for manifest in sorted(workspace.glob("split/*/manifest.json")):
        if json.loads(manifest.read_text())["lineage"]["ingest"] == ingest:
            table = pd.read_parquet(manifest.parent / "split", columns=["fold"])
            if (table["fold"] < 0).all():
                print(f"{manifest.parent}: a split by time, which has no folds, is left out")
                continue
            folds.append(table["fold"].to_numpy())
    if not folds:
        raise SystemExit(
            f"{workspace}: has no split of its songs into folds; run `fusionrec split` by song, "
            "artist or album first"
        )
    of_splits = np.stack(folds)
    hidden = (of_splits == fold).any(axis=0)
    left_out = (of_splits < 0).any(axis=0)
    return np.flatnonzero(hidden), np.flatnonzero(~hidden & ~left_out)


def nearest(
    songs: pd.DataFrame, ranked: np.ndarray, known: np.ndarray, neighbours: int
) -> csr_array:
    """Similarities of each ranked song to the nearest known ones, (ranked, known), sparse."""
    words = [
        [f"artist {artist}", *terms, *tags]
        for artist, terms, tags in zip(
            songs["artist_id"], songs["terms"], songs["mbtags"], strict=True
        )
    ]
    x = TfidfVectorizer(analyzer=list).fit(words[row] for row in known).transform(words)
    search = NearestNeighbors(n_neighbors=min(neighbours, len(known)), metric="cosine")
    graph = search.fit(x[known]).kneighbors_graph(x[ranked], mode="distance")
    return csr_array((1 - graph.data, graph.indices, graph.indptr), shape=graph.shape)


if __name__ == "__main__":
    main()
