import numpy as np
import pyarrow as pa

from fusionrec.features.audio import DIMENSION, NAMES, audio_features, segment_statistics
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


def features(songs: list[dict], segments: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    statistics = segment_statistics(pa.Table.from_pylist(segments, schema=SEGMENTS))
    return audio_features(pa.Table.from_pylist(songs, schema=SONGS), statistics)


def test_songs_with_and_without_segments() -> None:
    rows, present = features(
        [
            {"track_id": "none", "tempo": 99.0},
            {"track_id": "b", "tempo": 120.0, "loudness": -5.0, "mode": 1, "key": 7},
            {"track_id": "empty", "tempo": 99.0},
            {"track_id": "one", "tempo": None, "loudness": -3.0, "mode": 0, "key": None},
            {"track_id": "b2", "key": 12},
        ],
        [segment_row("one", 1), segment_row("empty", 0), segment_row("b", 9), segment_row("b2", 9)],
    )
    assert rows.shape == (5, DIMENSION)
    assert rows.dtype == np.float32
    assert present.tolist() == [False, True, False, True, True]
    assert not rows[[0, 2]].any()
    value = dict(zip(NAMES, rows[1], strict=True))
    assert (value["tempo"], value["loudness"], value["mode"]) == (120, -5, 1)
    assert [value[f"key_{i}"] for i in range(12)] == [float(i == 7) for i in range(12)]
    single = dict(zip(NAMES, rows[3], strict=True))
    # One segment: a mean, but nothing that varies.
    np.testing.assert_allclose(single["timbre_mean_3"], TIMBRE[0, 3], rtol=1e-6)
    assert not any(single[n] for n in NAMES if "covariance" in n or "difference" in n)
    assert not any(single[f"key_{i}"] for i in range(12))
    assert not any(rows[4, NAMES.index(f"key_{i}")] for i in range(12))
    assert np.isfinite(rows).all()


def test_every_column_is_what_its_name_says() -> None:
    rows, _ = features([{"track_id": "b", "tempo": 90.0}], [segment_row("b", 9)])
    value = dict(zip(NAMES, rows[0].tolist(), strict=True))
    expected = {"tempo": 90.0, "loudness": 0.0, "mode": 0.0, **{f"key_{i}": 0 for i in range(12)}}
    for what, frames in (("timbre", TIMBRE), ("pitches", PITCHES)):
        covariance = np.cov(frames.T, ddof=0)
        for i in range(12):
            expected[f"{what}_mean_{i}"] = frames[:, i].mean()
            for j in range(i, 12):
                expected[f"{what}_covariance_{i}_{j}"] = covariance[i, j]
    difference = np.diff(TIMBRE, axis=0)
    for i in range(12):
        expected[f"timbre_difference_mean_{i}"] = difference[:, i].mean()
        expected[f"timbre_difference_std_{i}"] = difference[:, i].std()
    for what, values in (("", LOUDNESS), ("_difference", np.diff(LOUDNESS))):
        expected[f"loudness_max{what}_mean"] = values.mean()
        expected[f"loudness_max{what}_std"] = values.std()
    assert value.keys() == expected.keys()
    np.testing.assert_allclose([value[n] for n in NAMES], [expected[n] for n in NAMES], atol=1e-6)


def test_no_segments_at_all() -> None:
    rows, present = features([{"track_id": "a"}], [])
    assert not present.any()
    assert not rows.any()
