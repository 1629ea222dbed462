"""Comparisons of a small corpus, without Ray."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import compare
from pipelines.config import Config
from tests.pipelines.inline import load, without_ray

COMPARE = {
    "embed__modalities": "[metadata, audio]",
    "ingest__segments": "stats",
    "compare__splits": "[song]",
    "compare__test_folds": "[0, 1]",
    "compare__fusion": "[{k: 3, modalities: [metadata]}]",
    "compare__blends": "[]",
    "compare__seeds": 2,
    "compare__resamples": 100,
    "compare__wmf": "{factors: 8}",
}

MODULE = '''
import numpy as np
import pyarrow.compute as pc

from fusionrec.methods import ColdStart, Vectors

class Popular:
    """The built-in `popularity`, from what a method of one's own is given."""

    seeded = False

    def __call__(self, given):
        artists = pc.fill_null(given.songs["artist_id"], "").combine_chunks().dictionary_encode()
        code = artists.indices.to_numpy()
        total = np.bincount(code, np.asarray(given.plays.sum(axis=0)).ravel())
        score = np.log1p(total)[code][given.candidates]
        return Vectors(np.ones((len(given.users), 1)), score[:, None])

def leak(given):
    columns = np.unique(given.plays.tocoo().coords[1])
    assert len(columns) and not np.isin(columns, given.candidates).any()
    assert np.isin(columns, np.concatenate([given.train, given.validation])).all()
    assert len(given.songs) == given.plays.shape[1] == len(given.fused.x)
    assert sorted(given.features) == ["audio", "metadata"]
    assert all(not f.x[~f.present].any() and f.present.any() for f in given.features.values())
    assert len(given.user_ids) == given.plays.shape[0]
    assert (np.diff(given.plays[given.users].indptr) > 0).all()
    assert "song_hotttnesss" not in given.songs.column_names
    random = np.random.default_rng(given.seed)
    sizes = len(given.users), len(given.candidates)
    return Vectors(*(random.standard_normal((n, 4)).astype("float32") for n in sizes))

def boom(given):
    return {}["no such"]

def shapes(given):
    return Vectors(np.ones((3, 2)), np.ones((len(given.candidates), 2)))

NUMBER = 1
'''


def configured(corpus: Path, place: Path, **more: object) -> Config:
    return load(corpus, place, **{**COMPARE, **more})


def run(config: Config) -> dict:
    with without_ray():
        compare.STAGE.run(config)
    text = (Path(config.workspace) / "compare" / "comparison.json").read_text()
    return json.loads(text)["song"]


def rows(table: dict) -> dict:
    return {row["name"]: row for row in table["rows"]}


def rankings(place: Path) -> dict[str, int]:
    files = (place / "methods").glob("*/manifest.json")
    return {file.parent.name: file.stat().st_mtime_ns for file in files}


def written(path: Path, lists: dict[str, list[str]]) -> Path:
    table = pa.table({"user_id": list(lists), "song_ids": list(lists.values())})
    pq.write_table(table, path)
    return path
