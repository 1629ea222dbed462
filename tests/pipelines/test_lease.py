"""One writer a result: who holds the lease, who is dead, and what is said."""

import multiprocessing
import socket
import threading
import time
from unittest.mock import Mock

import pytest

from fusionrec.errors import BusyError
from pipelines.runtime import lease
from pipelines.runtime.workspace import StageRun, Workspace


def claims(run: StageRun) -> dict:
    return lease.claims(run.workspace, run.stage)


@pytest.fixture
def run(tmp_path, monkeypatch) -> StageRun:
    monkeypatch.setattr(lease, "RENEWED_EVERY", 0.1)
    monkeypatch.setattr(lease, "PATIENCE", 1.0)
    run = Workspace(str(tmp_path)).begin("train", {})
    assert run is not None
    return run


def test_a_second_writer_is_told_of_the_first(run) -> None:
    with lease.held(run):
        with pytest.raises(
            BusyError, match=rf"stage train: at work since .* on {socket.gethostname()}"
        ):
            lease.held(run).__enter__()
        assert len(claims(run)) == 1
    assert not claims(run)
    with lease.held(run) as held:
        held.check()


def test_results_of_other_configs_are_written_at_the_same_time(run) -> None:
    other = Workspace(run.workspace.uri).begin("train", {"settings": 2})
    with lease.held(run), lease.held(other):
        pass


def test_the_lease_of_a_dead_process_of_this_machine_is_taken_over_at_once(
    run, monkeypatch
) -> None:
    process = multiprocessing.get_context("fork").Process(target=_claim_and_die, args=(run,))
    process.start()
    process.join()
    assert len(claims(run)) == 1
    waited = Mock()
    monkeypatch.setattr(lease.time, "sleep", waited)
    with lease.held(run):
        waited.assert_called_once()  # stepped back; not looked whether that one moves
        assert len(claims(run)) == 1


def _claim_and_die(run: StageRun) -> None:
    lease.Lease(run, "dead.json")._renew()


@pytest.mark.parametrize("process_started", [None, "7"])
def test_a_lease_that_stands_still_is_taken_over(run, process_started) -> None:
    """Of another machine, or in a copy of a workspace whose run goes on elsewhere."""
    lease.Lease(run, "elsewhere.json")._renew()
    claim = run.read_json(lease.FOLDER, "elsewhere.json")
    claim |= {"machine": "another", "process_started": process_started, "beat": 40}
    run.write_json(claim, lease.FOLDER, "elsewhere.json")
    with lease.held(run):
        assert "elsewhere.json" not in claims(run)


def test_a_claim_of_before_a_restart_stands_in_nobodys_way(run) -> None:
    """A machine that was started anew, a container in the place of another: no process to look at.

    Whoever only looks, as the check before a run does, must see it, too.
    """
    lease.Lease(run, "before.json")._renew()
    claim = run.read_json(lease.FOLDER, "before.json")
    run.write_json({**claim, "machine": "before"}, lease.FOLDER, "before.json")
    assert lease.living(run.workspace, run.stage) is None
    with lease.held(run):
        found = lease.living(run.workspace, run.stage)
        assert found is not None
        assert found["machine"] == lease._machine()


def test_who_was_taken_for_dead_does_not_finish(run) -> None:
    with lease.held(run) as held:
        (name,) = claims(run)
        run.workspace.fs.delete_file(run.path(lease.FOLDER, name))
        with pytest.raises(BusyError, match="another took over"):
            held.check()
        assert held.lost.wait(10)


def test_a_clock_that_jumps_kills_nobody(run, monkeypatch) -> None:
    with lease.held(run):
        jumped = time.time() + 1e6
        monkeypatch.setattr(time, "time", lambda: jumped)
        monkeypatch.setattr(time, "strftime", lambda *_: "in 1970")
        with pytest.raises(BusyError, match="at work since"):
            lease.held(run).__enter__()


def test_of_many_that_come_at_once_one_holds_the_lease(run) -> None:
    holding, most, refused, done = 0, 0, 0, 0
    lock, start = threading.Lock(), threading.Barrier(6)

    def work() -> None:
        nonlocal holding, most, refused, done
        start.wait()
        try:
            with lease.held(run):
                with lock:
                    holding += 1
                    most = max(most, holding)
                time.sleep(0.3)
                with lock:
                    holding -= 1
                    done += 1
        except BusyError:
            with lock:
                refused += 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 1
    assert done + refused == 6
