"""Shards of a source that stream to their parts: whole, in order, once, and again after a death."""

import os
import signal
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from fusionrec.errors import SourceError, StageError
from pipelines.ingest import reading as module
from pipelines.ingest.reading import Tables, read_shards
from pipelines.runtime.shards import Shard, Written
from pipelines.runtime.workspace import StageRun, part_name
from tests.pipelines.conftest import ingest_run

ARTIFACTS = ["numbers", "odd", "rejects"]
SCHEMA = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        ("lists", pa.list_(pa.float32(), 2)),
        ("name", pa.dictionary(pa.int32(), pa.string())),
    ],
    metadata={"of": "numbers"},
)


def numbers(part: int) -> pa.Table:
    """Two chunks, lists and nulls, and of the first part no rows."""
    rows = [
        {"number": row, "lists": None if row % 2 else [row, part], "name": f"{row % 3}"}
        for row in range(3 * part)
    ]
    table = pa.Table.from_pylist(rows, SCHEMA)
    return pa.concat_tables([table.slice(0, part), table.slice(part)])


def unlike(shard: Shard) -> tuple[Tables, Written]:
    """Of one column in two chunks and the other in one."""
    whole, cut = pa.chunked_array([[1, 2, 3]]), pa.chunked_array([["a"], ["b", "c"]])
    return {"numbers": pa.table({"whole": whole, "cut": cut})}, Written(3)


def read(folder: Path, shard: Shard) -> tuple[Tables, Written]:
    with (folder / f"{shard.part}").open("a") as file:
        file.write("read\n")
    table = numbers(shard.part)
    found = {"numbers": table, "rejects": pa.table({"reason": pa.array([], pa.string())})}
    if shard.part % 2:
        found["odd"] = table.select(["number"])
    return found, Written(table.num_rows)


def reading(run: StageRun, read: object, parts: range) -> tuple[list[Written], dict]:
    shards = [Shard(part) for part in parts]
    return read_shards(run, "numbers", read, shards, ARTIFACTS, Written, description="reading")


@pytest.fixture
def run(tmp_path) -> StageRun:
    return ingest_run(tmp_path / "w")


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "read").mkdir()
    return tmp_path / "read"


def found(run: StageRun) -> dict[str, bytes]:
    """Every part, by artifact and name."""
    return {
        f"{artifact}/{part}": run.workspace.read_bytes("ingest", artifact, part)
        for artifact in ARTIFACTS
        for part in run.workspace.parts("ingest", artifact)
    }


def expected(tmp_path: Path, folder: Path, parts: range) -> dict[str, bytes]:
    """What is written where nothing is between reading and writing."""
    run = ingest_run(tmp_path / "expected")
    for part in parts:
        for artifact, table in read(folder, Shard(part))[0].items():
            run.write(table, artifact, part)
    return found(run)


def test_parts_are_as_if_they_had_been_written_where_they_were_read(
    ray_session, run, folder, tmp_path
) -> None:
    reports, counts = reading(run, partial(read, folder), range(5))
    assert reports == [Written(3 * part) for part in range(5)]
    assert found(run) == expected(tmp_path, folder, range(5))
    table = run.workspace.read_part("ingest", "numbers", part_name(4))
    assert table.schema.metadata[b"of"] == b"numbers"
    assert run.workspace.parts("ingest", "odd") == [part_name(1), part_name(3)]
    assert counts.keys() == {"read", "write"}
    assert counts["read"]["items"] == counts["write"]["items"] == 5
    assert counts["read"]["bytes"] > sum(numbers(part)["number"].nbytes for part in range(5))


def test_columns_may_be_cut_in_unlike_chunks(ray_session, run) -> None:
    reading(run, unlike, range(1))
    table = run.workspace.read_part("ingest", "numbers", part_name(0))
    assert table.to_pydict() == {"whole": [1, 2, 3], "cut": ["a", "b", "c"]}


def test_a_table_of_no_artifact_is_no_loss_without_a_word(ray_session, run) -> None:
    with pytest.raises(StageError, match=r"numbers: \['others'\] is read, and not among"):
        reading(run, lambda shard: ({"others": numbers(1)}, Written(3)), range(1))


def test_a_shard_is_not_read_again_where_its_report_is_there(ray_session, run, folder) -> None:
    """As where a worker dies after it has written, and before it has said so."""
    reports, _ = reading(run, partial(read, folder), range(2))
    of_shard = ("numbers", ARTIFACTS, Written)
    for shard, report in zip([Shard(0), Shard(1)], reports, strict=True):
        name, artifacts, kind = of_shard
        arrays = module._read(run, name, partial(read, folder), artifacts, kind, shard)
        assert not any(map(len, arrays.values()))
        assert module._write(run, *of_shard, shard, arrays) == report
        assert (folder / f"{shard.part}").read_text() == "read\n"


def test_a_shard_whose_process_dies_is_read_again(ray_session, run, folder, tmp_path) -> None:
    def dying(shard: Shard) -> tuple[Tables, Written]:
        tables = read(folder, shard)
        if shard.part == 2 and len((folder / "2").read_text().splitlines()) < 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return tables

    reports, counts = reading(run, dying, range(4))
    assert reports == [Written(3 * part) for part in range(4)]
    assert (folder / "2").read_text() == "read\n" * 3
    assert found(run) == expected(tmp_path, folder, range(4))
    assert counts["read"]["items"] == 4


def test_what_an_interrupted_run_finished_is_not_read_again(ray_session, run, folder) -> None:
    def failing(shard: Shard) -> tuple[Tables, Written]:
        if shard.part == 2:
            raise SourceError("part 2: cannot be read; copy it again")
        return read(folder, shard)

    first, _ = reading(run, partial(read, folder), range(2))
    with pytest.raises(SourceError, match=r"^part 2: cannot be read; copy it again$"):
        reading(run, failing, range(1, 3))
    reports, counts = reading(run, partial(read, folder), range(3))
    assert reports[:2] == first
    assert {file.name: file.read_text() for file in folder.iterdir()} == dict.fromkeys(
        "012", "read\n"
    )
    assert counts["write"]["items"] == 1
