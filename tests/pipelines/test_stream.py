"""Items streamed through operators: whole, once, in order, with faults and figures as they are."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from ray import cloudpickle

from fusionrec.errors import EncoderError, SourceError, StageError, WorkspaceError
from pipelines.runtime import metrics, operators, resources, sharding, stream
from pipelines.runtime.resume import finished, resumable
from pipelines.runtime.shards import Shard, Written
from pipelines.runtime.stream import Arrays, Pool, Sink, Source, grouped
from pipelines.runtime.workspace import StageRun, Workspace

NUMBERS = {"number": pa.int32(), "name": pa.string()}


@pytest.fixture
def run(tmp_path) -> StageRun:
    return StageRun(Workspace(str(tmp_path), {"embed": "key"}), "embed", "key", {}, {}, 0.0)


def read(item: int) -> Arrays:
    """So many numbers: items differ in size, and some are empty."""
    numbers = np.arange(item % 5 * 1_000, dtype=np.int32)
    return {"number": pa.array(numbers), "name": pa.array([f"item {item}"])}


def doubling() -> Callable[[Iterator[Arrays]], Iterator[Arrays]]:
    """Takes an item more before it gives one, as what overlaps copying and work does."""

    def double(items: Iterator[Arrays]) -> Iterator[Arrays]:
        held: list[Arrays] = []
        for arrays in items:
            held.append({**arrays, "number": pa.array(2 * arrays["number"].to_numpy())})
            if len(held) > 1:
                yield held.pop(0)
        yield from held

    return double


def write(folder: Path, item: int, arrays: Arrays) -> tuple[int, str]:
    with (folder / f"{item}").open("x") as file:  # once only
        file.write(arrays["name"][0].as_py())
    return int(arrays["number"].to_numpy().sum()), arrays["name"][0].as_py()


def of(folder: Path, **changed: object) -> dict[str, object]:
    parts = {
        "source": Source("read", read, NUMBERS),
        "pool": Pool("double", doubling, (), NUMBERS),
        "sink": Sink("write", lambda item, arrays: write(folder, item, arrays)),
    }
    return {**parts, **changed}


def test_each_item_is_written_once_and_reported_in_its_place(
    ray_session, run, tmp_path, monkeypatch
) -> None:
    counted: list[tuple[str, float, str]] = []
    monkeypatch.setattr(
        metrics, "count", lambda name, n, **tags: counted.append((name, n, tags.get("operator")))
    )
    groups = grouped(list(range(11)), [1.0] * 11, 3)
    assert groups == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]]
    folder = tmp_path / "written"
    folder.mkdir()
    reports, statistics = stream.stream(run, groups, **of(folder), description="doubling")
    expected = [(sum(2 * j for j in range(i % 5 * 1_000)), f"item {i}") for i in range(11)]
    assert reports == expected
    assert {path.name for path in folder.iterdir()} == set(map(str, range(11)))
    counts = statistics.counts()
    assert {name: counts[name]["items"] for name in ("read", "double", "write")} == dict.fromkeys(
        ("read", "double", "write"), 11
    )
    numbers = sum(i % 5 * 1_000 for i in range(11))
    assert counts["read"]["bytes"] >= 4 * numbers
    assert counts["write"]["bytes"] == 0
    assert statistics.operators["double"].seconds > 0
    assert counts["waited_seconds"] >= 0
    items = [n for name, n, of in counted if (name, of) == ("fusionrec_stream_items", "double")]
    assert sum(items) == 11


def test_without_actors_an_item_is_read_and_written_by_one_process(ray_session, tmp_path) -> None:
    """So nothing is copied into the object store; no groups are made either."""

    def read_here(item: int) -> Arrays:
        return {**read(item), "name": pa.array([f"process {os.getpid()}"])}

    sink = Sink("write", lambda item, arrays: (*write(tmp_path, item, arrays), os.getpid()))
    source = Source("read", read_here, NUMBERS)
    parts = {"source": source, "pool": None, "sink": sink}
    groups = [[0, 1, 2], [3], [4, 5]]
    reports, statistics = stream.stream(None, groups, **parts, description="copying")
    assert [total for total, *_ in reports] == [sum(range(i % 5 * 1_000)) for i in range(6)]
    assert all(name == f"process {process}" for _, name, process in reports)
    dataset = stream._dataset(None, stream._numbered(groups), source, None, sink)
    assert "MapBatches(Reading)->MapBatches(Writing)" in dataset.materialize().stats()
    counts = statistics.counts()
    assert counts.keys() == {"read", "write"}  # nobody waits where there are no actors
    assert {name: counts[name]["items"] for name in counts} == {"read": 6, "write": 6}
    assert counts["read"]["bytes"] >= 4 * 10_000


def test_no_items() -> None:
    assert stream.stream(None, [], **of(Path()), description="nothing")[0] == []


def test_groups_are_of_a_size_or_more() -> None:
    assert grouped("abcde", [5, 1, 1, 9, 1], 3) == [["a"], ["b", "c", "d"], ["e"]]
    assert grouped("ab", [0, 0], 1) == [["a", "b"]]
    assert grouped("", [], 1) == []


def test_operators_are_not_made_one_and_leave_a_cpu_to_tasks(ray_session, monkeypatch) -> None:
    """Made one with actors, tasks would read while these wait; without a CPU, nothing would."""
    monkeypatch.setattr(resources, "gpus", lambda: 4.0)
    for cpus, each, placed, expected in (
        (2, 1.0, {}, 0.0),
        (9, 0.0, {}, 0.0),
        (9, 1.0, {}, 1.0),
        (9, 1.0, {"near_data": 0.01}, 0.0),
    ):
        monkeypatch.setattr(resources, "cpus", lambda cpus=cpus: cpus)
        monkeypatch.setattr(stream, "placement", lambda _, placed=placed: placed)
        operators = of(Path())
        operators["pool"] = replace(operators["pool"], num_gpus=each)
        dataset = stream._dataset(None, [[(i, i)] for i in range(4)], **operators)
        operator, asked = dataset._logical_plan.dag, []
        while hasattr(operator, "ray_remote_args"):
            asked.append(operator.ray_remote_args)
            operator = operator.input_dependencies[0]
        written, pool, reading = asked
        assert written["num_cpus"] == reading["num_cpus"] == expected
        assert pool["num_cpus"] == 1
        assert (pool["max_restarts"], pool["max_task_retries"]) == (sharding.ACTOR_RESTARTS, -1)
        from ray.data._internal.logical.rules.operator_fusion import are_remote_args_compatible

        assert not are_remote_args_compatible(reading, pool)


def cannot_read(item: int) -> Arrays:
    raise SourceError("part 3: cannot be read; copy it again")


def cannot_start() -> Callable[[Iterator[Arrays]], Iterator[Arrays]]:
    raise EncoderError("embed.lyrics.encoder = some/encoder: cannot be had")


def breaks() -> Callable[[Iterator[Arrays]], Iterator[Arrays]]:
    def work(items: Iterator[Arrays]) -> Iterator[Arrays]:
        yield next(items)
        raise ZeroDivisionError("division by zero")

    return work


def cannot_write(item: int, arrays: Arrays) -> int:
    raise WorkspaceError("no space left")


class Panic(BaseException):
    """As Rust's panics come to Python."""


def panics(*_: object) -> Callable[[Iterator[Arrays]], Iterator[Arrays]]:
    raise Panic("a panic is no Exception")


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"source": Source("read", cannot_read, NUMBERS)}, SourceError, "part 3: cannot be read"),
        ({"pool": Pool("double", cannot_start, (), NUMBERS)}, EncoderError, "cannot be had"),
        (
            {"pool": Pool("double", breaks, (), NUMBERS)},
            StageError,
            "doubling: a worker failed: ZeroDivisionError: division by zero",
        ),
        ({"sink": Sink("write", cannot_write)}, WorkspaceError, "no space left"),
        ({"pool": Pool("double", panics, (), NUMBERS)}, StageError, "a panic is no Exception"),
        (
            {"source": Source("read", cannot_read, NUMBERS), "pool": None},
            SourceError,
            "part 3: cannot be read",
        ),
        ({"sink": Sink("write", cannot_write), "pool": None}, WorkspaceError, "no space left"),
    ],
    ids=["read", "start", "work", "write", "panic", "read_alone", "write_alone"],
)
def test_what_an_operator_raises_ends_the_stage_by_name(
    ray_session, tmp_path, changed, error, message
) -> None:
    with pytest.raises(error, match=message) as caught:
        stream.stream(None, [[0, 1], [2]], **of(tmp_path, **changed), description="doubling")
    assert "\n" not in str(caught.value)


def test_an_error_travels_past_the_operators_after_it() -> None:
    """None of them is asked, and columns keep their types."""
    reading = operators.Reading(Source("read", cannot_read, NUMBERS), together=True)
    [table] = reading(groups_of(7))
    assert table.schema.field("given_number").type == pa.large_list(
        pa.large_list(pa.int32())  # a group's
    )
    [table] = operators.Pooled(Pool("double", doubling, (), NUMBERS))(table)
    [table] = operators.Writing(Sink("write", cannot_write))(table)
    number, kind, message = cloudpickle.loads(table["outcome"][0].as_py())
    assert (number, kind) == (7, "SourceError")
    assert message == "part 3: cannot be read; copy it again"


def test_what_an_actor_raises_in_its_start_its_first_item_tells() -> None:
    """Raised there, Ray would start the actor anew, without end."""
    actor = operators.Pooled(Pool("double", cannot_start, (), NUMBERS))
    [table] = operators.Reading(Source("read", read, NUMBERS), together=True)(groups_of(3))
    [table] = operators.Writing(Sink("write", cannot_write))(pa.concat_tables(actor(table)))
    told = cloudpickle.loads(table["outcome"][0].as_py())
    assert told == (3, "EncoderError", "embed.lyrics.encoder = some/encoder: cannot be had")


def adding(folder: Path, number: int) -> Callable[[Iterator[Arrays]], Iterator[Arrays]]:
    (folder / f"{number}").touch(exist_ok=False)

    def add(items: Iterator[Arrays]) -> Iterator[Arrays]:
        for arrays in items:
            yield {**arrays, "number": pa.array(number + arrays["number"].to_numpy())}

    return add


def test_an_actor_makes_its_function_once_from_arguments(
    ray_session, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(resources, "cpus", lambda: 1)  # one actor
    parts = of(
        tmp_path,
        pool=Pool("add", adding, (tmp_path, 100), NUMBERS),
        sink=Sink("tell", lambda item, arrays: arrays["number"][:2].to_pylist()),
    )
    found, _ = stream.stream(None, [[1], [5], [2, 3]], **parts, description="adding")
    assert found == [[100, 101], [], [100, 101], [100, 101]]
    assert [path.name for path in tmp_path.iterdir()] == ["100"]


def test_an_actor_has_a_group_at_a_time() -> None:
    """Wherever Ray Data cuts blocks, and with however many rows it gives."""
    had: list[list[str]] = []

    def noting() -> Callable[[Iterator[Arrays]], Iterator[Arrays]]:
        def note(items: Iterator[Arrays]) -> Iterator[Arrays]:
            group = list(items)
            had.append([arrays["name"][0].as_py() for arrays in group])
            yield from group

        return note

    given = pa.concat_tables([groups_of(4, 0, 2), groups_of(1), groups_of(3)])
    reading = operators.Reading(Source("read", read, NUMBERS), together=True)
    read_groups = pa.concat_tables(reading(given))
    assert read_groups.num_rows == 3
    found = operators.Pooled(Pool("note", noting, (), NUMBERS))(read_groups.slice(0, 2))
    assert [len(table["given_number"][0]) for table in found] == [4_000, 0, 2_000, 1_000]
    assert had == [["item 4", "item 0", "item 2"], ["item 1"]]


def groups_of(*numbers: int) -> pa.Table:
    return pa.table({"group": [operators.packed([(n, n) for n in numbers])]})


def dies_at_once() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_at_work() -> Callable[[Iterator[Arrays]], Iterator[Arrays]]:
    def work(items: Iterator[Arrays]) -> Iterator[Arrays]:
        for arrays in items:
            if arrays["name"][0].as_py() == "item 1":
                os.kill(os.getpid(), signal.SIGKILL)
            yield arrays

    return work


@pytest.mark.parametrize(
    ("factory", "when"),
    [
        (dies_at_once, "before it had done anything"),
        pytest.param(dies_at_work, "", marks=pytest.mark.slow),
    ],
)
def test_an_actor_whose_process_dies_each_time_ends_the_stage(
    ray_session, tmp_path, monkeypatch, factory, when
) -> None:
    """As an encoder does that is too large for its node's memory."""
    monkeypatch.setattr(sharding, "ACTOR_RESTARTS", 1)
    pool = Pool("double", factory, (), NUMBERS, actor="the lyrics encoder some/encoder")
    with pytest.raises(StageError) as caught:
        stream.stream(None, [[0], [1]], **of(tmp_path, pool=pool), description="encoding lyrics")
    message = str(caught.value)
    assert message.startswith(
        "encoding lyrics: the process of the lyrics encoder some/encoder died 2 times "
    )
    assert when in message
    assert "it was killed" in message
    assert "\n" not in message


def test_reports_of_an_interrupted_run_are_found_at_once(run) -> None:
    done = resumable(run, "rows", lambda shard: Written(shard.part), Written)
    for part in (2, 5):
        done(Shard(part))
    run.write_json({"users": 3}, "reports", "rows-00001.json")  # of another release
    resumable(run, "others", lambda shard: Written(9), Written)(Shard(3))
    assert finished(run, "rows", range(6), Written) == {2: Written(2), 5: Written(5)}
