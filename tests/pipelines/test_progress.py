"""The lines of a step's progress, where there is no terminal for a bar."""

import logging

import pytest

from pipelines.cli.sample import sample
from pipelines.runtime import progress


@pytest.fixture(autouse=True)
def _logged(caplog, monkeypatch) -> None:
    monkeypatch.setattr(progress.log, "propagate", True)
    caplog.set_level(logging.INFO, logger="fusionrec")


def test_progress_that_was_seen_to_begin_is_seen_to_end(caplog, monkeypatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    with progress.progress("song vectors", 5) as advance:
        advance(1)
        monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 1e9)
        advance(4)
    assert caplog.messages == ["song vectors: 1 of 5", "song vectors: 5 of 5"]


def test_an_end_that_was_shown_is_not_shown_twice(caplog, monkeypatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    with progress.progress("fusing", 2) as advance:
        advance(1)
        advance(1)
    assert caplog.messages == ["fusing: 1 of 2", "fusing: 2 of 2"]


def test_what_takes_no_time_has_no_line(caplog) -> None:
    with progress.progress("fusing", 2) as advance:
        advance(2)
    assert caplog.messages == []


def test_work_that_failed_does_not_end(caplog, monkeypatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    with pytest.raises(ValueError, match="x"), progress.progress("fusing", 2) as advance:  # noqa: PT012
        advance(1)
        monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 1e9)
        advance(1)
        raise ValueError("x")
    assert caplog.messages == ["fusing: 1 of 2"]


def test_a_sample_ends_at_its_end(caplog, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    sample(tmp_path / "corpus", songs=60, users=30, seed=0)
    lines = [line for line in caplog.messages if " of " in line]
    assert lines[-1] == "writing songs and users: 90 of 90"
