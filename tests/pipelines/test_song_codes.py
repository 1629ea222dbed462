"""Songs' codes by pieces of ids: what samples suggest moves the work around and nothing else."""

import pyarrow as pa
import pytest

from pipelines.ingest.lookup import parts_of_names
from pipelines.ingest.song_codes import SAMPLES, bounds_of, samples_of, split_by_bounds
from pipelines.ingest.song_groups import numbered, song_groups


@pytest.mark.parametrize("count", [0, 1, 5, SAMPLES, 1_000])
def test_samples_are_spread_over_all_ids(count) -> None:
    ids = pa.array([f"SO{number:04}" for number in range(count)], pa.string())
    found = samples_of(ids)
    assert len(found) == min(count, SAMPLES) == len(set(found))
    assert found == sorted(found)
    if count:
        assert (found[0], found[-1]) == (ids[0].as_py(), ids[-1].as_py())


@pytest.mark.parametrize("pieces", [2, 7, 100])
def test_pieces_are_of_like_size_and_in_the_order_of_ids(pieces) -> None:
    ids = [f"SO{number**2:09}" for number in range(5_000)]  # denser at the beginning
    shards = [samples_of(pa.array(ids[first::7])) for first in range(7)]
    bounds = bounds_of(shards, pieces)
    found = split_by_bounds(pa.array(ids), bounds)
    assert found.tolist() == sorted(found)
    assert max(found) == pieces - 1
    sizes = [int((found == piece).sum()) for piece in range(pieces)]
    assert max(sizes) < 2 * len(ids) / pieces
    # An id is in the same piece, whichever others are there, and also where none was a sample.
    assert split_by_bounds(pa.array(ids[1::3]), bounds).tolist() == found[1::3].tolist()
    assert split_by_bounds(pa.array(["", "SP"]), bounds).tolist() == [0, pieces - 1]
    assert split_by_bounds(pa.array([], pa.string()), bounds).tolist() == []


def test_equal_samples_make_fewer_pieces() -> None:
    assert bounds_of([["a"], ["a"], ["b"]], 5) == ["a", "b"]


def test_groups_are_all_parts_in_their_order(monkeypatch) -> None:
    monkeypatch.setattr("pipelines.ingest.song_groups.SONGS_A_GROUP", 10)
    monkeypatch.setattr("pipelines.ingest.lookup.NAMES_A_PART", 8)
    sizes = ([4, 0, 7, 3], [25, 0])
    parts, firsts = numbered(("songs", "other_songs"), sizes)
    groups = song_groups(("songs", "other_songs"), sizes)
    assert [part for group in groups for part in group.parts] == parts
    assert [group.first for group in groups] == [0, 11, 39]
    assert [len(group.parts) for group in groups] == [3, 2, 1]
    for named in parts_of_names(sizes):
        start = 8 * named.part
        begin = parts.index(named.parts[0])
        assert named.first == firsts[begin] <= start
        assert firsts[begin + len(named.parts)] >= min(start + 8, firsts[-1])
