"""Trouble of the environment is waited out, or ends the reading; it rejects nothing."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fusionrec.errors import UnavailableError
from fusionrec.formats import files, trouble
from fusionrec.formats.tables import read_features, read_plays
from tests.formats.tables.helpers import spec_of, write, write_parquet


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "PAUSES", (0.0, 0.0))


def readers(folder: Path) -> dict[str, Any]:
    columns = {"user_id": ["u"] * 9, "song_id": [*map(str, range(9))]}
    text = "user_id,song_id\n" + "".join(f"u,{i}\n" for i in range(9))
    packed = pa.Codec("zstd").compress(text.encode(), asbytes=True)
    np.save(folder / "a.npy", np.ones((9, 2)))
    ids = write(folder, "ids.txt", "a\n" * 9)
    plays = {
        "parquet": write_parquet(folder, "a.parquet", columns),
        "csv": write(folder, "a.csv", text),
        "zst": write(folder, "a.csv.zst", packed),
        "json": write(folder, "a.jsonl", '{"user_id": 1, "song_id": 2}\n' * 9),
    }
    found: dict[str, Any] = {
        name: lambda path=path: read_plays(path, spec_of("plays", path))
        for name, path in plays.items()
    }
    path = str(folder / "a.npy")
    found["npy"] = lambda: read_features(path, spec_of("features", path, ids=ids))
    return found


@pytest.mark.parametrize("kind", ["parquet", "csv", "zst", "json", "npy"])
@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "a disk"), TimeoutError("too late")], ids=repr
)
def test_trouble_is_told_apart_from_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, error: Exception
) -> None:
    read = readers(tmp_path)[kind]
    fetch, left = files.SteadyFile._fetch, [1]

    def failing(self: files.SteadyFile, count: int, start: int) -> bytes:
        if left[0] > 0:
            left[0] -= 1
            raise error
        return fetch(self, count, start)

    monkeypatch.setattr(files.SteadyFile, "_fetch", failing)
    batch = read()
    assert (len(batch.table), len(batch.rejects), left) == (9, 0, [0])
    left[0] = 10_000
    with pytest.raises(UnavailableError, match=r"a\..*: cannot be read, after 3 tries|ids\.txt"):
        read()
