"""Shards and reports: what is kept of them for a repeated run, and how they travel."""

import logging
from dataclasses import dataclass, field

import numpy as np
import pytest

from pipelines.runtime import sharding, stage, tasks
from pipelines.runtime.shards import RowsShard, Shard, Written, shards_of, shards_of_rows
from pipelines.runtime.stage import processor_lines, resumable
from pipelines.runtime.workspace import StageRun, Workspace


@dataclass(frozen=True)
class Report:
    rows: int
    share: float | None
    left_out: dict[str, int]


@dataclass(frozen=True)
class Travelled:
    name: str
    where: tuple[int, int]
    sums: np.ndarray = field(compare=False)


@pytest.fixture
def run(tmp_path) -> StageRun:
    return StageRun(Workspace(str(tmp_path), {"fuse": "key"}), "fuse", "key", {}, {}, 0.0)


def test_a_finished_shard_is_not_done_again_and_has_the_same_report(run) -> None:
    done = []

    def work(shard: Shard) -> Report:
        done.append(shard.part)
        return Report(np.int64(3), np.float32(0.5), {"no song": np.int32(2)})

    first = resumable(run, "rows", work, Report)(Shard(7))
    again = resumable(run, "rows", work, Report)(Shard(7))
    assert done == [7]
    assert first == again == Report(3, 0.5, {"no song": 2})
    # Plain numbers in both: a numpy number would be text in the manifest.
    for report in (first, again):
        assert [type(report.rows), type(report.share)] == [int, float]
        assert type(report.left_out["no song"]) is int
    assert run.read_json("reports", "rows-00007.json") == {
        "rows": 3,
        "share": 0.5,
        "left_out": {"no song": 2},
    }


def test_a_shard_whose_report_has_other_fields_is_done_again(run) -> None:
    run.write_json({"users": 3}, "reports", "rows-00000.json")
    shard = resumable(run, "rows", lambda shard: Written(5), Written)
    assert shard(Shard(0)) == Written(5)
    assert run.read_json("reports", "rows-00000.json") == {"rows": 5}


def test_a_report_that_is_not_json_is_not_kept_as_something_else(run) -> None:
    @dataclass(frozen=True)
    class Wrong:
        rows: object

    with pytest.raises(TypeError, match="set is not JSON"):
        resumable(run, "rows", lambda shard: Wrong({1}), Wrong)(Shard(0))
    assert not run.workspace.exists("fuse", "reports")


def test_shards_cover_all_rows_once(run) -> None:
    assert shards_of_rows(7, 3) == [RowsShard(0, 0, 3), RowsShard(1, 3, 6), RowsShard(2, 6, 7)]
    assert shards_of_rows(0, 3) == []
    for name in ("part-00004.parquet", "part-00001.parquet"):
        run.write_bytes(b"", "fused", name)
    assert shards_of(run.workspace, "fuse", "fused") == [Shard(1), Shard(4)]


def test_what_processors_can_do_is_logged_once(caplog, monkeypatch) -> None:
    @dataclass(frozen=True)
    class Found:
        processor: dict[str, int]

    monkeypatch.setattr(stage, "log", logging.getLogger("of this test"))
    reports = [Found({"b: slow": logging.WARNING}), Found({"a: fast": logging.INFO}), Found({})]
    with caplog.at_level(logging.INFO, "of this test"):
        assert processor_lines([*reports, *reports]) == ["a: fast", "b: slow"]
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("INFO", "a: fast"),
        ("WARNING", "b: slow"),
    ]


def travel(shard: RowsShard) -> Travelled:
    return Travelled(f"part {shard.part}", (shard.start, shard.stop), np.full(2, shard.start))


@pytest.mark.parametrize("mapped", [tasks.map_tasks, sharding.map_shards])
def test_reports_come_as_they_are_in_the_order_of_the_shards(ray_session, mapped) -> None:
    found = mapped(None, travel, shards_of_rows(11, 4), description="travelling")
    assert found == [
        Travelled("part 0", (0, 4), np.zeros(0)),
        Travelled("part 1", (4, 8), np.zeros(0)),
        Travelled("part 2", (8, 11), np.zeros(0)),
    ]
    assert [report.sums.tolist() for report in found] == [[0, 0], [4, 4], [8, 8]]
