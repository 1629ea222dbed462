"""Training on taste as a stage: what it may see, that it is ranked by and explained, resumed."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fusionrec.baselines.factorisation import confidence, factorise
from fusionrec.errors import ConfigError
from fusionrec.models.epochs import EpochTraining
from fusionrec.tables import matrix
from pipelines import config as config_module
from pipelines import label, recommend, report, train, tune
from pipelines.blend.vectors import read_users
from pipelines.cli import results
from pipelines.cli.headlines import headline
from pipelines.cli.recommend import SongList, for_user, similar_to
from pipelines.cli.remarks import remarks
from pipelines.config import Config, TableRun
from pipelines.evaluate import Evaluation
from pipelines.opened.networked import Networked
from pipelines.recommend.vectors import source
from pipelines.run import run, stages
from pipelines.runtime.workspace import Workspace
from pipelines.train.plays import read_vectors
from tests.pipelines.beside import TASTE
from tests.pipelines.conftest import copied, overrides
from tests.pipelines.inline import load, without_ray

OBJECTIVES = ("factors", "ranking")


def chosen(corpus: Path, place: Path, objective: str, **more: object) -> Config:
    return load(corpus, place, train__objective=objective, **{**TASTE, **more})


@pytest.fixture(scope="module")
def places(small, undisturbed, tmp_path_factory) -> dict[str, Path]:
    """By objective a workspace whose lists are of such a training."""
    found = {}
    for objective in OBJECTIVES:
        place = tmp_path_factory.mktemp(objective) / "w"
        found[objective] = Path(shutil.copytree(undisturbed, place))
        with without_ray():
            run(chosen(small, place, objective))
    return found


@pytest.fixture(params=OBJECTIVES)
def objective(request) -> str:
    name: str = request.param
    return name


@pytest.fixture
def place(places, objective) -> Path:
    return places[objective]


def known(workspace: Workspace) -> np.ndarray:
    """Which songs of the catalogue have a vector, bool (S,)."""
    ids = workspace.read("ingest", "songs")["song_id"].to_pylist()
    return np.isin(ids, workspace.read("train", "song_vectors")["song_id"].to_pylist())


def seen_plays(workspace: Workspace) -> pa.Table:
    plays = workspace.read("ingest", "plays").to_pandas()
    part = workspace.read("split", "split")["part"].to_numpy(zero_copy_only=False)
    return plays[np.isin(part, ("train", "validation"))[plays["song"]]]


def test_there_are_no_classes(small, place, objective) -> None:
    assert label.STAGE not in stages(chosen(small, place, objective))
    workspace = Workspace(str(place)).of("evaluate")
    assert "label" not in workspace.keys
    found = Evaluation(**workspace.require("evaluate")["counts"])
    assert found.classes is found.test_accuracy is found.train_accuracy is None
    names = list(results.results_table(found, "heldout", "song").columns[0].cells)
    assert "mAP@500" in names
    assert not [name for name in names if "accuracy" in name]
    assert not [line for line in remarks(found) if "accuracy" in line]
    counts = workspace.require("train")["counts"]
    assert headline("train", counts).startswith(f"{objective}: loss {counts['loss']:.3f}, valid")
    assert counts["test_songs"] > 0
    assert counts["threads"] == 1


def test_the_curve_is_in_csv_and_tensorboard(place) -> None:
    with (place / "train" / "epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0].keys() == {"epoch", "loss", "validation_loss", "eta", "seconds"}
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    folder = Workspace(str(place)).path("train", "tensorboard")
    events = EventAccumulator(folder).Reload().Scalars("train/validation_loss")
    assert [event.value for event in events] == pytest.approx(
        [float(row["validation_loss"]) for row in rows]
    )


def test_the_lists_are_the_order_of_the_products(place) -> None:
    workspace = Workspace(str(place))
    table = workspace.read("train", "song_vectors")
    F = dict(zip(table["song_id"].to_pylist(), matrix(table["vector"]), strict=True))
    users = workspace.read("ingest", "users")["user_id"].to_pylist()
    V = read_users(workspace, 0, len(users), "train", "user_vectors")
    for row in workspace.read("recommend", "recommendations").slice(0, 10).to_pylist():
        products = [V[users.index(row["user_id"])] @ F[song] for song in row["song_ids"]]
        np.testing.assert_allclose(products, row["scores"], rtol=1e-4, atol=1e-5)
        assert (np.diff(row["scores"]) <= 0).all()
        assert len(set(row["scores"])) > 1


def test_songs_have_factors_of_the_plays_that_may_be_seen(places) -> None:
    workspace = Workspace(str(places["factors"]))
    plays, shape = seen_plays(workspace), (60, known(workspace).size)
    found = factorise(
        plays["user"].to_numpy(),
        plays["song"].to_numpy(),
        plays["plays"].to_numpy(),
        shape=shape,
        factors=8,
        alpha=10.0,
        epsilon=1.0,
        regularisation=10.0,
        iterations=10,
        seed=0,
    )
    history = read_vectors(workspace, "history")
    np.testing.assert_array_equal(history, found.songs)
    counts = workspace.require("train")["counts"]
    assert counts["users_with_history"] == plays["user"].nunique()


def test_users_are_what_the_plays_that_may_be_seen_make_of_them(place, objective) -> None:
    """Dense, a user at a time."""
    workspace = Workspace(str(place))
    history = read_vectors(workspace, "history").astype(np.float64)
    V = read_users(workspace, 0, 60, "train", "user_vectors")
    table = workspace.read("train", "user_vectors")
    plays = seen_plays(workspace)
    if objective == "ranking":
        plays = plays[known(workspace)[plays["song"]]]
        from pipelines.opened.models import load_ranking_model

        attention = load_ranking_model(workspace).attention
        query, slope = attention.query.detach().numpy(), attention.slope.item()
    for user in range(60):
        own = plays[plays["user"] == user].groupby("song")["plays"].sum()
        songs, counts = own.index.to_numpy(), own.to_numpy()
        assert table["songs"][user].as_py() == songs.tolist()
        assert table["plays"][user].as_py() == counts.tolist()
        if not len(own):
            assert not V[user].any()
            continue
        if objective == "factors":
            c = np.ones(len(history))
            c[songs] = confidence(counts, 10.0, 1.0)
            p = np.isin(np.arange(len(history)), songs)
            A = (history.T * c) @ history + 10.0 * np.eye(8)
            expected = np.linalg.solve(A, (history.T * c) @ p)
        else:
            v = history[songs, :-1]
            e = np.exp(v @ query / np.sqrt(7) + slope * np.log(np.log1p(counts)))
            expected = np.append((e / e.sum()) @ v / np.sqrt(7), 1.0)
        np.testing.assert_allclose(V[user], expected, rtol=1e-3, atol=1e-4)


def test_users_of_whom_the_network_knows_nothing_are_left_out_and_counted(
    small, place, objective, monkeypatch
) -> None:
    before = Workspace(str(place)).read("recommend", "recommendations")
    users = Workspace(str(place)).read("ingest", "users")["user_id"].to_pylist()
    unknown = [users.index(user) for user in before["user_id"].to_pylist()[3:5]]

    def some_unknown(workspace: Workspace, start: int, stop: int, *where: str) -> np.ndarray:
        V = read_users(workspace, start, stop, *where)
        V[[user - start for user in unknown if start <= user < stop]] = 0
        return V

    monkeypatch.setattr(recommend.stage, "read_users", some_unknown)
    other = chosen(small, place, objective, recommend__users_per_shard=13)
    with without_ray():
        counts = recommend.STAGE.run(other, current=False)["counts"]
    assert counts["users_left_out"][source(other).unknown] == 2
    assert "network" in source(other).unknown
    assert counts["ranked"] == before.num_rows - 2


# --- what may be seen --------------------------------------------------------------------


def vectors(place: Path) -> dict[str, pa.Table]:
    workspace = Workspace(str(place))
    tables = {name: workspace.read("train", name) for name in ("song_vectors", "user_vectors")}
    for name in ("vectors", "history"):
        tables[name] = pa.table({"row": read_vectors(workspace, name).tolist()})
    return tables


@pytest.mark.parametrize(
    ("objective", "loss"), [("factors", "mse"), ("factors", "wpe"), ("ranking", "mse")]
)
def test_plays_of_test_songs_change_nothing(small, places, tmp_path, objective, loss) -> None:
    """Whatever users play of them: no song vector, and no user's."""
    copy = Path(shutil.copytree(places[objective], tmp_path / "w"))
    other = chosen(small, copy, objective, train__towers__loss=loss, train__patience=2)
    with without_ray():
        train.STAGE.run(other)
    before = vectors(copy)
    workspace = Workspace(str(copy))
    part = workspace.read("split", "split")["part"].to_numpy(zero_copy_only=False)
    hidden = ~np.isin(part, ("train", "validation"))
    changed = 0
    for name in workspace.parts("ingest", "plays"):
        path = workspace.path("ingest", "plays", name)
        table = pq.read_table(path)
        unseen = hidden[table["song"].to_numpy()]
        changed += unseen.sum()
        plays = np.where(unseen, 7 * table["plays"].to_numpy() + 5, table["plays"].to_numpy())
        table = table.set_column(2, "plays", pa.array(plays, pa.int32()))
        # Each is another user's, in the range of the users that the part has.
        users = table["user"].to_numpy()
        users = np.where(unseen, users.min(), users)
        pq.write_table(table.set_column(0, "user", pa.array(users, pa.int32())), path)
    assert changed > 50
    workspace.delete("train")
    with without_ray():
        train.STAGE.run(other)
    for name, table in vectors(copy).items():
        assert table.equals(before[name]), name


# --- resumed -----------------------------------------------------------------------------


class Killed(BaseException):
    """Not an Exception: nothing that handles errors may survive it."""


def test_an_interrupted_training_goes_on_from_its_checkpoint(
    small, undisturbed, place, objective, tmp_path, monkeypatch
) -> None:
    copy = Path(shutil.copytree(undisturbed, tmp_path / "w"))
    run_epoch, left = EpochTraining.run_epoch, [3]

    def mortal(training: EpochTraining) -> object:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return run_epoch(training)

    with monkeypatch.context() as patched, without_ray():
        patched.setattr(EpochTraining, "run_epoch", mortal)
        with pytest.raises(Killed):
            train.STAGE.run(chosen(small, copy, objective))
    with without_ray():
        counts = train.STAGE.run(chosen(small, copy, objective))["counts"]
    assert counts["resumed_after_epoch"] == 3
    for name, table in vectors(copy).items():
        assert table.equals(vectors(place)[name]), name
    assert not list(copy.glob("train/*/factors")) + list(copy.glob("train/*/reports"))


# --- why ---------------------------------------------------------------------------------


def check_shares(found: SongList) -> None:
    for song in found.songs:
        assert song.why is not None
        for parts in (song.why.signals, song.why.modalities, song.why.kinds):
            assert sum(parts.values()) == pytest.approx(song.score, rel=1e-3, abs=1e-4)
    matches = [song.match for song in found.songs]
    assert matches == sorted(matches, reverse=True)
    assert 0 <= matches[-1] <= matches[0] <= 1


def test_shares_add_up_to_the_score(place, objective) -> None:
    workspace = Workspace(str(place)).of("recommend")
    row = workspace.read("recommend", "recommendations").slice(4, 1).to_pylist()[0]
    found = for_user(str(place), row["user_id"], 6, why=True)
    assert [song.song_id for song in found.songs] == row["song_ids"][:6]
    check_shares(found)
    plays = seen_plays(workspace)
    users = workspace.read("ingest", "users")["user_id"].to_pylist()
    ids = np.array(workspace.read("ingest", "songs")["song_id"].to_pylist())
    own = ids[plays["song"][plays["user"] == users.index(row["user_id"])]]
    for song in found.songs:
        assert {heard.song_id for heard in song.why.songs} <= set(own)
        shares = [heard.share for heard in song.why.songs]
        assert 0 < len(shares) <= 3
        assert shares == sorted(shares, reverse=True)
        assert set(song.why.kinds) == (
            {"content", "popularity"} if objective == "ranking" else {"content"}
        )


@pytest.mark.parametrize(
    ("about", "scores", "expected"),
    [
        ({"objective": "ranking", "loss": "mse"}, [2.0, 1.0], [1.0, np.exp(-1)]),
        ({"objective": "factors", "loss": "wpe"}, [1.2, 0.5, -0.1], [1.0, 0.5, 0.0]),
        ({"objective": "factors", "loss": "cosine"}, [8.0, 2.0, -1.0], [1.0, 0.25, 0.0]),
    ],
)
def test_a_match_is_the_score_from_0_to_1(tmp_path, about, scores, expected) -> None:
    one = Networked(Workspace(str(tmp_path)), np.zeros(1, int), np.ones(1), about)
    assert one.match(scores)[0] == pytest.approx(expected)


@pytest.mark.parametrize("part", ["train", "test"])
def test_songs_like_one(place, objective, part) -> None:
    """A cold song, too, is taken for a history: by what its content says."""
    workspace = Workspace(str(place)).of("recommend")
    parts = workspace.read("split", "split")["part"].to_numpy(zero_copy_only=False)
    code = int(np.flatnonzero((parts == part) & known(workspace))[2])
    title = workspace.read("ingest", "songs").slice(code, 1).to_pylist()[0]
    found = similar_to(str(place), f"{title['artist_name']} - {title['title']}", 5, why=True)
    check_shares(found)
    assert len(found.songs) == 5
    assert title["song_id"] not in {song.song_id for song in found.songs}
    assert not any(song.why.songs for song in found.songs)
    scores = [song.score for song in found.songs]
    assert scores == sorted(scores, reverse=True)


def test_songs_like_one_are_by_the_training_that_there_is(small, places, tmp_path) -> None:
    """By the lists' model; without lists by what was trained."""
    copy = Path(shutil.copytree(places["ranking"], tmp_path / "w"))
    title = Workspace(str(copy)).read("ingest", "songs").slice(3, 1).to_pylist()[0]
    text = f"{title['artist_name']} - {title['title']}"
    by_network = similar_to(str(copy), text, 5)
    with without_ray():
        train.STAGE.run(load(small, copy))
    assert similar_to(str(copy), text, 5) == by_network
    with without_ray():
        run(load(small, copy))
        by_classes = similar_to(str(copy), text, 5)
        assert by_classes != by_network
        train.STAGE.run(chosen(small, copy, "ranking"))
    assert similar_to(str(copy), text, 5) == by_classes


# --- settings ----------------------------------------------------------------------------


def test_a_search_of_classes_is_refused(small, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"train.objective is ranking: .* set train.objective"):
        tune.STAGE.run(chosen(small, tmp_path / "w", "ranking"))


def test_a_row_of_the_papers_table_is_of_classes(small, places, tmp_path) -> None:
    copy = Path(shutil.copytree(places["ranking"], tmp_path / "w"))
    asked, workspace = chosen(small, copy, "ranking"), Workspace(str(copy))
    begun = workspace.begin("report", {})
    assert begun is not None
    with without_ray():
        row, curve = report._table_1_row(asked, workspace, begun, TableRun(k=4))
    assert row.k == 4
    assert 0 < row.train_accuracy <= 1
    assert curve[-1].keys() >= {"epoch", "test_accuracy"}
    assert workspace.of("train").require("train")["counts"]["objective"] == "ranking"


def test_features_that_are_to_be_streamed_are_refused(small, places, objective, tmp_path) -> None:
    copy = Path(shutil.copytree(places[objective], tmp_path / "w"))
    other = chosen(small, copy, objective, train__in_memory_mb=0, train__eta=0.01)
    with without_ray(), pytest.raises(ConfigError, match=r"train.in_memory_mb is 0: raise it"):
        train.STAGE.run(other)


# --- with Ray ----------------------------------------------------------------------------


def with_ray(corpus: Path, place: Path, objective: str, **more: object) -> Config:
    # Of the many plays of this corpus each once, in a few batches.
    few = {
        "train__epochs": 4,
        "train__towers__pairs": 1024,
        "train__towers__history": 5,
        "train__towers__epochs": 1,
    }
    settings = {"train__objective": objective, **TASTE, **few, **more}
    return config_module.load(None, overrides(corpus, place, **settings))


@pytest.fixture
def untrained(finished, tmp_path) -> Path:
    """A workspace in which training comes next."""
    return copied(finished, tmp_path / "w", "ingest", "split", "pretrain", "embed", "fuse")


def test_tasks_of_ray_give_the_same(finished, corpus, untrained, tmp_path, ray_session) -> None:
    run(with_ray(corpus, untrained, "ranking"))
    place = copied(finished, tmp_path / "inline", "ingest", "split", "pretrain", "embed", "fuse")
    with without_ray():
        train.STAGE.run(with_ray(corpus, place, "ranking"))
    for name, table in vectors(untrained).items():
        assert table.equals(vectors(place)[name]), name


@pytest.mark.slow
def test_a_ranking_learns_what_users_play(corpus, untrained) -> None:
    """In ten epochs; after one of them the mAP is still about that of chance."""
    with without_ray():
        found = run(with_ray(corpus, untrained, "ranking", train__towers__epochs=10))["evaluate"]
    assert found["counts"]["map"] > 1.5 * found["counts"]["random_map"]


@pytest.mark.slow
def test_two_ray_train_workers_learn_what_one_process_does(
    finished, corpus, objective, ray_session, tmp_path
) -> None:
    """In double precision, to 1e-5 in the vectors, which are stored in single."""
    found = []
    for workers in (0, 2):
        place = copied(
            finished, tmp_path / str(workers), "ingest", "split", "pretrain", "embed", "fuse"
        )
        settings = {"train__workers": workers, "train__dtype": "float64"}
        counts = train.STAGE.run(with_ray(corpus, place, objective, **settings))["counts"]
        assert counts["workers"] == workers
        found.append(vectors(place))
    for name in ("song_vectors", "user_vectors"):
        one, two = (matrix(each[name]["vector"]) for each in found)
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)
