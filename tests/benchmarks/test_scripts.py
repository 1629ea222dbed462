"""The benchmark scripts run, at small sizes; what they measure is for their readers to judge."""

import argparse
import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fusionrec.formats.sample.corpus import write_sample
from pipelines import compare, config, fuse
from pipelines.run import STAGES
from tests.pipelines.inline import load, without_ray

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("benchmarks") / "corpus"
    write_sample(place, songs=120, users=30, seed=5)
    return place


def result(script: str, *arguments: object) -> dict:
    """What a script prints as JSON, which is the last line."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=BENCHMARKS.parent,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_ingest(corpus) -> None:
    pytest.importorskip("tables")
    found = result("ingest.py", corpus / "MillionSong", "--rounds", 1, "--slow-files", 10)
    assert found["read_directly"] > 0.9 * found["files"]
    assert found["ratio_to_getters"].keys() == {"metadata", "segments"}
    assert all(ratio > 0 for ratio in found["ratio_to_getters"].values())


def test_embed(corpus) -> None:
    found = result(
        "embed.py", corpus, *("--layers", 2, "--hidden", 128, "--words", 20, "--songs", 16),
        *("--naive-songs", 4, "--rounds", 1, "--vocabulary", 600),
    )  # fmt: skip
    assert found["worst_cosine_to_float32"] > 0.999
    assert found["tokenised_by_piece"] is True
    assert found["ratio_to_naive"]["naive float32"] == 1


def test_embed_stream(corpus) -> None:
    small = ("--parts", 4, "--tasks", 2, "--rounds", 1, "--vocabulary", 600)
    found = result("embed_stream.py", corpus, *small)
    assert found["best"].keys() == {"earlier", "stream"}
    for form in found["best"].values():
        assert 0 < form["waited"] < 1
        assert form["tokens"] > 0


def test_ingest_scale(corpus) -> None:
    (run,) = result("ingest_scale.py", corpus, "--files", 60)["runs"]
    assert 60 <= run["files"] < 100  # of 120
    assert run["worker_mb"] > 10
    assert run["driver_mb"] > 10


def test_listing_scale() -> None:
    found = result("listing_scale.py", "--files", 50, 250, "--a-folder", 20, "--top", 1)
    assert [(run["files"], run["parts"]) for run in found["runs"]] == [(51, 1), (251, 1)]
    for run in found["runs"]:
        assert run["driver_mb"] >= 0
        assert len(run["digest"]) == 32


def test_ids_scale() -> None:
    found = result("ids_scale.py", "--songs", 3_000, 6_000, "--divided", 256)
    assert [run["songs"] for run in found["runs"]] == [3_000, 6_000]
    for run in found["runs"]:
        assert run["triplets"] == 4 * run["songs"]
        assert 0 < run["plays"] < run["triplets"]
        assert 0 < run["users"] <= run["songs"]
        assert run["cpu_seconds"].keys() == {"catalogue", "plays", "names"}
        assert min(run["driver_mb"], run["worker_mb"]) > 50
    assert found["exponents"].keys() == {"catalogue", "plays", "names", "all"}


def test_plays_scale(corpus) -> None:
    found = result("plays_scale.py", corpus, "--rows", 2_000, 300_000)
    assert [run["rows"] for run in found["runs"]] == [2_000, 300_000]
    assert found["worker_memory_ratio"] > 0


def test_train() -> None:
    small = ("--songs", 600, "--columns", 20, "--epochs", 1, "--rounds", 1)
    rows = result("train.py", *small, "--batch", 64, "--shapes", "0x1", "2x1")["rows"]
    assert [(row["batch"], row["shape"]) for row in rows] == [
        (64, name) for name in ("plain", "0 x 1", "2 x 1")
    ]
    assert all(row["against_plain"] > 0 for row in rows)
    shapes = rows[1:]
    assert all(0 < row["of_the_peak"] < 1 for row in shapes)
    assert all(row["cpu_ms_a_step"] > 0 and row["other_cpus"] >= 0 for row in shapes)
    assert shapes[0]["waiting"] == 0 < shapes[1]["waiting"] < 1


def test_tune(corpus, tmp_path) -> None:
    chosen = {
        "source.root": corpus,
        "workspace": tmp_path / "w",
        "embed.lyrics.encoder": "pretrain",
    }
    chosen |= {"pretrain.workers": 0, "pretrain.epochs": 1, "train.epochs": 2, "tune.reports": 2}
    chosen |= {"tune.space": "{train.p: [0.0, 0.1, 0.2]}", "label.k": 3, "cluster.num_cpus": 2}
    chosen |= {"ingest.max_reject_share": 0.3, "embed.lyrics.words": 10}
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(config.load(None, [f"{k}={v}" for k, v in chosen.items()])))
    with without_ray():  # the script's own runs start Ray
        for stage in STAGES[: STAGES.index(fuse.STAGE) + 1]:
            stage.run(config.load(path))
    found = result("tune.py", tmp_path / "w", "--config", path, "--trials", 2)
    (run,) = found["runs"]
    assert run["trials"] == 2
    assert 0 < run["outside"] < 1
    assert min(run["worker_mb"], run["driver_mb"]) > 10
    assert found["worker_memory_ratio"] == 1


def test_signals(corpus, tmp_path) -> None:
    shares = ("--shares", 0.5, 1)
    arguments = (corpus, "--by", "song", "--seeds", 0, "--folds", 0, "--signals", *shares)
    file = tmp_path / "figures.json"
    command = [sys.executable, BENCHMARKS / "signals.py", *arguments, "--json", file]
    subprocess.run([str(part) for part in command], check=True, timeout=300, cwd=BENCHMARKS.parent)
    found = json.loads(file.read_text())["song"]
    whole = {"blend content", "blend context", "popularity"}
    assert whole | {f"{name}, 0.5 of the songs" for name in whole} < found.keys()
    for name, row in found.items():
        assert 0 < row["map"] < 1
        fewer = found.get(f"{name}, 0.5 of the songs")
        assert ("grown" in row) == (fewer is not None)
        if fewer:
            assert row["grown"]["map"] == pytest.approx(row["map"] - fewer["map"])
            assert row["grown"]["low"] <= row["grown"]["high"]


def test_lyrics_encoders(corpus, tmp_path) -> None:
    """Two encoders: what knows no lyrics does not differ, and means are the comparisons' own."""
    chosen = {
        "ingest__max_reject_share": 0.3,
        "compare__methods": "[fusion, linear-features]",
        "compare__fusion": "[{k: 3, modalities: [metadata]}, {k: 3, modalities: [lyrics]}]",
        "compare__test_folds": "[0, 2]",
        "compare__seeds": 2,
        "compare__resamples": 100,
        "compare__wmf": "{factors: 8}",
    }
    with without_ray():
        for pooling in ("cls", "mean"):
            compare.STAGE.run(
                load(corpus, tmp_path / "w", **chosen, embed__lyrics__pooling=pooling)
            )
    found = result("lyrics_encoders.py", tmp_path / "w", "--resamples", 200)
    own = {
        (row["by"], row["encoder"], row["name"]): row["average_precision"] for row in found["rows"]
    }
    assert len(own) == 2 * 2 * 3
    differences = {(each["by"], each["method"]): each for each in found["differences"]}
    assert len(differences) == 2 * 3
    for (by, method), each in differences.items():
        assert (each["a"], each["b"]) == ("pretrain mean", "pretrain cls")
        assert each["map_a"] == pytest.approx(own[by, each["a"], method])
        assert each["map_b"] == pytest.approx(own[by, each["b"], method])
        assert each["low"] <= each["difference"] <= each["high"]
        assert (each["difference"] == 0) == (method == "fusion k=3 metadata")


def test_blend() -> None:
    small = ("--candidates", 1_500, "--rank", 32, "--songs", 300, "--rounds", 1)
    found = result("blend.py", *small)
    (ranking,) = found["ranking"]
    assert ranking["candidates"] == 1_500
    assert all(each > 0 for each in ranking["microseconds"].values())
    assert ranking["ratio"] > 0
    assert [why["history"] for why in found["explanations"]] == [50, 300]
    for why in found["explanations"]:
        assert why["bytes"] > 0
        assert all(each > 0 for each in why["milliseconds"].values())


def test_what_an_explanation_reads_does_not_grow_with_the_catalogue(monkeypatch) -> None:
    """But for where each file that has one of its songs says what is in it."""
    import blend  # type: ignore[import-not-found]

    few, many = (blend.explanations(songs, rank=8, rounds=1) for songs in (20_000, 160_000))
    for before, after in zip(few, many, strict=True):
        files = 3 * (160_000 // blend.ROWS_A_PART)
        assert after["reads"] <= 1.1 * before["reads"] + files  # fewer rows lie side by side
        assert after["bytes"] <= 1.1 * before["bytes"] + 1_024 * files


def test_lists_scale() -> None:
    small = ("--users", 700, "--songs", 500, "--rank", 8, "--top", 20, "--users-per-shard", 300)
    found = result("lists_scale.py", *small)
    stage, look_up = found["stage"], found["look_up"]
    assert stage["users"] == stage["own"] + sum(stage["fallback"].values()) == 700
    assert stage["fallback"]["no play"] > 0
    assert all(stage[name] > 0 for name in ("cpu_seconds", "worker_mb", "kernel_us", "product_us"))
    assert all(size > 0 for size in found["bytes"].values())
    assert look_up["files_of_lists"] == 1  # of three
    assert all(each["worst"] > 0 for each in look_up["milliseconds"].values())


def test_serve() -> None:
    pytest.importorskip("faiss")
    small = ("--songs", 5000, "--rank", 16, "--top", 5, "--rate", 20, "--seconds", 1)
    found = result("serve.py", *small, "--port", free_port())
    assert found["servers"].keys() == {"kernel", "numpy", "faiss"}
    for each in found["servers"].values():
        assert each["same"] > 0.99  # rounding may swap two songs
        assert 0 < each["p50_ms"] <= each["p99_ms"] <= each["worst_ms"]
        assert each["saturated_per_second"] > 0


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def test_update() -> None:
    small = ("--users", 300, "--songs", 400, "--top", 30, "--share", 0.05, "--epochs", 2)
    found = result("update.py", *small)
    counts, ratios = found["counts"], found["ratios"]
    assert counts["new_songs"] == 20
    assert counts["lists"] == 300
    assert 0 < counts["lists_ranked_anew"] < counts["lists_merged"]
    assert found["same"]["users"] > 100
    assert found["same"]["same"] == found["same"]["users"]
    assert ratios.keys() == {
        *("whole", "reading", "vectors of songs", "plays", "lists", "floor"),
    }
    assert all(of["seconds"] > 0 for of in ratios.values())


def test_what_a_made_up_user_played_is_the_users_own() -> None:
    """Whichever users are drawn with it, so that artifacts of other parts agree."""
    import many_users  # type: ignore[import-not-found]

    whole = np.stack(many_users.played(0, 300, 1_000))
    parts = [many_users.played(start, stop, 1_000) for start, stop in ((0, 7), (7, 300))]
    np.testing.assert_array_equal(whole, np.concatenate([np.stack(p) for p in parts], axis=1))
    user, song, plays = whole
    assert (np.diff(user.astype(np.int64) << 32 | song) > 0).all()
    assert 0 <= song.min() <= song.max() < 1_000
    assert plays.min() >= 1
    assert 25 < len(user) / 300 < 50  # 48 drawn, and those of the first songs again and again
    assert len(np.unique(user)) < 300


def test_blend_scale(tmp_path) -> None:
    record = tmp_path / "capacity.json"
    small = ("--songs", 200, "--factors", 1, 2, "--without-tuning", "--record", record)
    found = result("blend_scale.py", *small)
    assert [each["songs"] for each in found["measured"]] == [200, 400]
    for each in found["measured"]:
        assert {"PageRank", "matrix factorisation", "ridge", "rotation"} <= each["parts"].keys()
        assert all(part["mb"] > 10 for part in each["parts"].values())
    assert json.loads(record.read_text())["blend"]["factors"] == [1, 2]


def test_rehearsal(tmp_path) -> None:
    """Without lyrics and blend, for speed; the corpus is there already."""
    import rehearsal  # type: ignore[import-not-found]

    asked = {"songs": 120, "users": 30, "plays": 20.0, "lyrics": 0.24, "seed": 0, "processes": 1}
    truth, seconds = rehearsal.corpus(tmp_path / "corpus", argparse.Namespace(**asked))
    assert seconds > 0
    assert truth.users == 30
    others = argparse.Namespace(**{**asked, "songs": 130})
    with pytest.raises(SystemExit, match="other sizes"):
        rehearsal.corpus(tmp_path / "corpus", others)

    sizes = [part for name, value in asked.items() for part in (f"--{name}", value)]
    small = ["embed.modalities=[metadata,audio]", "recommend.model=genre", "train.workers=0"]
    settings = [part for each in small for part in ("--set", each)]
    kill = ("--kill", "ingest", "--kill-after", 0.1, "--epochs", 1, "--cpus", 2)
    found = result("rehearsal.py", tmp_path / "corpus", *sizes, *settings, *kill)
    assert found["corpus"]["written_in_seconds"] is None
    assert found["killed"]["worker"].startswith(("ray::MapBatches(", "ray::_run_guarded"))
    assert found["lost"] == {}
    assert set(small) < set(found["overridden"])
    assert found["stages"].keys() == {
        *("ingest", "split", "label", "embed", "fuse", "train", "recommend", "evaluate")
    }
    for stage in found["stages"].values():
        assert min(stage["disk_mb"], stage["memory_mb"]["driver"], stage["memory_mb"]["all"]) > 0
    assert {"wall_seconds", "cpu_seconds", "driver_mb"} <= found["stages"]["ingest"][
        "ratios"
    ].keys()
    assert found["stages"]["train"]["predicted"]["cpu_seconds"] > 0
    for stage in ("ingest", "embed", "train", "recommend"):
        assert found["stages"][stage]["memory_mb"]["worker"] > 50
