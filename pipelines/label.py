"""Label: tag lists into vectors, and vectors into k classes (paper 3.1.1, 3.1.2, 5.1).

One task reads the tags of all songs (about 100 MB for the paper's 116,479 tagged songs)
and reduces them to the distinct lists (3,063 there), on which everything else works.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fusionrec import schemas
from fusionrec.errors import DataError
from fusionrec.labels.classes import Classes, fit_kmeans
from fusionrec.labels.embedding import MultiHot, TagWord2Vec, distinct_lists, known_tags
from fusionrec.tables import vectors
from pipelines import ingest, split
from pipelines.config import Config
from pipelines.ingest.tables import is_tables
from pipelines.runtime import tasks
from pipelines.runtime.command import as_command
from pipelines.runtime.stage import Counts, Stage
from pipelines.runtime.workspace import StageRun, Workspace
from pipelines.split import LEFT_OUT


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Fit and apply the classes in one task."""
    return tasks.run_task(run, _label, config, run)


@dataclass(frozen=True)
class TaggedSongs:
    """The songs with tags, reduced to their distinct tag lists.

    Attributes
    ----------
    ids
        Song ids, Arrow strings (N,).
    lists
        The distinct tag lists, L of them.
    codes
        Each song's list, int64 (N,).
    fitted
        Songs of each list that embedding and clusters may see, int64 (L,).
    untagged
        Songs without tags.
    """

    ids: pa.ChunkedArray
    lists: list[tuple[str, ...]]
    codes: np.ndarray
    fitted: np.ndarray
    untagged: int


def tagged_songs(config: Config, workspace: Workspace) -> TaggedSongs:
    """The tags of the songs of the split.

    Raises
    ------
    DataError
        If no song to be fitted on has tags.
    """
    label = config.label
    table = workspace.read("ingest", "songs", ["song_id", label.source])
    part = workspace.read("split", "split", ["part"])["part"].to_numpy(zero_copy_only=False)
    tag_lists = [tags or [] for tags in table[label.source].to_pylist()]
    tagged = np.array([bool(tags) for tags in tag_lists])
    used = tagged & (part != LEFT_OUT)
    seen = used if label.fit_on == "all" else used & (part == "train")
    if not seen.any():
        more = "name artist_term.db in source.artist_terms"
        if is_tables(config):
            more = "give source.tables.songs a column of tags"
        raise DataError(
            f"no song of the {label.fit_on} part has {label.source}: nothing to learn classes "
            f"from; set label.source to the other kind of tags, {more}, or learn from the plays: "
            "train.objective: factors"
        )
    lists, codes, _ = distinct_lists([tag_lists[i] for i in np.flatnonzero(used)])
    return TaggedSongs(
        table["song_id"].filter(pa.array(used)),
        lists,
        codes,
        np.bincount(codes[seen[used]], minlength=len(lists)),
        int((~tagged).sum()),
    )


def embed_lists(config: Config, songs: TaggedSongs) -> tuple[np.ndarray, tuple[str, ...]]:
    """Label vectors of the distinct lists, float32 (L, m), and the tags that have a vector."""
    label, fitted = config.label, np.flatnonzero(songs.fitted)
    lists = [songs.lists[i] for i in fitted]
    embedding: MultiHot | TagWord2Vec
    if label.embedding == "multihot":
        embedding = MultiHot.fit(lists)
    else:
        embedding = TagWord2Vec.fit(
            lists,
            dimension=label.dimension,
            epochs=label.epochs,
            seed=config.seed,
            counts=songs.fitted[fitted],
        )
    return embedding.transform(songs.lists), embedding.tags


def fit_classes(config: Config, songs: TaggedSongs, list_vectors: np.ndarray) -> Classes:
    """The k classes, fitted on the lists that may be seen."""
    fitted = songs.fitted > 0
    return fit_kmeans(
        list_vectors[fitted],
        config.label.k,
        sample_weight=songs.fitted[fitted],
        seed=config.seed,
    )


def _label(config: Config, run: StageRun) -> Counts:
    songs = tagged_songs(config, run.workspace)
    list_vectors, tags = embed_lists(config, songs)
    classes = fit_classes(config, songs, list_vectors)
    of_list, distance = classes.predict(list_vectors)
    run.write(
        pa.table(
            {
                "song_id": songs.ids,
                "class": pa.array(of_list[songs.codes], pa.int32()),
                "distance": pa.array(distance[songs.codes], pa.float32()),
            },
            schema=schemas.LABELS,
        ),
        "labels",
    )
    counts = np.bincount(songs.codes, minlength=len(songs.lists))
    run.write(
        pa.table(
            {
                "tags": pa.array([list(tags) for tags in songs.lists], pa.list_(pa.string())),
                "class": pa.array(of_list, pa.int32()),
                "songs": pa.array(counts, pa.int32()),
                "fitted_songs": pa.array(songs.fitted, pa.int32()),
                "vector": vectors(list_vectors),
            }
        ),
        "label_vectors",
    )
    run.write(pa.table({"centroid": vectors(classes.centroids)}), "centroids")
    sizes = np.bincount(of_list[songs.codes], minlength=config.label.k)
    unseen = known_tags(songs.lists, tags) == 0
    return {
        "tagged_songs": len(songs.codes),
        "songs_without_tags": songs.untagged,
        "songs_with_unseen_tags_only": int(unseen[songs.codes].sum()),
        "distinct_tag_lists": len(songs.lists),
        "distinct_tags": len({tag for tags in songs.lists for tag in tags}),
        "classes": config.label.k,
        "inertia": float(classes.inertia),
        "class_sizes": {str(c): int(n) for c, n in enumerate(sizes)},
    }


STAGE = Stage(
    name="label",
    needs=lambda config: (ingest.STAGE, split.STAGE),
    settings=lambda config: {"label": config.label.model_dump(), "seed": config.seed},
    work=work,
)


if __name__ == "__main__":
    as_command(STAGE.name)
