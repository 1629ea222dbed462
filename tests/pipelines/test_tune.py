"""The search: its trials, its best config, what fails in it, and what kills it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fusionrec.errors import ConfigError
from pipelines import config as config_module
from pipelines import label, recommend, train, tune
from pipelines.opened.models import load_network
from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import BEFORE_TRAIN, arguments, copied, overrides
from tests.pipelines.deaths import killing

SPACE = "{label.k: [3, 6], train.eta: {low: 0.0005, high: 0.005, log: true}, train.p: [0.0, 0.4]}"
SMALL = {"tune__trials": 4, "train__epochs": 8, "tune__reports": 4, "tune__space": SPACE}


@pytest.fixture
def untuned(finished, tmp_path) -> Path:
    """A workspace in which a search can begin."""
    return copied(finished, tmp_path / "workspace", *BEFORE_TRAIN)


def test_the_axes_of_a_search_follow_its_scales() -> None:
    from pipelines.config import Range
    from pipelines.tune.stage import logarithmic

    space = {
        "label.k": (3, 4, 6, 8, 13),
        "train.eta": Range(low=1e-4, high=1e-2, log=True),
        "train.p": Range(low=0.0, high=0.6),
        "train.batch_size": (32, 128, 512),
        "fuse.operator": ("add", "max"),
        "embed.lyrics.words": (0, 100),
    }
    assert logarithmic(space) == {"train.eta", "train.batch_size"}


def search(corpus: Path, workspace: Path, **settings: object) -> tuple[dict, list[dict]]:
    loaded = config_module.load(None, overrides(corpus, workspace, **{**SMALL, **settings}))
    counts = tune.STAGE.run(loaded)["counts"]
    return counts, Workspace(str(workspace)).read_json("tune", "trials.json")


def test_a_search_and_its_best_config(corpus, untuned, ray_session) -> None:
    # Two trials at a time: each more is a process that imports all that a trial needs.
    settings = {"tune__scheduler": "none", "tune__concurrent": 2}
    counts, rows = search(corpus, untuned, **settings)
    assert [row["trial"] for row in rows] == [0, 1, 2, 3]
    assert all(row["error"] is None and row["epoch"] == 8 for row in rows)
    assert len({(row["label.k"], row["train.eta"], row["train.p"]) for row in rows}) == 4
    best = max(rows, key=lambda row: row["validation_map"])
    assert counts["best"] == best["validation_map"]
    assert counts["best_trial"] == best["trial"]
    folder = untuned / "tune"
    for name in ("search.png", "search.svg", "search.csv", "trials.csv"):
        assert (folder / name).stat().st_size > 100
    # HParams and scalars of each trial, for TensorBoard.
    events = list(folder.rglob("events.out.tfevents.*"))
    assert len(events) == 4
    scalars = EventAccumulator(str(events[0])).Reload().Tags()["scalars"]
    assert "ray/tune/validation_map" in scalars
    # The best config trains, with the very result of the trial.
    chosen = config_module.load(folder / "best.yaml")
    assert chosen.label.k == best["label.k"]
    trained = train.STAGE.run(chosen)["counts"]
    assert trained["validation_accuracy"] == pytest.approx(best["validation_accuracy"], abs=1e-6)
    assert trained["classes"] == best["label.k"]
    # And once more: everything is up to date.
    again, _ = search(corpus, untuned, **settings)
    assert again == counts


def test_the_objective_is_the_map_that_recommend_and_evaluate_would_find(
    corpus, untuned, ray_session
) -> None:
    """With validation songs in the place of test songs, by a brute-force loop over users."""
    import numpy as np

    from pipelines.tune.shared import load_features

    settings = overrides(corpus, untuned, train__epochs=4)
    loaded = config_module.load(None, settings)
    train.STAGE.run(loaded)
    workspace = Workspace(str(untuned))
    judge = load_features(loaded, workspace).validation
    found = judge.mean_average_precision(load_network(workspace))

    songs = workspace.read("ingest", "songs", ["song_id"])["song_id"].to_pylist()
    part = workspace.read("split", "split", ["part"])["part"].to_pylist()
    table = workspace.read("train", "song_vectors", ["song_id", "probabilities"])
    F = dict(zip(table["song_id"].to_pylist(), table["probabilities"].to_pylist(), strict=True))
    candidates = [i for i, s in enumerate(songs) if part[i] == "validation" and s in F]
    assert len(judge.candidates) == len(candidates)
    values = []
    for u in range(len(judge.profiles.indptr) - 1):
        own = slice(judge.profiles.indptr[u], judge.profiles.indptr[u + 1])
        rows, plays = judge.profiles.songs[own], judge.profiles.plays[own]
        place = {int(row): c for c, row in enumerate(judge.candidates)}
        heard = [candidates[place[int(row)]] for row in rows]
        v = sum(
            c * np.array(F[songs[s]], np.float32) for c, s in zip(plays, heard, strict=True)
        ) / len(heard)
        wanted = judge.relevant.songs[judge.relevant.indptr[u] : judge.relevant.indptr[u + 1]]
        relevant = {candidates[c] for c in wanted}
        assert not relevant & set(heard)
        left = [s for s in candidates if s not in heard]
        order = sorted(left, key=lambda s: (-float(v @ np.array(F[songs[s]], np.float32)), s))
        hits, total = 0, 0.0
        for rank, s in enumerate(order[:500], 1):
            if s in relevant:
                hits += 1
                total += hits / rank
        values.append(total / min(len(relevant), 500))
    assert found == pytest.approx(np.mean(values), abs=2e-3)
    assert not {songs[i] for i in range(len(songs)) if part[i] == "test"} & {
        songs[c] for c in candidates
    }


def test_a_trial_that_fails_has_its_reason_and_the_search_goes_on(
    corpus, untuned, ray_session
) -> None:
    space = "{label.k: [3, 900], train.p: [0.0, 0.1, 0.2]}"
    counts, rows = search(
        corpus, untuned, tune__space=space, tune__trials=4, tune__concurrent=1, train__epochs=4
    )
    failed = [row for row in rows if row["error"] is not None]
    assert 0 < len(failed) == counts["failed"] < 4
    assert all(row["label.k"] == 900 for row in failed)
    assert "label.k is 900, but the training songs have" in failed[0]["error"]
    assert counts["best label.k"] == 3


@pytest.mark.slow
def test_asha_stops_trials_early_and_accuracy_can_be_the_objective(
    corpus, untuned, ray_session
) -> None:
    counts, rows = search(
        corpus,
        untuned,
        tune__metric="accuracy",
        tune__trials=8,
        tune__reduction=2,
        tune__search="optuna",
    )
    assert counts["metric"] == "validation_accuracy"
    assert counts["stopped_early"] == sum(row["epoch"] < 8 for row in rows) > 0
    assert rows[0]["validation_map"] is None


@pytest.mark.slow
def test_operators_embeddings_and_words_can_be_searched(corpus, untuned, ray_session) -> None:
    space = (
        "{fuse.operator: [concatenate, gated], label.embedding: [multihot, word2vec], "
        "embed.lyrics.words: [20, 5]}"
    )
    before = Workspace(str(untuned)).current()
    counts, rows = search(corpus, untuned, tune__space=space, tune__trials=8, train__epochs=4)
    assert counts["failed"] == 0
    tried = {(row["fuse.operator"], row["embed.lyrics.words"]) for row in rows}
    assert len(tried) >= 3
    # Features for other values lie beside the workspace's own, which is still the current one.
    workspace = Workspace(str(untuned))
    assert len(workspace.results("fuse")) == 4
    assert {stage for stage, _ in workspace.require("tune")["uses"]} >= {"embed", "fuse"}
    assert workspace.key("fuse") == before["fuse"]
    best = config_module.load(untuned / "tune" / "best.yaml")
    assert best.fuse.operator == counts["best fuse.operator"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tune.space={train.epochs: [1]}", "space names 'train.epochs'; it may name label.k"),
        ("tune.space={label.k: {low: 2, high: 9}}", "space.label.k needs a list of values"),
        ("tune.space={train.eta: {low: 0, high: 1, log: true}}", "low must be below high"),
        ("tune.space={label.k: []}", "space.label.k has no values"),
    ],
)
def test_a_wrong_space_is_named(override, message) -> None:
    with pytest.raises(ConfigError, match="tune") as caught:
        config_module.load(None, [override])
    assert message in str(caught.value)


def test_a_value_outside_its_bounds_is_named_before_anything_runs(corpus, untuned) -> None:
    with pytest.raises(ConfigError, match=r"tune\.space: .*train\.p is 1\.5"):
        search(corpus, untuned, tune__space="{train.p: [0.5, 1.5]}")


# --- killed ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_trial_is_tried_again(corpus, untuned, ray_session) -> None:
    with killing("ImplicitFunc", untuned / "tune/*/ray/search/train_trial*", times=1) as killed:
        counts, rows = search(corpus, untuned, train__epochs=60, tune__scheduler="none")
    assert killed
    assert counts["failed"] == 0
    assert all(row["epoch"] == 60 for row in rows)


def ended_in_the_state_of(workspace: Path) -> int:
    """Trials that have ended, by the newest state of an interrupted search; -1 without one."""
    states = sorted(workspace.glob("tune/*/ray/search/experiment_state-*.json"))
    try:
        trials = json.loads(states[-1].read_text())["trial_data"]
    except (IndexError, ValueError):  # not yet, or half written
        return -1
    return sum(json.loads(trial)["status"] == "TERMINATED" for trial, _ in trials)


@pytest.mark.slow
def test_a_killed_search_is_repeated_and_keeps_its_trials(corpus, untuned, tmp_path) -> None:
    settings = {**SMALL, "tune__trials": 6, "train__epochs": 32, "tune__concurrent": 1}
    settings["tune__scheduler"] = "none"
    command = [
        sys.executable,
        "-m",
        "pipelines.tune",
        *arguments(corpus, untuned, **settings),
    ]
    log = tmp_path / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            # The state of the search is written every ten seconds else.
            env={**os.environ, "TUNE_GLOBAL_CHECKPOINT_S": "1"},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=stream,
        )
    while ended_in_the_state_of(untuned) < 2:
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(["pkill", "-9", "-s", str(process.pid)], check=False)
    assert Workspace(str(untuned)).manifest("tune") is None
    place = untuned / "tune"
    before = {path: path.read_text() for path in place.glob("*/ray/search/*/result.json")}
    complete = {p: text for p, text in before.items() if len(text.splitlines()) == 4}
    assert complete
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "goes on with the search" in done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["trials"] == 6
    assert found["failed"] == 0
    kept = [path for path, text in complete.items() if path.read_text() == text]
    assert len(kept) >= 2


def test_recommend_needs_nothing_of_a_search() -> None:
    """A search is beside the pipeline: no other stage's result depends on it."""
    for stage in (label.STAGE, train.STAGE, recommend.STAGE):
        assert "tune" not in stage.needs(config_module.Config())
