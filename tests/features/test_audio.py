import numpy as np
import pyarrow as pa

from fusionrec.features.audio import DIMENSION, NAMES, audio_features
from fusionrec.schemas import SEGMENTS, SONGS

RNG = np.random.default_rng(0)
TIMBRE, PITCHES, LOUDNESS = RNG.normal(size=(9, 12)), RNG.random((9, 12)), RNG.normal(size=9)


def segment_row(track: str, n: int) -> dict:
    return {
        "track_id": track,
        "start": list(range(n)),
        "timbre": TIMBRE[:n].tolist(),
        "pitches": PITCHES[:n].tolist(),
        "loudness_max": LOUDNESS[:n].tolist(),
    }


def test_statistics_by_hand() -> None:
    songs = pa.Table.from_pylist(
        [
            {"track_id": "none", "tempo": 99.0},
            {"track_id": "b", "tempo": 120.0, "loudness": -5.0, "mode": 1, "key": 7},
            {"track_id": "empty", "tempo": 99.0},
            {"track_id": "one", "tempo": None, "loudness": -3.0, "mode": 0, "key": None},
        ],
        schema=SONGS,
    )
    segments = pa.Table.from_pylist(
        [segment_row("one", 1), segment_row("empty", 0), segment_row("b", 9)], schema=SEGMENTS
    )
    rows, present = audio_features(songs, segments)
    assert rows.shape == (4, DIMENSION) == (4, 89)
    assert present.tolist() == [False, True, False, True]
    assert not rows[[0, 2]].any()
    value = dict(zip(NAMES, rows[1], strict=True))
    np.testing.assert_allclose(value["timbre_mean_3"], TIMBRE[:, 3].mean(), rtol=1e-5)
    np.testing.assert_allclose(value["pitches_std_11"], PITCHES[:, 11].std(), rtol=1e-5)
    np.testing.assert_allclose(value["loudness_max_mean"], LOUDNESS.mean(), rtol=1e-5)
    difference = np.diff(TIMBRE[:, 0])
    np.testing.assert_allclose(value["timbre_difference_std_0"], difference.std(), rtol=1e-5)
    assert (value["tempo"], value["loudness"], value["mode"]) == (120, -5, 1)
    assert [value[f"key_{i}"] for i in range(12)] == [float(i == 7) for i in range(12)]
    single = dict(zip(NAMES, rows[3], strict=True))
    assert single["timbre_difference_mean_0"] == single["timbre_std_0"] == single["tempo"] == 0
    assert np.isfinite(rows).all()


def test_every_column_is_what_its_name_says() -> None:
    songs = pa.Table.from_pylist([{"track_id": "b"}], schema=SONGS)
    segments = pa.Table.from_pylist([segment_row("b", 9)], schema=SEGMENTS)
    value = dict(zip(NAMES, audio_features(songs, segments)[0][0].tolist(), strict=True))
    blocks = {"timbre": TIMBRE, "pitches": PITCHES, "timbre_difference": TIMBRE[1:] - TIMBRE[:-1]}
    for name, frames in blocks.items():
        for i in range(12):
            mean = frames[:, i].sum() / len(frames)
            deviation = np.sqrt(((frames[:, i] - mean) ** 2).sum() / len(frames))
            assert abs(value.pop(f"{name}_mean_{i}") - mean) < 1e-5
            assert abs(value.pop(f"{name}_std_{i}") - deviation) < 1e-5
    assert abs(value.pop("loudness_max_mean") - LOUDNESS.mean()) < 1e-5
    assert abs(value.pop("loudness_max_std") - LOUDNESS.std()) < 1e-5
    assert len(value) == 15
    assert set(value.values()) == {0.0}  # tempo, loudness, mode and key are null


def test_keys_outside_the_twelve_mark_no_column() -> None:
    rows = [{"track_id": "b", "key": key} for key in (-1, 0, 11, 12)]
    segments = pa.Table.from_pylist([segment_row("b", 2)], schema=SEGMENTS)
    values, _ = audio_features(pa.Table.from_pylist(rows, schema=SONGS), segments)
    tempo, first_key = NAMES.index("tempo"), NAMES.index("key_0")
    assert not values[:, tempo:first_key].any()
    expected = np.zeros((4, 12))
    expected[1, 0] = expected[2, 11] = 1
    np.testing.assert_array_equal(values[:, first_key:], expected)


def test_rows_do_not_depend_on_how_tables_are_chunked() -> None:
    tracks = [f"T{i}" for i in range(6)]
    songs = pa.Table.from_pylist([{"track_id": t} for t in tracks], schema=SONGS)
    segments = pa.Table.from_pylist(
        [segment_row(t, i + 1) for i, t in enumerate(tracks)], schema=SEGMENTS
    )
    whole, _ = audio_features(songs, segments)
    chunked = pa.concat_tables([segments.slice(0, 2), segments.slice(2, 1), segments.slice(3)])
    np.testing.assert_array_equal(audio_features(songs, chunked)[0], whole)
    values, present = audio_features(songs.slice(2, 3), segments.slice(3))
    assert present.tolist() == [False, True, True]
    np.testing.assert_array_equal(values[1:], whole[3:5])
    assert not audio_features(songs, SEGMENTS.empty_table())[1].any()
