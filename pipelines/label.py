"""Label: tag lists into vectors, and vectors into k classes (paper 3.1.1, 3.1.2, 5.1).

One task reads the tags of all songs (about 100 MB for the paper's 116,479 tagged songs)
and reduces them to the distinct lists (3,063 there), on which everything else works.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from fusionrec import schemas
from fusionrec.config import Config
from fusionrec.errors import DataError
from fusionrec.labels.classes import elbow, fit_kmeans
from fusionrec.labels.embedding import MultiHot, TagWord2Vec, distinct_lists, known_tags
from pipelines import cluster
from pipelines.split import LEFT_OUT
from pipelines.stage import Counts, Stage
from pipelines.tables import matrix, vectors
from pipelines.workspace import StageRun, Workspace


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Fit and apply the classes in one task; the elbow's k values in parallel."""
    counts = cluster.run_task(_label, config, run)
    if config.label.elbow:
        shards = [{"part": i, "k": k} for i, k in enumerate(sorted(set(config.label.elbow)))]
        curve = cluster.map_shards(partial(_inertia, config, run), shards, description="elbow")
        run.write_json([row for row in curve if row["inertia"] is not None], "elbow.json")
    return counts


def _label(config: Config, run: StageRun) -> Counts:
    workspace, label = run.workspace, config.label
    table = workspace.read("ingest", "songs", ["song_id", label.source])
    part = workspace.read("split", "split", ["part"])["part"].to_numpy(zero_copy_only=False)
    tag_lists = [tags or [] for tags in table[label.source].to_pylist()]
    tagged = np.array([bool(tags) for tags in tag_lists])
    used = tagged & (part != LEFT_OUT)
    seen = used if label.fit_on == "all" else used & (part == "train")
    if not seen.any():
        raise DataError(
            f"no song of the {label.fit_on} part has {label.source}: nothing to learn classes "
            "from; set label.source to the other kind of tags, or add artist_term.db"
        )
    lists, codes, _ = distinct_lists([tag_lists[i] for i in np.flatnonzero(used)])
    songs_of_list = np.bincount(codes[seen[used]], minlength=len(lists))
    fitted = np.flatnonzero(songs_of_list)
    embedding = _fit_embedding(config, [lists[i] for i in fitted], songs_of_list[fitted])
    list_vectors = embedding.transform(lists)
    classes = fit_kmeans(
        list_vectors[fitted], label.k, sample_weight=songs_of_list[fitted], seed=config.seed
    )
    of_list, distance = classes.predict(list_vectors)
    run.write(
        pa.table(
            {
                "song_id": table["song_id"].filter(pa.array(used)),
                "class": pa.array(of_list[codes], pa.int32()),
                "distance": pa.array(distance[codes], pa.float32()),
            },
            schema=schemas.LABELS,
        ),
        "labels",
    )
    run.write(
        pa.table(
            {
                "tags": pa.array([list(tags) for tags in lists], pa.list_(pa.string())),
                "class": pa.array(of_list, pa.int32()),
                "songs": pa.array(np.bincount(codes, minlength=len(lists)), pa.int32()),
                "fitted_songs": pa.array(songs_of_list, pa.int32()),
                "vector": vectors(list_vectors),
            }
        ),
        "label_vectors",
    )
    run.write(pa.table({"centroid": vectors(classes.centroids)}), "centroids")
    sizes = np.bincount(of_list[codes], minlength=label.k)
    return {
        "tagged_songs": int(used.sum()),
        "songs_without_tags": int((~tagged).sum()),
        "songs_with_unseen_tags_only": int((known_tags(lists, embedding.tags) == 0)[codes].sum()),
        "distinct_tag_lists": len(lists),
        "distinct_tags": len({tag for tags in lists for tag in tags}),
        "classes": label.k,
        "inertia": float(classes.inertia),
        "class_sizes": {str(c): int(n) for c, n in enumerate(sizes)},
    }


def _fit_embedding(
    config: Config, lists: list[tuple[str, ...]], songs: np.ndarray
) -> MultiHot | TagWord2Vec:
    label = config.label
    if label.embedding == "multihot":
        return MultiHot.fit(lists)
    return TagWord2Vec.fit(
        lists, dimension=label.dimension, epochs=label.epochs, seed=config.seed, counts=songs
    )


def _inertia(config: Config, run: StageRun, shard: dict[str, Any]) -> dict[str, Any]:
    table = run.workspace.read("label", "label_vectors", ["vector", "fitted_songs"])
    songs = table["fitted_songs"].to_numpy()
    fitted = songs > 0
    if shard["k"] > fitted.sum():
        return {"k": shard["k"], "inertia": None}
    points = elbow(
        matrix(table["vector"])[fitted],
        [shard["k"]],
        sample_weight=songs[fitted],
        seed=config.seed,
    )
    return {"k": shard["k"], "inertia": points[0][1]}


STAGE = Stage(
    name="label",
    needs=lambda config: ("ingest", "split"),
    settings=lambda config: {"label": config.label.model_dump(), "seed": config.seed},
    work=work,
)


if __name__ == "__main__":
    from pipelines.cli import stage_main

    stage_main(STAGE.name)
