"""Vectors whose columns are of other types, have an index beside them, or another order."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fusionrec.errors import SourceError
from fusionrec.formats.tables import (
    TableSpec,
    feature_dimension,
    read_features,
    read_head,
    read_songs,
    settled,
)
from tests.formats.tables.helpers import rows, spec_of, write, write_parquet


@pytest.mark.parametrize(
    "value",
    [1.5, {"x": 1.0}, datetime(2020, 1, 1, tzinfo=UTC), True, [[1.0]], [{"x": 1}]],
    ids=repr,
)
def test_a_vector_of_another_type(tmp_path: Path, value: Any) -> None:
    path = write_parquet(tmp_path, "a.parquet", {"song_id": ["a"], "clap": [value]})
    spec = spec_of("features", path, columns={"vector": "clap"})
    message = r"a\.parquet: column clap is of type .*, which cannot be vector; .*NAME\.columns"
    with pytest.raises(SourceError, match=message):
        feature_dimension(path, spec)
    with pytest.raises(SourceError, match=message):
        read_features(path, spec, dimension=1)


def test_a_column_of_many_of_another_type(tmp_path: Path) -> None:
    columns = {"song_id": ["a"], "x0": [1.0], "x1": [[1.0]]}
    path = write_parquet(tmp_path, "a.parquet", columns)
    with pytest.raises(SourceError, match=r"column x1 is of type list.*cannot be vector;"):
        read_features(path, spec_of("features", path, columns={"vector": "*"}))
    columns = {"song_id": ["a"], "x0": [[1.0]], "x1": [[1.0]]}
    path = write_parquet(tmp_path, "b.parquet", columns)
    with pytest.raises(SourceError, match=r"column x0 is of type list.*cannot be vector;"):
        read_features(path, spec_of("features", path, columns={"vector": "*"}))


FRAME = pd.DataFrame({"song_id": ["a", "b", "c"], "x0": [1.0, 2, 3], "x1": [4.0, 5, 6]})
KEPT = [("a", [1.0, 4.0]), ("c", [3.0, 6.0])]


def test_the_index_of_pandas_is_no_dimension(tmp_path: Path) -> None:
    frame = FRAME[FRAME["x0"] != 2]
    paths = [str(tmp_path / name) for name in ("a.parquet", "b.csv", "c.csv", "d.parquet")]
    frame.to_parquet(paths[0], index=True)
    frame.to_csv(paths[1])
    pd.read_csv(paths[1]).to_csv(paths[2])
    pd.read_csv(paths[1]).to_parquet(paths[3])
    assert read_head(paths[0], spec_of("features", paths[0])).column_names[-1].startswith("__index")
    for path in paths:
        spec = spec_of("features", path)
        assert feature_dimension(path, spec) == 2
        assert rows(read_features(path, spec).table) == KEPT


def test_ids_in_the_index(tmp_path: Path) -> None:
    path = str(tmp_path / "a.csv")
    FRAME.set_index("song_id").rename_axis(None).to_csv(path)
    spec = spec_of("features", path, columns={"song_id": ""})
    assert rows(read_features(path, spec).table)[0] == ("a", [1.0, 4.0])


def test_all_files_have_the_columns_of_the_first(tmp_path: Path) -> None:
    write(tmp_path, "d/1.csv", "song_id,x,y\na,1,2\n")
    second = write(tmp_path, "d/2.csv", "y,song_id,x\n4,b,3\n")
    third = write(tmp_path, "e/3.csv", "song_id,x,z\nc,5,6\n")
    spec = settled(TableSpec("features", (str(tmp_path / "d"),)))
    assert rows(read_features(second, spec).table) == [("b", [3.0, 4.0])]
    with pytest.raises(SourceError, match=r"3\.csv: has other columns than the first.*y is in one"):
        read_features(third, spec)
    path = str(tmp_path / "a.npz")
    np.savez(path, ids=np.array([1]), vectors=np.ones((1, 2)))
    assert settled(spec_of("features", path)) == spec_of("features", path)


def test_songs_known_by_their_tracks(tmp_path: Path) -> None:
    for name, columns in (("track_id", {}), ("tid", {"track_id": "tid"}), ("t", {"track_id": "t"})):
        path = write(tmp_path, "a.csv", f"{name},title\nT,x\n")
        table = read_songs(path, spec_of("songs", path, columns=columns)).table
        assert rows(table.select(["song_id", "track_id"])) == [("T", "T")]


def test_the_head_of_an_array_that_is_no_table_of_songs(tmp_path: Path) -> None:
    path = str(tmp_path / "a.npy")
    np.save(path, np.ones((2, 2)))
    with pytest.raises(SourceError, match=r"NumPy files hold vectors alone"):
        read_head(path, spec_of("songs", path))
