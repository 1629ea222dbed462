"""Files that are too large for one task are refused, with what to do."""

from __future__ import annotations

import bz2
from pathlib import Path

import numpy as np
import pytest

from fusionrec.errors import SourceError
from fusionrec.formats import text
from fusionrec.formats.tables import ranges, read_features, read_lyrics, read_plays, read_songs
from fusionrec.formats.tables import reading as readers
from tests.formats.tables.helpers import in_ranges, spec_of, write, write_parquet

LIMIT = 60_000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MOST_BYTES", LIMIT)
    monkeypatch.setattr(text, "BLOCK_BYTES", 4096)


def test_what_can_only_be_read_as_a_whole(tmp_path: Path) -> None:
    lines = "user_id,song_id\n" + "".join(f"user{i},song{i}\n" for i in range(5000))
    packed = write(tmp_path, "a.csv.bz2", bz2.compress(lines.encode()))
    with pytest.raises(SourceError, match=r"a\.csv\.bz2: is compressed.* 60,000 bytes.*unpack it"):
        read_plays(packed, spec_of("plays", packed))
    plain = write(tmp_path, "a.csv", lines)
    parts = in_ranges(read_plays, plain, spec_of("plays", plain), 10_000)
    assert sum(len(part.table) for part in parts) == 5000
    few = write(tmp_path, "few.csv.bz2", bz2.compress(lines[:20_000].encode()))
    assert len(read_plays(few, spec_of("plays", few)).table) > 1000

    path = write(tmp_path, "l.csv", "song_id,text\n" + '7,"one\ntwo"\n' * 5000)
    spec = spec_of("lyrics", path)
    ((start, stop),) = ranges(path, spec, rows=10, bytes_=1000)
    with pytest.raises(SourceError, match=r"l\.csv: is read as a whole.*cut it into several files"):
        read_lyrics(path, spec, start, stop)


def test_ranges_that_are_too_long(tmp_path: Path) -> None:
    columns = {"user_id": ["a user"] * 5000, "song_id": ["a song"] * 5000}
    path = write_parquet(tmp_path, "a.parquet", columns)
    with pytest.raises(SourceError, match=r"a\.parquet: from 0 to .*lower ingest\.rows_per_shard"):
        read_plays(path, spec_of("plays", path), 0, 5000)
    assert len(read_plays(path, spec_of("plays", path), 0, 1000).table) == 1000


def test_songs_in_many_rows_count_once(tmp_path: Path) -> None:
    packed = bz2.compress(b"song_id,title\n" + b"".join(b"%d,T\n" % (i % 7) for i in range(9000)))
    path = write(tmp_path, "s.csv.bz2", packed)
    songs = read_songs(path, spec_of("songs", path, repeats=True)).table
    assert songs["song_id"].to_pylist() == [*map(str, range(7))]
    with pytest.raises(SourceError, match="is compressed"):
        read_songs(path, spec_of("songs", path))


def test_vectors_are_not_text(tmp_path: Path) -> None:
    path = str(tmp_path / "a.npz")
    np.savez(path, ids=np.arange(100), vectors=np.ones((100, 500), np.float32))
    assert len(read_features(path, spec_of("features", path)).table) == 100
