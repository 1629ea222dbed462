"""Sources on a filesystem of pyarrow's, here the local one by its URI, read like local paths."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from fusionrec.errors import SourceError
from fusionrec.formats import files, hdf5, msd_sqlite
from fusionrec.formats.hdf5 import direct
from fusionrec.formats.sample.corpus import write_sample
from fusionrec.formats.taste_profile import read_triplets
from fusionrec.formats.text import byte_ranges


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("files") / "a corpus"
    write_sample(place, songs=60, users=20, seed=4)
    return place


def uri(path: Path) -> str:
    return f"file://{path}"


@pytest.mark.parametrize("segments", [False, True])
def test_tracks(corpus: Path, segments: bool) -> None:
    root = str(corpus / "MillionSong")
    local = hdf5.track_paths(root)
    remote_root = uri(corpus / "MillionSong")
    remote = hdf5.track_paths(remote_root)
    assert remote == [uri(Path(path)) for path in local]
    direct._known_layouts.cache_clear()
    expected = hdf5.read_tracks(local, root, segments=segments)
    direct._known_layouts.cache_clear()
    found = hdf5.read_tracks(remote, remote_root, segments=segments)
    assert found.table.equals(expected.table)
    assert found.direct == expected.direct > 0
    assert found.segments == expected.segments
    columns = ["source", "item", "reason", "action"]
    assert found.rejects.select(columns).equals(expected.rejects.select(columns))


def test_text_by_ranges_and_zipped(corpus: Path, tmp_path: Path) -> None:
    path = corpus / "tasteprofile" / "train_triplets.txt"
    expected = read_triplets(str(path)).table
    parts = [read_triplets(uri(path), *r).table for r in byte_ranges(uri(path), 3000)]
    assert [row for part in parts for row in part.to_pylist()] == expected.to_pylist()
    archive = tmp_path / "triplets.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(path, "train_triplets.txt")
    assert read_triplets(uri(archive)).table.equals(expected)


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        ("", "a/b", "a/b"),
        ("/data", "a/b", "/data/a/b"),
        ("/data", "/x", "/x"),
        ("/data", "s3://other/x", "s3://other/x"),
        ("s3://bucket/msd/", "a/b", "s3://bucket/msd/a/b"),
        ("s3://bucket/msd?region=eu", "a", "s3://bucket/msd/a?region=eu"),
    ],
)
def test_join(root: str, path: str, expected: str) -> None:
    assert files.join(root, path) == expected


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        read_triplets(uri(tmp_path / "none.txt"))
    with pytest.raises(SourceError, match="no such filesystem"):
        read_triplets("nosuch://host/file.txt")
    with pytest.raises(SourceError, match="no such folder"):
        hdf5.list_tracks(uri(tmp_path / "none"))
    with pytest.raises(SourceError, match="SQLite reads local files only"):
        msd_sqlite.num_rows(uri(tmp_path / "track_metadata.db"))
    assert not files.exists(uri(tmp_path / "none"))


def test_a_file_without_lines_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fusionrec.formats import text

    monkeypatch.setattr(text, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(text, "BLOCK_BYTES", 100)
    path = tmp_path / "endless.txt"
    path.write_bytes(b"u\tS\t1\n" + b"x" * 5000)
    with pytest.raises(SourceError, match="has a line of more than 1,000 bytes"):
        read_triplets(str(path))
    with pytest.raises(SourceError, match="has a line of more than"):
        read_triplets(str(path), 3000, 3100)
