"""Vectors and an exact index find the lists that the product makes."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.export import Asked, export
from pipelines.opened import Recommender
from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import told_by
from tests.pipelines.export.reading import MODELS, all_plays, opened, read


@pytest.mark.parametrize("model", MODELS)
def test_a_search_of_the_files_finds_the_lists(places, exported, model) -> None:
    workspace, folder = Workspace(str(places[model])), exported(model, "faiss")
    songs, F = read(folder, "songs", "song_id")
    users, V = read(folder, "users", "user_id")
    index = faiss.read_index(str(folder / "songs.faiss"))
    np.testing.assert_array_equal(index.reconstruct_n(0, index.ntotal), F)
    recommender, plays = opened(places[model], model), all_plays(workspace)
    table = recommender.recommend(plays, top=40, exclude_heard=False)
    expected = {row["user_id"]: row for row in table.to_pylist()}
    assert users == [user for user, row in expected.items() if not row["fallback"]]
    assert len(users) > 50
    scores, rows = index.search(V, len(songs))
    for user, mine, found in zip(users, scores, rows, strict=True):
        row, near = expected[user], 1e-5 * np.abs(mine).max()
        np.testing.assert_allclose(mine[:40], row["scores"], atol=near, rtol=1e-5)
        by_song = {songs[n]: score for n, score in zip(found, mine, strict=True)}
        listed = [by_song[song] for song in row["song_ids"]]  # near scores may change places
        np.testing.assert_allclose(listed, row["scores"], atol=near, rtol=1e-5)
        if min(-np.diff(mine[:41])) > 2 * near:
            assert [songs[n] for n in found[:40]] == row["song_ids"]


def test_without_the_songs_heard_it_is_the_list_of_the_stage(places, exported) -> None:
    workspace, folder = Workspace(str(places["genre"])), exported("genre", "faiss")
    songs, _ = read(folder, "songs", "song_id")
    users, V = read(folder, "users", "user_id")
    scores, rows = faiss.read_index(str(folder / "songs.faiss")).search(V, len(songs))
    heard = all_plays(workspace)
    stored = {row["user_id"]: row for row in workspace.read("lists", "lists").to_pylist()}
    for user, mine, found in zip(users, scores, rows, strict=True):
        left = [n for n, row in enumerate(found) if songs[row] not in heard[user]]
        np.testing.assert_allclose(mine[left], stored[user]["scores"], rtol=1e-5, atol=1e-6)
        assert {songs[found[n]] for n in left} == set(stored[user]["song_ids"])


def test_songs_are_named_and_the_manifest_says_what_they_are(places, exported) -> None:
    workspace, folder = Workspace(str(places["genre"])), exported("genre", "faiss")
    table = pq.read_table(folder / "songs.parquet")
    k = table["vector"].type.list_size
    assert table.schema.field("vector").type == pa.list_(pa.float32(), k)
    names = workspace.read("ingest", "songs", ["song_id", "artist_name", "title"]).to_pylist()
    assert table.drop_columns("vector").to_pylist() == names
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model"] == "genre"
    assert manifest["weighting"] == "log"
    assert manifest["metric"] == "inner product"
    assert manifest["dimension"] == k
    assert manifest["songs"]["rows"] == len(names)
    assert manifest["users"]["rows"] == pq.read_table(folder / "users.parquet").num_rows
    assert manifest["results"]["train"] == workspace.of("lists").key("train")
    assert {path.name for path in folder.iterdir()} == {
        *("songs.parquet", "users.parquet", "songs.faiss", "manifest.json")
    }


def test_users_are_written_part_by_part(places, exported, tmp_path) -> None:
    """In three parts, and with somebody who played nothing."""
    place = Path(shutil.copytree(places["genre"], tmp_path / "w"))
    workspace = Workspace(str(place))
    users = pa.concat_tables([workspace.read("ingest", "users"), pa.table({"user_id": ["nobody"]})])
    cuts = [0, 17, 40, users.num_rows]
    for artifact in ("users", "plays", "other_plays"):
        whole = workspace.read("ingest", artifact) if artifact != "users" else users
        for part, (start, stop) in enumerate(pairwise(cuts)):
            number = whole["user"].to_numpy() if artifact != "users" else np.arange(len(users))
            here = whole.filter(pa.array((number >= start) & (number < stop)))
            workspace.write_table(here, "ingest", artifact, f"part-{part:05d}.parquet")
    told: list[int] = []

    class Told:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> Any:
            return told.append

        def __exit__(self, *_: object) -> None: ...

    manifest = export(Recommender.open(place).ranked, Asked(tmp_path / "out"), Told)
    assert read(tmp_path / "out", "users", "user_id")[0] == users["user_id"].to_pylist()[:-1]
    for name, ids in (("users", "user_id"), ("songs", "song_id")):
        found, expected = (
            read(folder, name, ids) for folder in (tmp_path / "out", exported("genre", "faiss"))
        )
        assert found[0] == expected[0]
        np.testing.assert_array_equal(found[1], expected[1])
    assert manifest["users"] == {"file": "users.parquet", "rows": 60, "without_vector": 1}
    assert told == [17, 23, 21]


SCRIPT = """
import sys
from pathlib import Path
from pipelines.export import Asked, export
from pipelines.opened import Recommender
export(Recommender.open(sys.argv[2]).ranked, Asked(Path(sys.argv[3])))
heavy = {"ray", "torch", "transformers", "faiss", "onnx", "onnxscript", "onnxruntime"}
print(sorted(heavy & sys.modules.keys()))
"""


def test_nothing_heavy_is_imported_for_the_tables(undisturbed, tmp_path) -> None:
    assert told_by(SCRIPT, tmp_path, str(undisturbed), str(tmp_path / "out")) == "[]\n"
