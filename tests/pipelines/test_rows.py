"""Rows by number and numbers by id: what is read is what was written."""

from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from fusionrec.errors import WorkspaceError
from fusionrec.hashing import piece_of
from pipelines.runtime import rows
from pipelines.runtime.rows import (
    find,
    matrix_blocks,
    read_matrix,
    read_texts,
    texts_of,
    write_index,
    write_matrix,
)
from pipelines.runtime.workspace import StageRun, Workspace


@pytest.fixture
def run(tmp_path) -> StageRun:
    found = Workspace(str(tmp_path)).begin("blend", {})
    assert found is not None
    return found


@pytest.mark.parametrize(
    "numbers", [[22], [7, 3, 7, 0, 21], [4, 5], [13, 14], [], list(range(23)), [22, 21, 20]]
)
def test_some_rows_are_those_of_the_whole_matrix_in_any_order(run, monkeypatch, numbers) -> None:
    monkeypatch.setattr(rows, "ROWS_A_PART", 5)
    matrix = np.random.default_rng(0).standard_normal((23, 3), np.float32)
    write_matrix(run, matrix, "features")
    found = read_matrix(run.workspace, "blend", "features", np.array(numbers, np.int32))
    np.testing.assert_array_equal(found, matrix[numbers])


@pytest.mark.parametrize("count", [1, 5, 10, 23])
def test_blocks_are_all_rows_in_their_order(run, monkeypatch, count) -> None:
    monkeypatch.setattr(rows, "ROWS_A_PART", 5)
    monkeypatch.setattr(rows, "_ROWS_A_BLOCK", 2)
    matrix = np.arange(3 * count, dtype=np.float32).reshape(-1, 3)
    write_matrix(run, matrix, "features")
    blocks = list(matrix_blocks(run.workspace, "blend", "features", count))
    assert max(map(len, blocks)) <= 2
    np.testing.assert_array_equal(np.concatenate(blocks), matrix)


def test_a_matrix_without_rows_keeps_its_width(run) -> None:
    write_matrix(run, np.zeros((0, 7), np.float32), "features")
    none = np.zeros(0, np.int64)
    assert read_matrix(run.workspace, "blend", "features", none).shape == (0, 7)


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 5_000])
def test_each_id_is_found_and_no_other(run, count, pieces) -> None:
    ids = [f"SO{number * 7919:x}" for number in range(count)]
    numbers = np.random.default_rng(2).permutation(count) + 5
    place = piece_of(pa.array(ids, pa.string()), pieces)
    for piece in range(pieces):
        here = np.flatnonzero(place == piece)
        write_index(run, "song_index", [ids[n] for n in here], numbers[here], piece=piece)
    run.write_bytes(b"half", "song_index", ".tmp-dead-part-00009.safetensors")
    look_up = partial(find, run.workspace, "blend", "song_index")
    order = np.random.default_rng(1).permutation(count)
    assert look_up([ids[number] for number in order]).tolist() == numbers[order].tolist()
    strange = ["", "SO", "no song", "\udcff"]
    assert look_up([*ids[:2], *strange]).tolist() == numbers[:2].tolist() + [-1] * 4
    assert look_up([]).tolist() == []
    assert look_up([""]).tolist() == [-1]


def test_texts_are_those_of_the_table_with_nothing_for_a_null(run) -> None:
    table = pa.table(
        {
            "song_id": ["SO1", "SO2", "SO3", "SO4"],
            "title": ["Déjà vu", None, "", "\x1f\t夜"],
            "release": pa.chunked_array([["a"], [None, "bc", "d"]]),
        }
    ).slice(1)
    run.write_arrays(texts_of(table), "song_names", "some")
    with run.workspace.reading_rows("blend", "song_names", "some") as file:
        found = read_texts(file, np.array([2, 0, 2]))
        assert read_texts(file, np.zeros(0, np.int64)) == []
    last = ("SO4", "\x1f\t夜", "d")
    assert found == [last, ("SO2", "", ""), last]


def test_a_header_longer_than_the_first_read(run) -> None:
    many = {f"tensor {number}": np.full((2, 1), number, np.int32) for number in range(99)}
    run.write_arrays(many, "many", "some")
    with run.workspace.reading_rows("blend", "many", "some") as file:
        assert file.take("tensor 77", np.array([1])).tolist() == [[77]]


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_a_file_that_is_cut_short_is_named(run, kept) -> None:
    write_matrix(run, np.ones((9, 3), np.float32), "features")
    name = rows.rows_name(0)
    run.write_bytes(run.workspace.read_bytes("blend", "features", name)[:kept], "features", name)
    with pytest.raises(WorkspaceError, match=f"features/{name}: is damaged or cut short"):
        read_matrix(run.workspace, "blend", "features", np.array([8]))
