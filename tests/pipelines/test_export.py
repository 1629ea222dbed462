"""An export's files, read by other libraries, say what the product says."""

import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusionrec.errors import ConfigError, StageError, WorkspaceError
from fusionrec.tables import flags, matrix
from pipelines import blend, lists, recommend, train
from pipelines.cli.main import main
from pipelines.export import Asked, export, folder, write
from pipelines.export.index import write_index
from pipelines.opened import Recommender
from pipelines.run import run
from pipelines.runtime.stage import Stage
from pipelines.runtime.workspace import Workspace
from tests.pipelines.beside import TASTE
from tests.pipelines.conftest import told_by
from tests.pipelines.inline import load, without_ray

MODELS: dict[str, tuple[list[Stage], dict[str, object]]] = {
    "genre": ([recommend.STAGE, lists.STAGE], {"recommend__weighting": "log"}),
    "blend": ([blend.STAGE], {"recommend__model": "blend"}),
    "factors": ([train.STAGE], {"train__objective": "factors", **TASTE}),
    "ranking": ([train.STAGE], {"train__objective": "ranking", **TASTE}),
}
NAMES = {"genre": "genre", "blend": "blend", "factors": "network", "ranking": "network"}

Played = dict[str, dict[str, int]]


@pytest.fixture(scope="module")
def places(small, undisturbed, tmp_path_factory) -> dict[str, Path]:
    """By model, a workspace that has it, made once it is asked for."""

    class Places(dict[str, Path]):
        def __missing__(self, model: str) -> Path:
            place = Path(shutil.copytree(undisturbed, tmp_path_factory.mktemp(model) / "w"))
            stages, settings = MODELS[model]
            with without_ray():
                for stage in stages:
                    stage.run(load(small, place, **settings))
            self[model] = place
            return place

    return Places()


@pytest.fixture(scope="module")
def exported(places, tmp_path_factory) -> Callable[[str, str], Path]:
    """Makes the export of a model with an index, once."""
    made: dict[tuple[str, str], Path] = {}

    def of(model: str, index: str) -> Path:
        if (model, index) not in made:
            out = tmp_path_factory.mktemp("export") / "out"
            export(opened(places[model], model).ranked, Asked(out, index))  # type: ignore[arg-type]
            made[model, index] = out
        return made[model, index]

    return of


def opened(place: Path, model: str) -> Recommender:
    return Recommender.open(place, NAMES[model])  # type: ignore[arg-type]


def read(folder: Path, name: str, ids: str) -> tuple[list[str], np.ndarray]:
    table = pq.read_table(folder / f"{name}.parquet")
    return table[ids].to_pylist(), matrix(table["vector"])


def all_plays(workspace: Workspace) -> Played:
    """Every play, also of other songs, by ids; and users without any."""
    users = workspace.read("ingest", "users")["user_id"].to_pylist()
    found: Played = defaultdict(dict, {user: {} for user in users})
    for artifact, names in (("plays", "songs"), ("other_plays", "other_songs")):
        songs = workspace.read("ingest", names, ["song_id"])["song_id"].to_pylist()
        for row in workspace.read("ingest", artifact).to_pylist():
            mine, song = found[users[row["user"]]], songs[row["song"]]
            mine[song] = mine.get(song, 0) + row["plays"]
    return found


# --- vectors and an exact index ----------------------------------------------------------


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


# --- an index that is a graph ------------------------------------------------------------


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


# --- the network, and the lines that use it all ------------------------------------------


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


# --- what is wrong -----------------------------------------------------------------------


def main_to_the_end(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["export", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_an_earlier_export_is_replaced_if_asked_for(undisturbed, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    out.mkdir()  # an empty folder is no hindrance
    assert main_to_the_end("-w", undisturbed, "-o", out) == 0
    capsys.readouterr()
    (out / "songs.parquet").write_text("of an earlier one")
    assert main_to_the_end("-w", undisturbed, "-o", out) == 2
    told = capsys.readouterr().err
    assert told == (
        f"fusionrec: --out {out}: has an export: name a new folder, or replace it (--force)\n"
    )
    (out / "notes.txt").write_text("mine")
    assert main_to_the_end("-w", undisturbed, "-o", out, "--force") == 2
    assert capsys.readouterr().err == (
        f"fusionrec: --out {out}: has notes.txt beside an export: move that elsewhere, or name a "
        "new folder\n"
    )
    (out / "notes.txt").unlink()
    assert main_to_the_end("-w", undisturbed, "-o", out, "--force") == 0
    assert pq.read_table(out / "songs.parquet").num_rows > 100
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


EXPORT = '{"format": "fusionrec export", "songs": {"file": "songs.parquet"}, "index": null}'


@pytest.mark.parametrize("before", [{}, {"manifest.json": EXPORT, "songs.parquet": "songs"}])
def test_what_comes_into_the_folder_meanwhile_stays(tmp_path, before) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, text in before.items():
        (out / name).write_text(text)

    def written() -> None:
        with folder.replacing(out, force=True) as new:
            (new / "songs.parquet").write_text("new songs")
            (out / "notes.txt").write_text("mine")

    says = r"has notes\.txt beside an export" if before else "has files that are of no export"
    with pytest.raises(ConfigError, match=says):
        written()
    found = {path.name: path.read_text() for path in out.iterdir()}
    assert found == {**before, "notes.txt": "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_a_link_it_is_what_it_leads_to_that_is_replaced(tmp_path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    (real / "out").mkdir(parents=True)
    link.symlink_to(real / "out")
    for text in ("first", "second"):
        with folder.replacing(link, force=True) as new:
            (new / "manifest.json").write_text(EXPORT)
            (new / "songs.parquet").write_text(text)
    assert link.is_symlink()
    assert (real / "out" / "songs.parquet").read_text() == "second"
    assert [path.name for path in real.iterdir()] == ["out"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_no_folder_takes_the_place_of_a_mount_point(tmp_path, monkeypatch) -> None:
    with pytest.raises(ConfigError, match=r"--out /proc: is a mount point.*: name a folder below"):
        folder.refuse_taken(Path("/proc"), force=True)

    def busy(*_: object) -> None:  # one that does not look like it
        raise OSError(16, "Device or resource busy")

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(Path, "rename", busy)
    with (
        pytest.raises(ConfigError, match=r"out: is a mount point.*: name a folder below it"),
        folder.replacing(tmp_path / "out", force=False),
    ):
        pass


def test_what_is_no_export_is_never_replaced(undisturbed, tmp_path, capsys) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text("[]")
    assert main_to_the_end("-w", undisturbed, "-o", tmp_path / "mine", "--force") == 2
    assert "has files that are of no export" in capsys.readouterr().err
    assert main_to_the_end("-w", undisturbed, "-o", tmp_path / "mine/manifest.json", "--force") == 2
    assert "is a file: name a new folder" in capsys.readouterr().err
    assert main_to_the_end("-w", undisturbed, "-o", "s3://bucket/export") == 2
    assert "must be a local folder" in capsys.readouterr().err
    assert main_to_the_end("-w", undisturbed, "-o", tmp_path / "mine/manifest.json/x") == 2
    assert "cannot be written (Not a directory)" in capsys.readouterr().err
    assert (tmp_path / "mine" / "manifest.json").read_text() == "[]"


def test_of_an_export_that_fails_nothing_is_left(undisturbed, tmp_path, monkeypatch) -> None:
    ranked, out = Recommender.open(undisturbed).ranked, tmp_path / "out"
    export(ranked, Asked(out))
    before = (out / "manifest.json").read_bytes()

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(faiss, "write_index", fails)
    with pytest.raises(ConfigError, match=r"songs\.faiss: cannot be written \(No space left"):
        export(ranked, Asked(out, "faiss", force=True))
    with monkeypatch.context() as patch:
        patch.setattr(write, "write_songs", None)  # the network comes first
        patch.setattr("fusionrec.models.as_onnx.difference", lambda *_: 0.1)
        with pytest.raises(StageError, match=r"network\.onnx: differs by 1\.0e-01 from torch, wh"):
            export(ranked, Asked(out, onnx=True, force=True))
    monkeypatch.setattr(write, "write_users", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export(ranked, Asked(out, force=True))
    assert (out / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("missing", "asked", "says"),
    [
        ("faiss", {"index": "faiss"}, r"^--index: needs the package faiss-cpu: pip install "),
        ("onnx", {"onnx": True}, r"^--onnx: needs the package onnx: pip install 'fusionrec\["),
        ("onnxscript", {"onnx": True}, r"^--onnx: needs the package onnxscript: "),
    ],
)
def test_packages_are_named_before_anything_is_written(
    undisturbed, tmp_path, monkeypatch, missing, asked, says
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=says):
        export(Recommender.open(undisturbed).ranked, Asked(tmp_path / "out", **asked))
    assert not [*tmp_path.iterdir()]


def test_what_is_not_finished_is_named(undisturbed, tmp_path, capsys) -> None:
    assert main_to_the_end("-w", tmp_path / "empty", "-o", tmp_path / "out") == 2
    assert "not finished; run `fusionrec " in capsys.readouterr().err
    assert main_to_the_end("-w", undisturbed, "-o", tmp_path / "out", "--model", "blend") == 2
    assert "blend: this stage is not finished" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    place = Path(shutil.copytree(undisturbed, tmp_path / "w"))
    ranked = Recommender.open(place).ranked
    shutil.rmtree(place / "train")
    with pytest.raises(WorkspaceError, match=r"train: this stage is not finished"):
        export(ranked, Asked(tmp_path / "out", onnx=True))


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
