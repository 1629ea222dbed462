"""Workers, actors and nodes that die, or are ended for memory, and what is said of them."""

import contextlib
import glob
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from fusionrec.errors import StageError
from pipelines import config as config_module
from pipelines import embed, ingest, run
from pipelines.runtime import failures, sharding, stream
from pipelines.runtime.stream import Arrays, Pool, Sink, Source
from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import copied, overrides
from tests.pipelines.deaths import killing, ray_processes


def artifact(workspace: Path, stage: str, name: str) -> pa.Table:
    return Workspace(str(workspace)).read(stage, name)


@pytest.mark.slow
def test_ingest_survives_the_death_of_workers(corpus, finished, ray_session, tmp_path) -> None:
    settings = overrides(corpus, tmp_path, ingest__files_per_shard=4, ingest__bytes_per_shard=4096)
    with killing("MapBatches(Reading)", tmp_path / "ingest/*/reports/*.json", times=3) as killed:
        ingest.STAGE.run(config_module.load(None, settings))
    assert killed
    for name in ("songs", "plays", "users", "vocabulary", "other_lyrics"):
        expected = artifact(finished, "ingest", name)
        found = artifact(tmp_path, "ingest", name)
        if name == "plays":  # sorted within parts, which here are others
            expected, found = (
                t.sort_by([(c, "ascending") for c in t.column_names]) for t in (expected, found)
            )
        assert found.equals(expected), name
    counts = Workspace(str(tmp_path)).require("ingest")["counts"]
    expected_counts = Workspace(str(finished)).require("ingest")["counts"]
    for name in ("tracks", "songs", "lyrics", "triplets", "plays", "rejects"):
        assert counts[name] == expected_counts[name], name


@pytest.mark.slow
def test_embed_survives_the_death_of_its_actors(corpus, finished, ray_session, tmp_path) -> None:
    workspace = copied(finished, tmp_path / "workspace", "ingest", "split", "pretrain")
    sign = workspace / "embed/*/lyrics/*.parquet"
    with killing("MapWorker", workspace / "embed/*/lease/*.json", times=2) as killed:
        embed.STAGE.run(config_module.load(None, overrides(corpus, workspace)))
    assert killed
    assert glob.glob(str(sign))
    for name in ("metadata", "lyrics"):
        found, expected = (artifact(w, "embed", name) for w in (workspace, finished))
        assert found.equals(expected), name


def low_on_memory(kind: type[ray.exceptions.RayError]) -> ray.exceptions.RayError:
    """What Ray raises where its memory monitor has ended an actor for the last time."""
    text = (
        "Task was killed due to the node running low on memory.\nMemory on the node (IP: 10.0.0.1) "
        "was 15.2GB / 16.0GB (0.95), which exceeds the memory usage threshold of 0.95."
    )
    if kind is ray.exceptions.OutOfMemoryError:
        return ray.exceptions.OutOfMemoryError(text)
    error = ray.exceptions.ActorDiedError()
    error.error_msg = text
    return error


@pytest.mark.parametrize(
    "kind", [ray.exceptions.OutOfMemoryError, ray.exceptions.ActorDiedError], ids=["oom", "died"]
)
@pytest.mark.parametrize("reports", [0, 2])
def test_an_encoder_that_is_ended_for_memory_each_time_ends_the_stage(
    monkeypatch, kind, reports
) -> None:
    """Ray Data restarts its actor :data:`sharding.ACTOR_RESTARTS` times, then it raises."""

    class Streamed:
        def iter_rows(self):
            for number in range(reports):
                outcome = sharding._packed((number, "", number))
                yield {"outcome": outcome, "seconds": [], "bytes": [], "waited": 0.0}
            raise low_on_memory(kind)

    monkeypatch.setattr(stream, "_dataset", lambda *_: Streamed())
    with pytest.raises(StageError) as caught:
        stream.stream(
            None,
            [[0], [1], [2]],
            Source("read", no_arrays, {}),
            Pool("encode", iter, (), {}, actor="the encoder"),
            Sink("write", no_arrays),
            description="encoding lyrics",
        )
    when = "while it worked" if reports else "before it had done anything"
    assert str(caught.value) == (
        f"encoding lyrics: the process of the encoder died 5 times {when}: "
        "Ray ended it because its node ran low on memory"
    )


def no_arrays(*_: object) -> Arrays:
    return {}


def test_what_a_dead_actors_errors_say() -> None:
    killed = ray.exceptions.OutOfMemoryError(
        "Task was killed due to the node running low on memory"
    )
    ended = ray.exceptions.ActorDiedError()
    ended.__cause__ = RuntimeError("")  # as Ray Data adds one
    assert failures.death(killed) == "Ray ended it because its node ran low on memory"
    assert "it was killed" in (failures.death(ended) or "")
    assert failures.death(ValueError("of another kind")) is None
    assert failures.root_cause(ended).startswith("ActorDiedError: The actor died unexpectedly")


@pytest.mark.slow
def test_every_stage_survives_the_death_of_a_worker(
    corpus, finished, ray_session, tmp_path
) -> None:
    """A worker of each stage is killed while it works; the artifacts are those of `finished`."""
    stages = [stage.name for stage in run.STAGES]
    killed: dict[str, int] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            time.sleep(0.002)
            begun = [s for s in stages if glob.glob(str(tmp_path / s / "*/lease/*.json"))]
            if not begun or begun[-1] in killed:
                continue
            for title in ("Map(_Guarded)", "MapBatches(Reading)", "MapWorker(", "_run_guarded"):
                for pid in ray_processes(title)[:1]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        killed[begun[-1]] = pid

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        counts = run.run(config_module.load(None, overrides(corpus, tmp_path)))
    finally:
        done.set()
        thread.join()
    assert set(killed) >= {"ingest", "label", "pretrain", "embed", "fuse", "train", "recommend"}
    for stage, name in (
        ("ingest", "songs"),
        ("split", "split"),
        ("label", "labels"),
        ("embed", "metadata"),
        ("embed", "lyrics"),
        ("fuse", "fused"),
        ("train", "song_vectors"),
        ("recommend", "recommendations"),
    ):
        found, expected = (artifact(w, stage, name) for w in (tmp_path, finished))
        assert found.equals(expected), (stage, name)
    assert counts["evaluate"]["counts"] == Workspace(str(finished)).require("evaluate")["counts"]


@pytest.mark.parametrize("raised", [ZeroDivisionError("division by zero"), KeyError("no such")])
def test_what_a_worker_raised_is_named(ray_session, raised) -> None:
    """Not Ray Data's advice about retries, which is the last line of its exception."""

    def fail(shard):
        raise raised

    with pytest.raises(StageError, match=f"failing: a worker failed: {type(raised).__name__}"):
        sharding.map_shards(None, fail, [{"part": 0}], description="failing")


SHORT_OF_MEMORY = """
import sys
import time
from fusionrec.errors import StageError
from pipelines.cli.stdout import stdout_for_results
from pipelines.config import ClusterConfig
from pipelines.runtime import session, tasks
from pipelines.runtime.workspace import Workspace

if __name__ == "__main__":
    with stdout_for_results():
        session.start(ClusterConfig(num_cpus=1, object_store_mb=100))
        try:
            tasks.run_task(Workspace(sys.argv[1]).begin("label", {}), time.sleep, 600)
        except StageError as error:
            print(error)
"""


@pytest.mark.slow
def test_memory_that_is_short_ends_the_stage_by_name(tmp_path) -> None:
    """Ray's monitor stopped the task again and again, and told of it on standard output."""
    script = tmp_path / "script.py"
    script.write_text(SHORT_OF_MEMORY)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "PYTHONPATH": os.getcwd(),
        # However little is in use is too much.
        "RAY_memory_usage_threshold": "0.001",
        "RAY_memory_monitor_refresh_ms": "200",
    }
    done = subprocess.run(
        [sys.executable, script, tmp_path / "w"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1, done.stdout
    assert done.stdout.startswith("label: memory was short (")
