"""Tasks of which one fails: the others have ended when the error is raised."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from fusionrec.errors import DataError, StageError
from pipelines.runtime import tasks


def fails_beside(folder: Path) -> None:
    """Once another one is at work."""
    while not list(folder.glob("*.begun")):
        time.sleep(0.02)
    raise DataError("nothing to learn from")


def works_on(folder: Path, name: str, *, stubborn: bool = False) -> None:
    """Without end, a byte at a time."""
    while True:
        try:
            with (folder / f"{name}.begun").open("ab") as file:
                file.write(b"x")
            time.sleep(0.02)
        except BaseException:
            if not stubborn:
                raise


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.glob("*.begun")}


def assert_all_ended(folder: Path) -> None:
    before = sizes(folder)
    time.sleep(0.5)
    assert sizes(folder) == before != {}


def gathered(folder: Path) -> None:
    tasks.gather(
        [
            tasks.submit(None, works_on, folder, "a"),
            tasks.submit(None, fails_beside, folder),
        ]
    )


def waited(folder: Path) -> None:
    # Theirs are none, so that there are some for what waits for them.
    tasks.wait(
        None,
        [
            tasks.submit(None, works_on, folder, "a", num_cpus=0),
            tasks.submit(None, fails_beside, folder, num_cpus=0),
        ],
    )


def one_of_many(folder: Path, shard: int) -> None:
    if shard == 1:
        fails_beside(folder)
    works_on(folder, str(shard))


def mapped(folder: Path) -> None:
    tasks.map_tasks(None, partial(one_of_many, folder), range(20), description="many")


@pytest.mark.parametrize("work", [gathered, waited, mapped])
def test_what_still_ran_has_ended(ray_session, tmp_path, work: Callable[[Path], None]) -> None:
    with pytest.raises(DataError, match="nothing to learn from"):
        work(tmp_path)
    assert_all_ended(tmp_path)


def dies_beside(folder: Path) -> None:
    while not (folder / "a.begun").exists():
        time.sleep(0.02)
    raise SystemExit(1)  # the worker goes, and is not started anew


@pytest.mark.slow
def test_so_it_has_where_a_worker_died(ray_session, tmp_path) -> None:
    with pytest.raises(StageError, match="a worker failed"):
        tasks.gather(
            [
                tasks.submit(None, works_on, tmp_path, "a"),
                tasks.submit(None, dies_beside, tmp_path),
            ]
        )
    assert_all_ended(tmp_path)


def test_who_does_not_listen_is_killed(ray_session, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tasks, "SECONDS_TO_END", 0.5)
    stubborn = tasks.submit(None, partial(works_on, stubborn=True), tmp_path, "a")
    with pytest.raises(DataError, match="nothing to learn from"):
        tasks.gather([stubborn, tasks.submit(None, fails_beside, tmp_path)])
    assert_all_ended(tmp_path)


def test_results_are_in_the_order_of_what_was_submitted(ray_session) -> None:
    def after(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    slow, fast = (tasks.submit(None, after, seconds) for seconds in (0.3, 0.0))
    assert tasks.gather([slow, fast, slow]) == [0.3, 0.0, 0.3]
    assert tasks.gather([]) == []
