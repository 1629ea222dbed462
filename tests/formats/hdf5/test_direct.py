"""The direct reader against libhdf5, on the official layout and on everything else."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusionrec.formats import hdf5
from fusionrec.formats.batch import Batch
from fusionrec.formats.hdf5 import direct, kernel
from fusionrec.formats.hdf5.song_batch import SongBatch
from fusionrec.formats.hdf5.writer import write_track

pytestmark = pytest.mark.processor


@pytest.fixture(autouse=True)
def _no_layouts_known():
    direct._known_layouts.cache_clear()


def arrays(i: int, *, terms: int, tags: int, similar: int, segments: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(i)
    return {
        "metadata/artist_terms": np.array([b"genre %d" % t for t in range(terms)], "S256"),
        "metadata/artist_terms_weight": rng.random(terms),
        "metadata/artist_terms_freq": rng.random(terms),
        "metadata/similar_artists": np.array(
            [b"AR%016d" % rng.integers(99) for _ in range(similar)], "S20"
        ),
        "musicbrainz/artist_mbtags": np.array([b"t" * (t + 1) for t in range(tags)], "S256"),
        "musicbrainz/artist_mbtags_count": rng.integers(1, 9, tags),
        "analysis/segments_start": np.sort(rng.random(segments) * 200),
        "analysis/segments_timbre": rng.normal(size=(segments, 12)) * 50,
        "analysis/segments_pitches": rng.random((segments, 12)),
        "analysis/segments_loudness_max": -60 * rng.random(segments),
    }


def write(folder: Path, i: int, *, title: bytes | None = None, **sizes: int) -> str:
    path = folder / f"TRAAAAA{i:011d}.h5"
    write_track(
        path,
        metadata={
            "song_id": b"SOAAAAA%011d" % i,
            "title": f"Ça {i}".encode() if title is None else title,
            "release": b"Album",
            "artist_id": b"AR%016d" % i,
            "artist_name": "Émilie".encode(),
            "artist_hotttnesss": 0.1 * i,
            "artist_familiarity": 0.5,
            "song_hotttnesss": np.nan,
        },
        analysis={"track_id": b"TRAAAAA%011d" % i, "duration": 100.25 + i, "tempo": 99.5, "key": i},
        musicbrainz={"year": 1990 + i},
        arrays=arrays(i, **{"terms": 3, "tags": 2, "similar": 4, "segments": 5} | sizes),
    )
    return str(path)


def by_libhdf5(paths: list[str], root: str, segments: bool) -> Batch:
    songs = SongBatch(segments)
    names = [os.path.relpath(path, root) for path in paths]
    for number, path in enumerate(paths):
        item = os.path.splitext(os.path.basename(path))[0]
        songs.add(number, names[number], item, hdf5.read_by_libhdf5(path, segments))
    return songs.batch(len(paths), names.__getitem__)


def assert_same(paths: list[str], root: str, segments: bool) -> int:
    """The two ways give the same batch; how many files were read directly."""
    found = hdf5.read_tracks(paths, root, segments=segments)
    expected = by_libhdf5(paths, root, segments)
    assert found.table.equals(expected.table)
    assert found.rejects.equals(expected.rejects)
    assert (found.read, found.damaged_text) == (expected.read, expected.damaged_text)
    if segments:
        assert found.segments is not None
        assert expected.segments is not None
        assert found.segments.equals(expected.segments)
    return found.direct


SIZES: list[dict[str, int]] = [
    {},
    {"terms": 0, "tags": 0, "similar": 0, "segments": 0},
    {"similar": 100},  # as most real tracks have
    {"similar": 2000},  # more than there is room for at first, and five chunks
    {"terms": 33, "tags": 32},  # more than a chunk of 32, and just one
    {"terms": 1, "segments": 85},  # a chunk of 85 rows
    {"segments": 86},
    {"segments": 1025},
    {"terms": 1100, "segments": 5600},  # a B-tree of two levels: more than 64 chunks
]


@pytest.mark.parametrize("segments", [False, True])
def test_files_of_one_layout_are_read_directly_and_alike(tmp_path: Path, segments: bool) -> None:
    paths = [write(tmp_path, i, **sizes) for i, sizes in enumerate(SIZES)]
    # The first file teaches the layout.
    assert assert_same(paths, str(tmp_path), segments) == len(paths) - 1
    assert assert_same(paths, str(tmp_path), segments) == len(paths)


@pytest.mark.parametrize("ended_by_zero", [True, False])
def test_zero_bytes_in_texts(tmp_path: Path, ended_by_zero: bool) -> None:
    """Within a text they end it or do not, as the file's type says: PyTables' or h5py's."""
    titles = [b"a\0b", b"", b"\xff\xfe damaged", b"x" * 1024]
    paths = [write(tmp_path, i, title=title) for i, title in enumerate(titles)]
    for path in paths:
        with h5py.File(path, "r+") as file:
            terms = file["metadata/artist_terms"]
            terms[...] = np.array([b"a\0b", b"\0c", b"d" * 256], "S256")
        if ended_by_zero:
            content = Path(path).read_bytes()
            # A text type of HDF5: class 3, version 1, then how it is padded.
            padded, ended = b"\x13\x01\0\0", b"\x13\0\0\0"
            assert padded in content[:40_000]
            Path(path).write_bytes(content[:40_000].replace(padded, ended) + content[40_000:])
    assert assert_same(paths, str(tmp_path), False) == 3
    assert assert_same(paths, str(tmp_path), False) == 4
    first = hdf5.read_tracks(paths[:1]).table
    assert first["title"][0].as_py() == ("a" if ended_by_zero else "a\0b")


def fresh_probes() -> None:
    for found in (direct._known_layouts, direct._libdeflate):
        found.cache_clear()
    direct.libdeflate_works.cache_clear()


def test_without_libdeflate_all_files_are_read_by_libhdf5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import deflate

    paths = [write(tmp_path, i) for i in range(3)]
    monkeypatch.setattr(deflate._deflate, "__file__", str(tmp_path / "none.so"))
    fresh_probes()
    try:
        assert assert_same(paths, str(tmp_path), True) == 0
    finally:
        fresh_probes()
    assert "HDF5 files: libhdf5, some twenty times slower (libdeflate: OSError" in caplog.text


@pytest.mark.parametrize("wrong", ["raises", "reads nothing", "reads another number"])
def test_compiled_code_that_is_wrong_here_is_found_out_and_not_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrong: str,
) -> None:
    read = kernel.read_track

    def read_track(*arguments: Any) -> int:
        if wrong == "raises":
            raise RuntimeError("LLVM ERROR: no such instruction")
        found = read(*arguments)
        targets, used = arguments[10], kernel.USED
        if wrong == "reads nothing":
            targets[:, used] = 0
        else:
            start = targets[list(direct.TABLES).index("/analysis/songs"), kernel.START]
            ctypes.memset(int(start), 1, 8)
        return found

    paths = [write(tmp_path, i) for i in range(4)]
    monkeypatch.setattr(kernel, "read_track", read_track)
    with caplog.at_level(logging.INFO, logger="fusionrec"):
        assert assert_same(paths, str(tmp_path), True) == 0
    assert caplog.text.count("libhdf5, some twenty times slower (compiled code: ") == 1


def test_which_way_files_are_read_is_one_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="fusionrec"):
        assert_same([write(tmp_path, i) for i in range(4)], str(tmp_path), False)
    assert caplog.text.count("HDF5 files: compiled code (right on known numbers") == 1


def test_more_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write(tmp_path, i, terms=70, segments=300) for i in range(6)]
    for name in ("_TAGS", "_TAG_BYTES", "_SEGMENTS"):
        monkeypatch.setattr(direct, name, 1)
    assert assert_same(paths, str(tmp_path), True) == 5
    monkeypatch.setattr(direct, "_MAX_ROOM", 1)  # then the others are left to libhdf5
    assert assert_same(paths, str(tmp_path), True) < 6


@pytest.mark.parametrize("change", [{}, {"analysis/segments_pitches": np.nan}])
def test_segments_of_files_read_either_way_are_in_the_files_order(
    tmp_path: Path, change: dict[str, float]
) -> None:
    paths = [write(tmp_path, i, segments=3 + i) for i in range(5)]
    for name, value in change.items():
        for path in paths[1:3]:
            with h5py.File(path, "r+") as file:
                file[name][0, 0] = value
    odd = paths[2]  # by libhdf5
    _replace("metadata/artist_terms_weight", fletcher32=True, compression="gzip")(odd)
    with h5py.File(paths[3], "r+") as file:  # no usable track
        rows = file["metadata/songs"][()]
        rows["song_id"] = b""
        file["metadata/songs"][...] = rows
    hdf5.read_tracks(paths[:1], segments=True)
    batch = hdf5.read_tracks(paths, segments=True)
    assert assert_same(paths, str(tmp_path), True) == batch.direct == 4
    assert batch.segments is not None
    lengths = [len(row) for row in batch.segments["start"].to_pylist()]
    assert lengths == ([3, 0, 0, 7] if change else [3, 4, 5, 7])


def test_a_layout_learnt_without_segments_says_nothing_of_them(tmp_path: Path) -> None:
    paths = [write(tmp_path, i) for i in range(3)]
    assert assert_same(paths, str(tmp_path), False) == 2
    assert assert_same(paths, str(tmp_path), True) == 2


def _rewritten(change: Callable[[h5py.File], None], **options: Any) -> Callable[[str], None]:
    def apply(path: str) -> None:
        with h5py.File(path, "r+", **options) as file:
            change(file)

    return apply


def _replace(name: str, dtype: str | None = None, **options: Any) -> Callable[[str], None]:
    def change(file: h5py.File) -> None:
        values = file[name][()]
        del file[name]
        file.create_dataset(name, data=values.astype(dtype or values.dtype), **options)

    return _rewritten(change)


def _whole(path: str) -> None:
    """Write the file anew in the newest format."""
    with h5py.File(path) as old, h5py.File(path + ".new", "w", libver="latest") as new:
        for group in old:
            old.copy(group, new)
    shutil.move(path + ".new", path)


def _variable_length(file: h5py.File) -> None:
    values = file["metadata/artist_terms"][()].astype("O")
    del file["metadata/artist_terms"]
    file.create_dataset("metadata/artist_terms", data=values, dtype=h5py.string_dtype())


def _skip_filters(file: h5py.File) -> None:
    data = file["metadata/artist_terms_weight"]
    content = np.zeros(data.chunks, data.dtype)
    content[:3] = [1, 2, 3]
    data.id.write_direct_chunk((0,), content.tobytes(), filter_mask=3)


def _index(file: h5py.File) -> None:
    rows = file["metadata/songs"][()]
    rows["idx_artist_terms"] = 1
    file["metadata/songs"][...] = rows


def _truncate(path: str) -> None:
    os.truncate(path, os.path.getsize(path) - 100)


@pytest.mark.parametrize(
    "change",
    [
        _whole,
        _replace("metadata/artist_terms", chunks=(2,), compression="gzip"),
        _replace("metadata/artist_terms", chunks=(2,), shuffle=True),
        _replace("metadata/artist_terms", chunks=(2,), compression="lzf", shuffle=True),
        _replace("metadata/artist_terms_weight", ">f8", compression="gzip", shuffle=True),
        _replace("metadata/artist_terms_weight", "<f4", compression="gzip", shuffle=True),
        _replace("metadata/artist_terms_weight", fletcher32=True, compression="gzip"),
        _replace("analysis/segments_timbre", chunks=(2, 6), compression="gzip", shuffle=True),
        _replace("musicbrainz/artist_mbtags_count"),
        _replace("metadata/artist_terms", "O"),
        _rewritten(_skip_filters),
        _rewritten(_index),
        _truncate,
        lambda path: Path(path).write_bytes(b""),
        lambda path: Path(path).write_bytes(b"\x89HDF\r\n\x1a\n"),
        os.unlink,
    ],
    ids=lambda change: getattr(change, "__name__", "change"),
)
@pytest.mark.parametrize("first", [True, False])
def test_files_of_another_layout_are_read_by_libhdf5(
    tmp_path: Path, change: Callable[[str], None], first: bool
) -> None:
    paths = [write(tmp_path, i) for i in range(4)]
    odd = paths[0] if first else paths[-1]
    change(odd)
    for segments in (False, True):
        assert_same(paths, str(tmp_path), segments)
        assert_same([odd, *paths], str(tmp_path), segments)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes, list[int]]]:
    """Sound files, their bytes, and where their B-trees' nodes begin."""
    folder = tmp_path_factory.mktemp("pristine")
    found = []
    for number, sizes in enumerate([{"terms": 40, "segments": 200}, {"segments": 5600}]):
        path = write(folder, number, **sizes)
        content = Path(path).read_bytes()
        found.append((path, content, [m.start() for m in re.finditer(b"TREE", content)]))
    return found


@given(data=st.data())
@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_damaged_files_are_never_read_otherwise_than_by_libhdf5(
    pristine: list[tuple[str, bytes, list[int]]], tmp_path: Path, data: st.DataObject
) -> None:
    """A file that libhdf5 takes for damaged, or reads differently, must not pass here."""
    path, content, nodes = data.draw(st.sampled_from(pristine))
    garbled = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        # The head and the indices of chunks decide most; most of the damage goes there.
        start = data.draw(st.sampled_from([0, 0, *nodes]))
        limit = data.draw(st.sampled_from([len(content), start + 400 if start else 40_000]))
        at = data.draw(st.integers(start, min(limit, len(content) - 8) - 1))
        word = st.sampled_from([0, 2**63 - 1, 2**64 - 1, len(content), len(content) - 5])
        with_word = word.map(lambda number: number.to_bytes(8, "little"))
        damage = data.draw(st.one_of(st.binary(min_size=1, max_size=1), with_word))
        garbled[at : at + len(damage)] = damage
    damaged = tmp_path / os.path.basename(path)
    damaged.write_bytes(garbled)
    hdf5.read_tracks([path], segments=True)  # teaches the layout
    hdf5.read_tracks([path], segments=False)
    for segments in (False, True):
        found = hdf5.read_tracks([str(damaged)], segments=segments)
        if found.direct:
            expected = by_libhdf5([str(damaged)], str(tmp_path), segments)
            assert found.table.equals(expected.table)
            assert found.rejects["reason"].equals(expected.rejects["reason"])
            assert found.segments == expected.segments


@pytest.mark.real
@pytest.mark.skipif(
    "FUSIONREC_REAL_CORPUS" not in os.environ, reason="FUSIONREC_REAL_CORPUS is not set"
)
@pytest.mark.parametrize("segments", [False, True])
def test_every_file_of_the_real_corpus(segments: bool) -> None:
    root = os.path.join(os.environ["FUSIONREC_REAL_CORPUS"], "MillionSong")
    paths = hdf5.track_paths(root)
    assert assert_same(paths, root, segments) >= len(paths) - 16


ODD_IDS = [
    [b"AR1", b"", b"AR2"],  # an empty one
    [b" AR1 ", b"AR2\t"],  # to be stripped
    ["ÄR1".encode(), b"AR2"],
    [b"AR\xff", b"AR2"],  # no UTF-8
    [b"", b""],
    [b"\x7f", b"AR1"],
]


@pytest.mark.parametrize("ids", ODD_IDS)
@pytest.mark.parametrize("nameless", [False, True])
def test_odd_ids_of_similar_artists_are_the_same_either_way(
    tmp_path: Path, ids: list[bytes], nameless: bool
) -> None:
    paths = [write(tmp_path, i) for i in range(4)]
    with h5py.File(paths[2], "r+") as file:
        file["metadata/similar_artists"].resize((len(ids),))
        file["metadata/similar_artists"][...] = np.array(ids, "S20")
    if nameless:  # a track that is dropped, before the odd one
        with h5py.File(paths[1], "r+") as file:
            rows = file["metadata/songs"][()]
            rows["song_id"] = b""
            file["metadata/songs"][...] = rows
    assert assert_same(paths, str(tmp_path), False) == 3
    assert assert_same(paths, str(tmp_path), False) == 4
    batch = hdf5.read_tracks(paths, str(tmp_path))
    found = batch.table["similar_artists"].to_pylist()
    expected = [text.decode(errors="replace").strip() for text in ids if text]
    assert found[-2] == expected
    assert [len(each) for each in found] == [4] * (2 - nameless) + [len(expected), 4]
    empty = [r["reason"] for r in batch.rejects.to_pylist() if r["action"] == "nulled"]
    assert empty.count("empty id in similar_artists") == int(not all(ids))
