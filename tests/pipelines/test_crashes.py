"""Files on which workers die are left out; no other end of a worker counts."""

import os
import signal
from dataclasses import dataclass
from functools import partial

import pytest

from fusionrec.formats import hdf5
from fusionrec.formats.hdf5 import direct
from pipelines.ingest import crashes, songs
from pipelines.ingest.crashes import NOTES, CrashNotes
from pipelines.ingest.reading import Tables, read_shards
from pipelines.runtime.shards import Shard
from pipelines.runtime.workspace import StageRun
from tests.pipelines.conftest import ingest_run
from tests.pipelines.inline import load, without_ray


@dataclass(frozen=True)
class Refusal:
    why: str


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


def test_ingest_notes_what_it_has_open(own_corpus, tmp_path) -> None:
    run = ingest_run(tmp_path / "w")
    shards, _ = songs.song_shards(load(own_corpus, tmp_path / "w"), run)
    path = hdf5.track_paths(str(own_corpus / "MillionSong"))[0]
    for _ in range(2):
        assert refusal(run, path) == ""
        note_of_a_process(run, path)
    direct._known_layouts.cache_clear()  # the first of a layout goes to libhdf5
    with without_ray():
        found, _ = songs._read_song_shard(run, "none", "this", shards[0])
    reject = found["song_rejects"].to_pylist()[0]
    assert path.endswith(reject["source"])
    assert reject["reason"] == "workers died while they read it"
    note = run.read_json(NOTES, "00000.json")
    assert (note["open"], note["attempt"]) == ("", "this")


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

    def read(attempt: str, shard: Shard) -> tuple[Tables, Refusal]:
        with CrashNotes(run, shard.part, attempt)(path) as why:
            if not why:
                os.kill(os.getpid(), signal.SIGKILL)
        return {}, Refusal(why)

    reading = partial(read, "this")
    (found,), _ = read_shards(run, "x", reading, [Shard(0)], [], Refusal, description="x")
    assert found.why.startswith("2 processes vanished with it open: process ")
