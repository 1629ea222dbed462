"""Workers, actors and nodes that die, disks that fill up, sources that change."""

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from fusionrec.errors import EncoderError, SourceError, StageError, WorkspaceError
from fusionrec.formats import hdf5
from fusionrec.formats.hdf5 import direct
from fusionrec.formats.sample.corpus import write_sample
from pipelines import config as config_module
from pipelines import embed, ingest, run
from pipelines.ingest import crashes
from pipelines.ingest.crashes import NOTES, CrashNotes
from pipelines.runtime import failures, sharding
from pipelines.runtime.workspace import StageRun, Workspace
from tests.pipelines.conftest import arguments, copied, overrides


def artifact(workspace: Path, stage: str, name: str) -> pa.Table:
    return Workspace(str(workspace)).read(stage, name)


def ray_processes(title: str) -> list[int]:
    """Processes of this machine's Ray that run something of this title."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            command = (folder / "cmdline").read_bytes()
            if command.startswith(b"ray::") and title.encode() in command:
                found.append(int(folder.name))
    return found


@contextlib.contextmanager
def killing(title: str, sign: Path, times: int = 2) -> Iterator[list[int]]:
    """While it lasts: once `sign` appears, SIGKILL processes of Ray that run `title`."""
    killed: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set() and len(killed) < times:
            if glob.glob(str(sign)):
                for pid in ray_processes(title)[:1]:
                    if pid not in killed:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                            killed.append(pid)
                        time.sleep(0.3)
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


@pytest.mark.slow
def test_ingest_survives_the_death_of_workers(corpus, finished, ray_session, tmp_path) -> None:
    settings = overrides(corpus, tmp_path, ingest__files_per_shard=4, ingest__bytes_per_shard=4096)
    with killing("Map(_Guarded)", tmp_path / "ingest/*/reports/*.json", times=3) as killed:
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


def dies_at_once(*_: object) -> None:
    os._exit(1)


def dies_at_work(*_: object) -> Callable[[int], int]:
    def work(number: int) -> int:
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    return work


@pytest.mark.parametrize(
    ("factory", "when"),
    [
        (dies_at_once, "before it had done anything"),
        pytest.param(dies_at_work, "", marks=pytest.mark.slow),
    ],
)
def test_an_actor_whose_process_dies_each_time_ends_the_stage(
    ray_session, monkeypatch, factory, when
) -> None:
    """As an encoder does that is too large for its node's memory."""
    monkeypatch.setattr(sharding, "ACTOR_RESTARTS", 1)
    with pytest.raises(StageError) as caught:
        sharding.map_in_actors(
            None,
            factory,
            ("settings",),
            [0, 1],
            description="encoding lyrics",
            actor="the lyrics encoder some/encoder",
        )
    message = str(caught.value)
    assert message.startswith(
        "encoding lyrics: the process of the lyrics encoder some/encoder died 2 times "
    )
    assert when in message
    assert "it was killed" in message
    assert "\n" not in message


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
    given = {}

    class Mapped:
        def iter_rows(self):
            for number in range(reports):
                yield {"outcome": sharding._packed((number, "", number))}
            raise low_on_memory(kind)

    def mapped(shards, **options):
        given.update(options)
        return Mapped()

    monkeypatch.setattr(sharding, "_mapped", mapped)
    monkeypatch.setattr(sharding.resources, "cpus", lambda: 2)
    with pytest.raises(StageError) as caught:
        sharding.map_in_actors(
            None, dies_at_once, (), [0, 1, 2], description="encoding lyrics", actor="the encoder"
        )
    when = "while it worked" if reports else "before it had done anything"
    assert str(caught.value) == (
        f"encoding lyrics: the process of the encoder died 5 times {when}: "
        "Ray ended it because its node ran low on memory"
    )
    assert given["max_restarts"] == 4


def refuses_to_start(*_: object) -> None:
    raise EncoderError("embed.lyrics.encoder = some/encoder: cannot be had")


class Panic(BaseException):
    """As Rust's panics come to Python."""


def panics(*_: object) -> None:
    raise Panic("a panic is no Exception")


@pytest.mark.parametrize(
    ("factory", "error", "message"),
    [
        (refuses_to_start, EncoderError, "embed.lyrics.encoder = some/encoder: cannot be had"),
        (panics, StageError, "a panic is no Exception"),
    ],
)
def test_an_actor_that_raises_in_its_start_ends_the_stage(
    ray_session, factory, error, message
) -> None:
    with pytest.raises(error, match=message) as caught:
        sharding.map_in_actors(None, factory, (), [0], description="encoding lyrics")
    assert "\n" not in str(caught.value)


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
            for title in ("Map(_Guarded)", "MapWorker(", "_run_guarded"):
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


def lose_node(stage: str, settings: list[str]) -> None:
    """Run a stage on two nodes, one of which is removed; in a process of its own."""
    script = Path(__file__).with_name("node_loss.py")
    done = subprocess.run(
        [sys.executable, str(script), stage, *settings],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "removed a node" in done.stdout


@pytest.mark.slow
def test_a_node_is_lost_in_ingest(corpus, finished, tmp_path) -> None:
    lose_node("ingest", overrides(corpus, tmp_path / "w", ingest__files_per_shard=4))
    for name in ("songs", "users"):
        found, expected = (artifact(w, "ingest", name) for w in (tmp_path / "w", finished))
        assert found.equals(expected), name


@pytest.mark.slow
def test_a_node_is_lost_in_embed(corpus, finished, tmp_path) -> None:
    workspace = copied(finished, tmp_path / "w", "ingest", "split", "pretrain")
    lose_node("embed", overrides(corpus, workspace))
    for name in ("metadata", "lyrics"):
        found, expected = (artifact(w, "embed", name) for w in (workspace, finished))
        assert found.equals(expected), name


def test_a_source_on_another_filesystem(corpus, finished, ray_session, tmp_path) -> None:
    settings = overrides(f"file://{corpus}", tmp_path / "w")
    ingest.STAGE.run(config_module.load(None, settings))
    for name in ("songs", "plays", "users", "lyrics"):
        found, expected = (artifact(w, "ingest", name) for w in (tmp_path / "w", finished))
        assert found.equals(expected), name


@pytest.mark.parametrize("raised", [ZeroDivisionError("division by zero"), KeyError("no such")])
def test_what_a_worker_raised_is_named(ray_session, raised) -> None:
    """Not Ray Data's advice about retries, which is the last line of its exception."""

    def fail(shard):
        raise raised

    with pytest.raises(StageError, match=f"failing: a worker failed: {type(raised).__name__}"):
        sharding.map_shards(None, fail, [{"part": 0}], description="failing")


# --- disks -------------------------------------------------------------------------------


def in_mount(options: str, corpus: Path, target: Path) -> subprocess.CompletedProcess:
    """`fusionrec ingest` into a small file system of its own, in a mount namespace of its own."""
    target.mkdir()
    ingesting = [sys.executable, "-m", "pipelines.cli", "ingest"]
    ingesting += arguments(corpus, target / "workspace")
    script = (
        f'mount -t tmpfs -o {options} tmpfs "$0" || exit 77; shift 0; "$@"; code=$?; '
        'find "$0" -name manifest.json -o -name ".tmp-*"; exit $code'
    )
    return subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script, str(target), *ingesting],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"), [("size=64k", "No space left"), ("ro", "Read-only file system")]
)
def test_a_disk_that_takes_nothing_more(corpus, tmp_path, options, message) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not there")
    done = in_mount(options, corpus, tmp_path / "disk")
    if done.returncode in (1, 77) and "fusionrec:" not in done.stderr:
        pytest.skip(f"no mount namespaces here: {done.stderr.strip()}")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() == ""  # no manifest, no half file


class _Full:
    """A stream on a full disk."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def write(self, content: bytes) -> None:
        raise OSError(28, "No space left on device")


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch) -> None:
    workspace = Workspace(str(tmp_path), {"stage": "key"})
    workspace.write_bytes(b"old", "stage", "file")

    class FullDisk:
        def __getattr__(self, name):
            return getattr(Workspace(str(tmp_path)).fs, name)

        def open_output_stream(self, path):
            Path(path).touch()
            return _Full()

    monkeypatch.setattr(workspace, "fs", FullDisk())
    with pytest.raises(WorkspaceError, match=r"stage/key/file: cannot be written .*No space left"):
        workspace.write_bytes(b"new", "stage", "file")
    assert [p.name for p in (tmp_path / "stage" / "key").iterdir()] == ["file"]
    assert (tmp_path / "stage" / "key" / "file").read_bytes() == b"old"


def test_a_part_is_whole_or_absent(tmp_path) -> None:
    run = Workspace(str(tmp_path)).begin("stage", {})
    assert run is not None
    schema = pa.schema([("a", pa.int32())])

    def write() -> None:
        with run.writing(schema, "rows", 0) as writer:
            writer.write_table(pa.table({"a": pa.array([1], pa.int32())}))
            raise RuntimeError("killed in the middle")

    with pytest.raises(RuntimeError):
        write()
    assert run.workspace.parts("stage", "rows") == []
    assert not list((tmp_path / "stage" / run.key / "rows").iterdir())


# --- sources that change -----------------------------------------------------------------


@pytest.fixture
def own_corpus(tmp_path) -> Path:
    write_sample(tmp_path / "corpus", songs=60, users=20, seed=2)
    return tmp_path / "corpus"


@pytest.mark.parametrize("change", ["grows", "shrinks", "goes"])
def test_a_source_changes_while_it_is_read(
    own_corpus, ray_session, tmp_path, monkeypatch, change
) -> None:
    """Changed between reading and the end of the stage: an error, and no manifest."""
    triplets = own_corpus / "tasteprofile" / "train_triplets.txt"
    from pipelines.ingest import stage

    merge = stage._merge_rejects

    def changing(run: StageRun):
        if change == "grows":
            with triplets.open("a") as file:
                file.write("someone\tSOAAAAA12A6D4F0000\t1\n")
        elif change == "shrinks":
            os.truncate(triplets, 100)
        else:
            triplets.unlink()
        return merge(run)

    settings = config_module.load(None, overrides(own_corpus, tmp_path / "w"))
    monkeypatch.setattr(stage, "_merge_rejects", changing)
    with pytest.raises(SourceError, match=r"changed while|does not exist"):
        ingest.STAGE.run(settings)
    assert Workspace(str(tmp_path / "w")).manifest("ingest") is None


def ingest_run(workspace: Path) -> StageRun:
    run = Workspace(str(workspace)).begin("ingest", {})
    assert run is not None
    return run


def test_files_disappear_between_listing_and_reading(own_corpus, ray_session, tmp_path) -> None:
    from pipelines.ingest import songs

    settings = config_module.load(None, overrides(own_corpus, tmp_path / "w"))
    run = ingest_run(tmp_path / "w")
    shards, _ = songs.song_shards(settings, run)
    gone = hdf5.track_paths(str(own_corpus / "MillionSong"))[1]
    Path(gone).unlink()
    with pytest.raises(SourceError, match=rf"{Path(gone).name}: was there when this run began"):
        songs._read_song_shard(run, "none", "attempt", shards[0])
    assert run.workspace.parts("ingest", "raw_songs") == []


# --- files that crash the library that reads them ----------------------------------------


def note_of_a_process(run: StageRun, path: str, *, attempt: str = "this", node: str = "") -> None:
    """What a process leaves that vanishes with a file open: forked, it ends with no clean-up."""
    child = os.fork()
    if child == 0:
        entered = CrashNotes(run, 0, attempt)(path)  # held, or it would be left
        entered.__enter__()
        os._exit(1)
    os.waitpid(child, 0)
    if node:
        note = run.read_json(NOTES, "00000.json")
        run.write_json({**note, "process": {**note["process"], "node": node}}, NOTES, "00000.json")


def refusal(run: StageRun, path: str) -> str:
    with CrashNotes(run, 0, "this")(path) as why:
        return why


def test_a_file_that_workers_die_on_is_left_out(own_corpus, tmp_path) -> None:
    run = ingest_run(tmp_path / "w")
    root = str(own_corpus / "MillionSong")
    paths = hdf5.track_paths(root)
    for deaths in range(2):
        assert refusal(run, paths[3]) == "", deaths
        note_of_a_process(run, paths[3])
    assert refusal(run, paths[0]) == ""  # another one may be opened
    direct._known_layouts.cache_clear()
    expected = hdf5.read_tracks(paths[:3] + paths[4:], root)
    direct._known_layouts.cache_clear()
    # Without known layouts the file goes to libhdf5.
    notes = CrashNotes(run, 0, "this")
    batch = hdf5.read_tracks([paths[3], *paths[:3], *paths[4:]], root, watch=notes)
    assert batch.table.equals(expected.table)
    reject = batch.rejects.to_pylist()[0]
    assert reject["reason"] == "workers died while they read it"
    assert reject["detail"].startswith("2 processes vanished with it open: process ")
    assert (reject["action"], reject["source"]) == ("dropped", os.path.relpath(paths[3], root))


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, MemoryError, ValueError])
def test_a_process_that_is_interrupted_did_not_die_of_a_file(tmp_path, raised) -> None:
    run = ingest_run(tmp_path)
    for _ in range(3):
        with pytest.raises(raised), CrashNotes(run, 0, "this")("a.h5"):
            raise raised
        assert refusal(run, "a.h5") == ""
    assert run.read_json(NOTES, "00000.json")["deaths"] == {}


def test_the_end_of_an_earlier_run_is_not_its_files_death(tmp_path) -> None:
    """Ctrl-C kills the workers, and what they had open stays noted."""
    run = ingest_run(tmp_path)
    for attempt in ("one", "two", "three"):
        note_of_a_process(run, "a.h5", attempt=attempt)
    assert refusal(run, "a.h5") == ""
    assert run.read_json(NOTES, "00000.json")["deaths"] == {}


def test_deaths_of_earlier_runs_are_remembered(tmp_path) -> None:
    run = ingest_run(tmp_path)
    for attempt in ("one", "two"):
        note_of_a_process(run, "a.h5", attempt=attempt)
        CrashNotes(run, 0, attempt)._write("")  # the same run's next try finds it
    assert refusal(run, "a.h5") != ""


def test_a_node_that_is_lost_is_not_a_files_death(ray_session, tmp_path) -> None:
    run = ingest_run(tmp_path)
    for _ in range(3):
        note_of_a_process(run, "a.h5", node="0" * 56)  # none of this cluster
        assert refusal(run, "a.h5") == ""
    assert run.read_json(NOTES, "00000.json")["deaths"] == {}


def test_a_process_that_still_runs_did_not_die(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(crashes, "_LOOKS", 1)
    run = ingest_run(tmp_path)
    entered = CrashNotes(run, 0, "this")("a.h5")
    entered.__enter__()
    note = run.read_json(NOTES, "00000.json")
    assert note["open"] == "a.h5"
    assert not crashes.vanished(note["process"])
    # A later process of the same id is another one.
    assert crashes.vanished({**note["process"], "began": "long ago"})


def test_a_file_that_kills_its_workers_is_listed_and_the_run_goes_on(
    own_corpus, ray_session, tmp_path
) -> None:
    run = ingest_run(tmp_path / "w")
    path = hdf5.track_paths(str(own_corpus / "MillionSong"))[3]

    def read(attempt: str, shard: int) -> str:
        with CrashNotes(run, 0, attempt)(path) as why:
            if not why:
                os.kill(os.getpid(), signal.SIGKILL)
        return why

    (why,) = sharding.map_shards(run, partial(read, "this"), [0], description="x")
    assert why.startswith("2 processes vanished with it open: process ")


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
    (line,) = done.stdout.splitlines()
    assert line.startswith("label: memory was short (")
