"""HDF5 readers against files written here by hand, with the official column types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusionrec.errors import SourceError
from fusionrec.formats import hdf5
from fusionrec.formats.batch import Batch
from fusionrec.formats.hdf5 import reader
from fusionrec.schemas import REJECTS, SEGMENTS, SONGS

TABLES: dict[str, list[tuple[str, str]]] = {
    "metadata": [
        ("analyzer_version", "S32"),
        ("artist_familiarity", "<f8"),
        ("artist_hotttnesss", "<f8"),
        ("artist_id", "S32"),
        ("artist_latitude", "<f8"),
        ("artist_name", "S1024"),
        ("genre", "S1024"),
        ("idx_artist_terms", "<i4"),
        ("idx_similar_artists", "<i4"),
        ("release", "S1024"),
        ("song_hotttnesss", "<f8"),
        ("song_id", "S32"),
        ("title", "S1024"),
    ],
    "analysis": [
        ("audio_md5", "S32"),
        ("duration", "<f8"),
        ("idx_segments_loudness_max", "<i4"),
        ("idx_segments_pitches", "<i4"),
        ("idx_segments_start", "<i4"),
        ("idx_segments_timbre", "<i4"),
        ("key", "<i4"),
        ("loudness", "<f8"),
        ("mode", "<i4"),
        ("tempo", "<f8"),
        ("time_signature", "<i4"),
        ("track_id", "S32"),
    ],
    "musicbrainz": [("idx_artist_mbtags", "<i4"), ("year", "<i4")],
}
ARRAYS = {
    "metadata/artist_terms": ("idx_artist_terms", "S256", ()),
    "metadata/artist_terms_weight": ("idx_artist_terms", "<f8", ()),
    "metadata/similar_artists": ("idx_similar_artists", "S20", ()),
    "musicbrainz/artist_mbtags": ("idx_artist_mbtags", "S256", ()),
    "musicbrainz/artist_mbtags_count": ("idx_artist_mbtags", "<i4", ()),
    "analysis/segments_start": ("idx_segments_start", "<f8", ()),
    "analysis/segments_timbre": ("idx_segments_timbre", "<f8", (12,)),
    "analysis/segments_pitches": ("idx_segments_pitches", "<f8", (12,)),
    "analysis/segments_loudness_max": ("idx_segments_loudness_max", "<f8", ()),
}
Song = dict[str, Any]


def make_song(i: int, **changes: Any) -> Song:
    """Song `i`, with i % 4 terms, i % 3 tags, i % 5 segments, i % 6 similar artists (some none)."""
    terms, tags, similar, n = i % 4, i % 3, i % 6, i % 5
    song: Song = {
        "track_id": b"TRAAAAA128F%07d" % i,
        "song_id": b"SOAAAAA12A8C%06d" % i,
        "title": f"Chanson d'été {i}".encode(),
        "release": b"Album %d" % i,
        "artist_id": b"ARAAAAA1187B%06d" % i,
        "artist_name": b"Artist %d" % i,
        "artist_familiarity": 0.25 + i,
        "artist_hotttnesss": 0.5 + i,
        "song_hotttnesss": 0.125 * i,
        "duration": 200.5 + i,
        "tempo": 120.0 + i,
        "loudness": -7.5,
        "key": i % 12,
        "mode": i % 2,
        "time_signature": 4,
        "year": 1990 + i,
        "metadata/artist_terms": [b"term %d" % t for t in range(terms)],
        "metadata/artist_terms_weight": [1.0 / (t + 1) for t in range(terms)],
        "metadata/similar_artists": [b"ARBBBBB1187B%06d" % (9 * i - a) for a in range(similar)],
        "musicbrainz/artist_mbtags": [b"tag %d" % (t + i) for t in range(tags)],
        "musicbrainz/artist_mbtags_count": [t + 1 for t in range(tags)],
        "analysis/segments_start": np.arange(n) * 0.5,
        "analysis/segments_timbre": np.arange(n * 12.0).reshape(n, 12) + i,
        "analysis/segments_pitches": np.full((n, 12), 0.5),
        "analysis/segments_loudness_max": -np.arange(float(n)),
    }
    return song | changes


def write(path: Path, songs: list[Song], *, arrays: bool = True) -> str:
    """Write per-track (one song), aggregate or (without arrays) summary files."""
    with h5py.File(path, "w") as file:
        for group, columns in TABLES.items():
            rows = np.zeros(len(songs), columns)
            for name, _ in columns:
                for row, song in zip(rows, songs, strict=True):
                    if name in song:
                        row[name] = song[name]
            for array, (index, _, _) in ARRAYS.items():
                if arrays and index in dict(columns):
                    sizes = [len(song[array]) for song in songs]
                    rows[index] = np.cumsum([0, *sizes])[: len(songs)]
            file.create_dataset(f"{group}/songs", data=rows, chunks=(4,), maxshape=(None,))
        for array, (_, dtype, shape) in ARRAYS.items() if arrays else ():
            parts = [np.array(song[array], dtype).reshape(-1, *shape) for song in songs]
            data = np.concatenate([np.zeros((0, *shape), dtype), *parts])
            file.create_dataset(
                array, data=data, chunks=(8, *shape), maxshape=(None, *shape), compression="gzip"
            )
    return str(path)


def edit(path: str, change: Callable[[h5py.File], None]) -> str:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def set_field(file: h5py.File, table: str, row: int, field: str, value: object) -> None:
    rows = file[table][()]
    rows[field][row] = value
    file[table][...] = rows


def rejected(batch: Batch) -> list[tuple[str, str]]:
    assert batch.rejects.schema == REJECTS
    return [(r["reason"], r["action"]) for r in batch.rejects.to_pylist()]


def test_one_track_field_by_field(tmp_path: Path) -> None:
    path = write(tmp_path / "TRAAAAA128F0000007.h5", [make_song(7)])
    batch = hdf5.read_tracks([path], segments=True)
    assert batch.table.schema == SONGS
    assert batch.table.to_pylist() == [
        {
            "song_id": "SOAAAAA12A8C000007",
            "track_id": "TRAAAAA128F0000007",
            "title": "Chanson d'été 7",
            "release": "Album 7",
            "artist_id": "ARAAAAA1187B000007",
            "artist_name": "Artist 7",
            "year": 1997,
            "duration": 207.5,
            "artist_hotttnesss": 7.5,
            "artist_familiarity": 7.25,
            "song_hotttnesss": 0.875,
            "tempo": 127.0,
            "loudness": -7.5,
            "key": 7,
            "mode": 1,
            "time_signature": 4,
            "mbtags": ["tag 7"],
            "mbtag_counts": [1],
            "terms": ["term 0", "term 1", "term 2"],
            "term_weights": [1.0, 0.5, float(np.float32(1 / 3))],
            "similar_artists": ["ARBBBBB1187B000063"],
        }
    ]
    assert batch.segments is not None
    assert batch.segments.schema == SEGMENTS
    (segments,) = batch.segments.to_pylist()
    assert segments["track_id"] == "TRAAAAA128F0000007"
    assert segments["start"] == [0.0, 0.5]
    assert segments["timbre"] == (np.arange(24.0).reshape(2, 12) + 7).tolist()
    assert segments["pitches"] == np.full((2, 12), 0.5).tolist()
    assert segments["loudness_max"] == [0.0, -1.0]
    assert (batch.read, batch.damaged_text, len(batch.rejects)) == (1, 0, 0)


def test_segments_are_left_alone_unless_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", [make_song(4)])
    assert hdf5.read_tracks([path]).segments is None


def test_no_paths_is_an_empty_batch() -> None:
    batch = hdf5.read_tracks([], segments=True)
    assert batch.segments is not None
    assert (batch.table.num_rows, batch.segments.num_rows, batch.read) == (0, 0, 0)


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_range_of_an_aggregate_equals_its_tracks_one_by_one(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    numbers = data.draw(st.lists(st.integers(0, 40), max_size=8))
    start = data.draw(st.integers(0, len(numbers)))
    stop = data.draw(st.integers(start, len(numbers) + 1))
    folder = tmp_path_factory.mktemp("h5")
    songs = [make_song(i) for i in numbers]
    path = write(folder / "aggregate.h5", songs)
    singles = [write(folder / f"{k}.h5", [song]) for k, song in enumerate(songs)]
    assert hdf5.num_rows(path) == len(songs)
    assert hdf5.is_aggregate(path) == (len(songs) > 1)
    batch = hdf5.read_aggregate(path, start, stop, segments=True)
    expected = hdf5.read_tracks(singles[start:stop], segments=True)
    assert batch.table.equals(expected.table)
    assert batch.segments is not None
    assert batch.segments.equals(expected.segments)
    assert batch.read == expected.read


def test_an_aggregate_longer_than_one_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_ROWS_AT_A_TIME", 3)
    path = write(tmp_path / "aggregate.h5", [make_song(i) for i in range(10)])
    batch = hdf5.read_aggregate(path, 1, 10, segments=True)
    assert batch.table["year"].to_pylist() == list(range(1991, 2000))
    assert batch.table["mbtags"].to_pylist() == [
        [f"tag {t + i}" for t in range(i % 3)] for i in range(1, 10)
    ]
    assert batch.segments is not None
    assert pc.list_value_length(batch.segments["timbre"]).to_pylist() == [
        i % 5 for i in range(1, 10)
    ]


def test_a_summary_has_empty_lists(tmp_path: Path) -> None:
    path = write(tmp_path / "summary.h5", [make_song(i) for i in range(5)], arrays=False)
    batch = hdf5.read_aggregate(path, 1, 4, segments=True)
    assert batch.table["title"].to_pylist() == [f"Chanson d'été {i}" for i in (1, 2, 3)]
    for name in ("mbtags", "mbtag_counts", "terms", "term_weights", "similar_artists"):
        assert batch.table[name].to_pylist() == [[], [], []]
    assert batch.segments is not None
    assert batch.segments["start"].to_pylist() == [[], [], []]
    assert len(batch.rejects) == 0


@pytest.mark.parametrize("bad", [-1, 999])
def test_an_index_out_of_range_costs_only_the_rows_it_bounds(tmp_path: Path, bad: int) -> None:
    path = write(tmp_path / "aggregate.h5", [make_song(i) for i in range(6)])
    edit(path, lambda f: set_field(f, "metadata/songs", 3, "idx_artist_terms", bad))
    batch = hdf5.read_aggregate(path, 0, 6)
    assert [(r["item"], r["reason"], r["action"]) for r in batch.rejects.to_pylist()] == [
        (f"row {i}", "index out of range", "dropped") for i in (2, 3)
    ]
    assert batch.table["year"].to_pylist() == [1990, 1991, 1994, 1995]
    assert batch.table["terms"].to_pylist()[1] == ["term 0"]
    assert batch.read == 6


def test_a_damaged_chunk_costs_only_its_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "aggregate.h5", [make_song(i, year=1990) for i in range(12)])
    with h5py.File(path) as file:
        # Rows of one chunk of 8 tags; without its gzip stream they cannot be read.
        tags = file["musicbrainz/artist_mbtags"]
        chunk = tags.id.get_chunk_info(0)
    with open(path, "r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\0" * chunk.size)
    batch = hdf5.read_aggregate(path, 0, 12)
    lost = [int(r["item"].split()[1]) for r in batch.rejects.to_pylist()]
    starts = np.cumsum([0] + [i % 3 for i in range(12)])
    assert lost == [i for i in range(12) if i % 3 and starts[i] < 8]
    assert set(rejected(batch)) == {("unreadable row", "dropped")}
    assert len(batch.table) == 12 - len(lost)


NAN = float("nan")


@pytest.mark.parametrize(
    ("field", "value", "column", "reason"),
    [
        ("year", 0, "year", "year unknown"),
        ("year", 20100, "year", "year unknown"),
        ("year", -5, "year", "year unknown"),
        ("duration", NAN, "duration", "duration is NaN"),
        ("duration", 0.0, "duration", "duration is not positive"),
        ("artist_hotttnesss", NAN, "artist_hotttnesss", "artist_hotttnesss is NaN"),
        ("artist_familiarity", np.inf, "artist_familiarity", "artist_familiarity is NaN"),
        ("tempo", 1e300, "tempo", "tempo is NaN"),
        ("loudness", NAN, "loudness", "loudness is NaN"),
        ("artist_id", b"", "artist_id", "artist_id is empty"),
        ("title", b"", "title", "title is empty"),
    ],
)
def test_an_unusable_field_is_null_and_noted(
    tmp_path: Path, field: str, value: Any, column: str, reason: str
) -> None:
    path = write(tmp_path / "a.h5", [make_song(1, **{field: value})])
    batch = hdf5.read_tracks([path])
    assert rejected(batch) == [(reason, "nulled")]
    assert batch.rejects["item"][0].as_py() == "TRAAAAA128F0000001"
    (row,) = batch.table.to_pylist()
    assert [name for name, v in row.items() if v is None] == [column]


def test_nan_song_hotttnesss_is_ordinary(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", [make_song(1, song_hotttnesss=NAN)])
    batch = hdf5.read_tracks([path])
    assert batch.table["song_hotttnesss"].to_pylist() == [None]
    assert len(batch.rejects) == 0


@pytest.mark.parametrize("field", ["song_id", "track_id"])
def test_a_track_without_an_id_is_dropped(tmp_path: Path, field: str) -> None:
    batch = hdf5.read_tracks([write(tmp_path / "a.h5", [make_song(1, **{field: b""})])])
    assert rejected(batch) == [(f"empty {field}", "dropped")]
    assert len(batch.table) == 0


def test_invalid_utf8_is_replaced_and_counted(tmp_path: Path) -> None:
    song = make_song(1, title=b"caf\xe9", **{"musicbrainz/artist_mbtags": [b"\xff"]})
    batch = hdf5.read_tracks([write(tmp_path / "a.h5", [song])])
    assert batch.table["title"].to_pylist() == ["caf\ufffd"]
    assert batch.table["mbtags"].to_pylist() == [["\ufffd"]]
    assert batch.damaged_text == 2


@pytest.mark.parametrize(
    ("changes", "reason", "expected"),
    [
        (
            {"musicbrainz/artist_mbtags_count": [1]},
            "mbtag_counts do not match mbtags",
            (["tag 2", "tag 3"], None),
        ),
        (
            {"musicbrainz/artist_mbtags": [b"", b"rock"]},
            "empty tag in mbtags",
            (["rock"], [2]),
        ),
    ],
)
def test_tags_that_do_not_fit_their_counts(
    tmp_path: Path, changes: Song, reason: str, expected: tuple[list[str], list[int] | None]
) -> None:
    batch = hdf5.read_tracks([write(tmp_path / "a.h5", [make_song(2, **changes)])])
    assert rejected(batch) == [(reason, "nulled")]
    (row,) = batch.table.to_pylist()
    assert (row["mbtags"], row["mbtag_counts"]) == expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"analysis/segments_start": np.zeros(3)}, "segment arrays differ in length"),
        ({"analysis/segments_timbre": np.full((4, 12), NAN)}, "segments have NaN"),
    ],
)
def test_damaged_segments_are_emptied_and_the_song_kept(
    tmp_path: Path, changes: Song, reason: str
) -> None:
    path = write(tmp_path / "a.h5", [make_song(4, **changes)])
    batch = hdf5.read_tracks([path], segments=True)
    assert rejected(batch) == [(reason, "nulled")]
    assert len(batch.table) == 1
    assert batch.segments is not None
    assert batch.segments["timbre"].to_pylist() == [[]]


def _without_field(file: h5py.File) -> None:
    rows = file["metadata/songs"][()]
    del file["metadata/songs"]
    keep = [name for name in rows.dtype.names if name != "title"]
    file["metadata/songs"] = np.array(rows[keep].tolist(), [(n, rows.dtype[n]) for n in keep])


def _text_year(file: h5py.File) -> None:
    del file["musicbrainz/songs"]
    file["musicbrainz/songs"] = np.zeros(1, [("idx_artist_mbtags", "<i4"), ("year", "S4")])


def _flat_timbre(file: h5py.File) -> None:
    del file["analysis/segments_timbre"]
    file["analysis/segments_timbre"] = np.zeros(24)


def _external_link(file: h5py.File) -> None:
    del file["metadata/artist_terms"]
    file["metadata/artist_terms"] = h5py.ExternalLink("other.h5", "/metadata/artist_terms")


def _external_group(file: h5py.File) -> None:
    del file["musicbrainz"]
    file["musicbrainz"] = h5py.ExternalLink("other.h5", "/musicbrainz")


def _soft_link(file: h5py.File) -> None:
    del file["metadata/artist_terms"]
    file["metadata/artist_terms"] = h5py.SoftLink("/metadata/artist_terms_weight")


def _external_storage(file: h5py.File) -> None:
    del file["analysis/segments_start"]
    external = [("other.raw", 0, 16)]
    file.create_dataset("analysis/segments_start", (2,), "<f8", external=external)


def _virtual(file: h5py.File) -> None:
    del file["analysis/segments_start"]
    layout = h5py.VirtualLayout((2,), "<f8")
    layout[:] = h5py.VirtualSource("other.h5", "analysis/segments_start", (2,))
    file.create_virtual_dataset("analysis/segments_start", layout)


def _absurd(file: h5py.File) -> None:
    del file["metadata/artist_terms"]
    file.create_dataset("metadata/artist_terms", (10**12,), "S256", chunks=(8,))


def _absurd_chunk(file: h5py.File) -> None:
    del file["analysis/segments_start"]
    file.create_dataset("analysis/segments_start", (2,), "<f8", chunks=(10**8,), maxshape=(None,))


def _no_rows(file: h5py.File) -> None:
    for group in TABLES:
        file[f"{group}/songs"].resize((0,))


def _uneven(file: h5py.File) -> None:
    file["analysis/songs"].resize((2,))


def _delete(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


DAMAGE: list[tuple[Callable[[h5py.File], None], str, str]] = [
    (_delete("musicbrainz"), "missing group or table", "/musicbrainz/songs"),
    (_delete("analysis/songs"), "missing group or table", "/analysis/songs"),
    (_delete("metadata/artist_terms"), "missing group or table", "/metadata/artist_terms"),
    (_delete("metadata/similar_artists"), "missing group or table", "/metadata/similar_artists"),
    (_without_field, "missing field", "/metadata/songs title"),
    (_text_year, "field of a wrong type", "year"),
    (_flat_timbre, "array of a wrong shape", "/analysis/segments_timbre"),
    (_external_link, "external link", "/metadata/artist_terms"),
    (_external_group, "external link", "/musicbrainz"),
    (_soft_link, "symbolic link", "/metadata/artist_terms"),
    (_external_storage, "external link", "/analysis/segments_start"),
    (_virtual, "external link", "/analysis/segments_start"),
    (_absurd, "absurd size", "/metadata/artist_terms"),
    (_absurd_chunk, "absurd size", "/analysis/segments_start"),
    (_no_rows, "no rows", ""),
    (_uneven, "tables differ in length", "2"),
]


@pytest.mark.parametrize(
    ("change", "reason", "detail"), DAMAGE, ids=lambda v: getattr(v, "__name__", None)
)
def test_a_damaged_file_is_one_reject(
    tmp_path: Path, change: Callable[[h5py.File], None], reason: str, detail: str
) -> None:
    folder = tmp_path / "A" / "B" / "C"
    folder.mkdir(parents=True)
    write(folder / "other.h5", [make_song(2)])  # what the links out of the file lead to
    bad = edit(write(folder / "TRABCXX128F0000001.h5", [make_song(2)]), change)
    good = write(folder / "TRABCYY128F0000001.h5", [make_song(3)])
    batch = hdf5.read_tracks([bad, good], str(tmp_path), segments=True)
    (reject,) = batch.rejects.to_pylist()
    assert reject["reason"] == reason
    assert detail in reject["detail"]
    assert reject["source"] == "A/B/C/TRABCXX128F0000001.h5"
    assert reject["item"] == "TRABCXX128F0000001"
    assert reject["action"] == "dropped"
    assert batch.table["year"].to_pylist() == [1993]
    assert batch.read == 2


def test_files_that_hdf5_cannot_open(tmp_path: Path) -> None:
    whole = Path(write(tmp_path / "whole.h5", [make_song(3)])).read_bytes()
    contents = {
        "text.h5": (b"hello, world\n" * 100, "not an HDF5 file"),
        "empty.h5": (b"", "not an HDF5 file"),
        "half.h5": (whole[: len(whole) // 2], "truncated HDF5 file"),
        "garbled.h5": (whole[:8] + b"\xff" * 200 + whole[208:], "unreadable HDF5 file"),
    }
    for name, (content, reason) in contents.items():
        (tmp_path / name).write_bytes(content)
        batch = hdf5.read_tracks([str(tmp_path / name)])
        assert rejected(batch) == [(reason, "dropped")], name
        assert batch.rejects["source"][0].as_py() == name
        assert not hdf5.is_aggregate(str(tmp_path / name))
        with pytest.raises(SourceError, match=name):
            hdf5.num_rows(str(tmp_path / name))
        with pytest.raises(SourceError, match=reason):
            hdf5.read_aggregate(str(tmp_path / name), 0, 1)
    batch = hdf5.read_tracks([str(tmp_path / "gone.h5")])
    assert rejected(batch) == [("missing file", "dropped")]
    with pytest.raises(SourceError, match="missing file"):
        hdf5.num_rows(str(tmp_path / "gone.h5"))


def test_an_aggregate_is_not_read_as_a_track(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", [make_song(1), make_song(2)])
    assert rejected(hdf5.read_tracks([path])) == [("more than one row", "dropped")]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("pristine") / "a.h5"
    return Path(write(path, [make_song(4)])).read_bytes()


@given(data=st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_garbled_bytes_never_raise(
    data: st.DataObject, pristine: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    garbled = bytearray(pristine)
    for _ in range(data.draw(st.integers(0, 8))):
        garbled[data.draw(st.integers(0, len(pristine) - 1))] = data.draw(st.integers(0, 255))
    garbled = garbled[: data.draw(st.integers(0, len(pristine)) | st.just(len(pristine)))]
    path = tmp_path_factory.getbasetemp() / "garbled.h5"
    path.write_bytes(garbled)
    batch = hdf5.read_tracks([str(path)], segments=True)
    batch.table.validate(full=True)
    dropped = sum(action == "dropped" for _, action in rejected(batch))
    assert len(batch.table) + dropped == 1
    try:
        hdf5.read_aggregate(str(path), 0, 2, segments=True)
    except SourceError as error:
        assert "garbled.h5" in str(error)  # noqa: PT017 - not raising is right too
