"""An index that is a graph finds nearly all, or says so."""

import json

import faiss
import numpy as np
import pytest

from pipelines.export.index import write_index
from tests.pipelines.export.reading import MODELS, read


def of_classes(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Probabilities: of inner products alone, a graph finds three quarters of the best."""
    return rng.dirichlet([0.2] * 8, rows).astype(np.float32)


def of_any_length(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Some far longer than others: made as long as the longest, a graph finds half."""
    directions = rng.normal(size=(rows, 24)) * np.linspace(2, 0.1, 24)
    return (directions * np.exp(rng.normal(size=(rows, 1)))).astype(np.float32)


@pytest.mark.parametrize("drawn", [of_classes, of_any_length])
def test_a_graph_finds_nearly_all(tmp_path, drawn) -> None:
    rng = np.random.default_rng(4)
    F, V = drawn(rng, 3000), drawn(rng, 200)
    about = write_index("hnsw", F, V, tmp_path / "index")
    index = faiss.read_index(str(tmp_path / "index"))
    assert (index.d, index.ntotal) == (F.shape[1], len(F))
    scores, rows = index.search(V, 100)
    assert (rows >= 0).all()
    products = (V @ F.T).astype(np.float64)
    given = np.take_along_axis(products, rows, axis=1)
    np.testing.assert_allclose(scores, given, rtol=1e-4, atol=1e-5 * np.abs(products).max())
    hundredth = -np.sort(-products, axis=1)[:, 99:100]
    recall = (given >= hundredth - 1e-5 * np.abs(products).max(axis=1, keepdims=True)).mean()
    assert recall > 0.95
    assert about["recall"] == pytest.approx(recall, abs=0.005)


@pytest.mark.parametrize("model", MODELS)
def test_a_graph_of_any_model(exported, model) -> None:
    folder = exported(model, "hnsw")
    (_, F), (_, V) = read(folder, "songs", "song_id"), read(folder, "users", "user_id")
    scores, _ = faiss.read_index(str(folder / "songs.hnsw.faiss")).search(V, 30)
    best = -np.sort(-(V @ F.T), axis=1)[:, :30]
    assert np.isclose(scores, best, rtol=1e-4, atol=1e-5 * np.abs(best).max()).mean() > 0.97
    assert json.loads((folder / "manifest.json").read_text())["index"]["recall"] > 0.97


def test_a_graph_that_finds_little_is_warned_of(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr("pipelines.export.index.SHARES", (0.0,))
    rng = np.random.default_rng(4)
    about = write_index("hnsw", of_classes(rng, 3000), of_classes(rng, 50), tmp_path / "i.faiss")
    assert about["recall"] < 0.9
    assert "i.faiss finds" in caplog.text
    assert "--index faiss finds all" in caplog.text
