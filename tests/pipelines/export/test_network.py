"""The network in ONNX, and the lines of the manifest that use it all."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest

from fusionrec.tables import flags, matrix
from pipelines.export import Asked, export
from pipelines.run import run
from pipelines.runtime.workspace import Workspace
from tests.pipelines.export.reading import main_to_the_end, opened, read
from tests.pipelines.inline import load, without_ray


@pytest.mark.parametrize(
    ("model", "column"),
    [("genre", "probabilities"), ("factors", "vector"), ("ranking", "vector")],
)
def test_the_network_says_what_the_training_wrote(places, tmp_path, model, column) -> None:
    workspace, out = Workspace(str(places[model])), tmp_path / "out"
    manifest = export(opened(places[model], model).ranked, Asked(out, onnx=True))
    assert manifest["network"]["song_vector"] == column
    assert manifest["network"]["largest_difference"] <= 1e-5
    assert 1e-5 <= manifest["network"]["allowed_difference"] < 1e-3
    fused = workspace.read("fuse", "fused")
    fused = fused.filter(fused["present"])
    session = onnxruntime.InferenceSession(out / "network.onnx")
    given = {"features": matrix(fused["vector"]), "present": flags(fused["blocks"])}
    inputs = [each.name for each in session.get_inputs()]
    outputs = [each.name for each in session.get_outputs()]
    assert (inputs, outputs) == (manifest["network"]["inputs"], manifest["network"]["outputs"])
    stored = workspace.read("train", "song_vectors")
    columns = {"probabilities": "probabilities", "hidden": "embedding", "vector": "vector"}
    for rows in (slice(0, 1), slice(None)):
        found = session.run(None, {name: given[name][rows] for name in inputs})
        for name, each in zip(outputs, found, strict=True):
            expected = matrix(stored[columns[name]])[rows]
            np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-5)


def test_the_manifests_lines_run(small, undisturbed, tmp_path, monkeypatch, capsys) -> None:
    """Of a network of several blocks, which is told which of them a song has."""
    place = Path(shutil.copytree(undisturbed, tmp_path / "w"))
    with without_ray():
        run(load(small, place, fuse__operator="gated"))
    main_to_the_end("-w", place, "--out", tmp_path / "out", "--index", "hnsw", "--onnx", "--json")
    use = json.loads(capsys.readouterr().out)["use"]
    monkeypatch.chdir(tmp_path / "out")
    songs, F = read(Path(), "songs", "song_id")
    _, V = read(Path(), "users", "user_id")
    best = [songs[n] for n in np.argsort(-(F @ V[0]), kind="stable")[:10]]
    exec(use["vectors"], {})
    printed = capsys.readouterr().out
    assert sorted(printed.index(song) for song in best) == [printed.index(s) for s in best]
    exec(use["index"], {})
    printed = capsys.readouterr().out
    assert [song for song in best if song in printed] == best
    told: dict[str, Any] = {}
    exec(use["network"], told)
    assert "present" in use["network"]
    stored = Workspace(str(place)).read("train", "song_vectors")
    np.testing.assert_allclose(told["probabilities"], matrix(stored["probabilities"]), atol=1e-5)
    assert all(len(lines.strip().splitlines()) <= 6 for lines in use.values())


def test_the_lines_run_without_any_user(exported, tmp_path, monkeypatch, capsys) -> None:
    folder = Path(shutil.copytree(exported("genre", "faiss"), tmp_path / "out"))
    users = pq.read_table(folder / "users.parquet")
    pq.write_table(users.slice(0, 0), folder / "users.parquet")
    monkeypatch.chdir(folder)
    for lines in json.loads((folder / "manifest.json").read_text())["use"].values():
        exec(lines, {})
    assert capsys.readouterr().out == "[]\n"
