import numpy as np
import pyarrow as pa

from fusionrec.features.metadata import (
    TEXT_FIELDS,
    column_names,
    metadata_features,
    number_statistics,
)
from fusionrec.features.words import FieldWord2Vec
from fusionrec.schemas import SONGS


def songs() -> pa.Table:
    rows = [
        {"title": "One Night", "release": "Nights", "artist_name": "Ann", "year": 1990},
        {"title": "Two Nights", "release": "Nights", "artist_name": "Bob", "year": 2000},
        {"title": None, "release": "???", "artist_name": "Ann", "year": None},
    ]
    for row, duration, hot in zip(rows, (100.0, 200.0, 300.0), (0.5, None, 0.25), strict=True):
        row.update(song_id="S", track_id="T", duration=duration, artist_hotttnesss=hot)
    return pa.Table.from_pylist(rows, schema=SONGS)


def test_columns_are_text_means_numbers_and_where_numbers_are_missing() -> None:
    table = songs()
    fields = {
        name: FieldWord2Vec.fit(table[name].to_pylist(), dimension=4, epochs=1)
        for name in TEXT_FIELDS
    }
    means = number_statistics(table)
    assert means == {"year": 1995.0, "duration": 200.0, "artist_hotttnesss": 0.375}
    rows, counts = metadata_features(table, fields, means)
    assert rows.shape == (3, len(column_names(4)))
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(
        rows[:, :4], fields["title"].transform(["One Night", "Two Nights", None])[0]
    )
    numbers = rows[:, 12:]
    np.testing.assert_allclose(
        numbers,
        [[1990, 100, 0.5, 0, 0, 0], [2000, 200, 0.375, 0, 0, 1], [1995, 300, 0.25, 1, 0, 0]],
    )
    assert column_names(4)[12:] == [
        "year",
        "duration",
        "artist_hotttnesss",
        "year_missing",
        "duration_missing",
        "artist_hotttnesss_missing",
    ]
    assert counts == {
        "title_without_known_word": 1,
        "release_without_known_word": 1,
        "artist_name_without_known_word": 0,
        "year_missing": 1,
        **{f"{name}_unknown_words": 0 for name in TEXT_FIELDS},
        "duration_missing": 0,
        "artist_hotttnesss_missing": 1,
    }


def test_nan_is_missing_too_and_filling_keeps_a_columns_mean() -> None:
    rows = [{"year": 1980, "artist_hotttnesss": hot} for hot in (float("nan"), 0.25, 0.75)]
    table = pa.Table.from_pylist(rows, schema=SONGS)
    means = number_statistics(table)
    assert means == {"year": 1980.0, "duration": 0.0, "artist_hotttnesss": 0.5}  # no duration
    fields = dict.fromkeys(TEXT_FIELDS, FieldWord2Vec((), np.zeros((0, 2), np.float32)))
    values, counts = metadata_features(table, fields, means)
    assert values[:, 8].tolist() == [0.5, 0.25, 0.75]
    assert values[:, 9:].tolist() == [[0, 1, 1], [0, 1, 0], [0, 1, 0]]
    assert (counts["artist_hotttnesss_missing"], counts["duration_missing"]) == (1, 3)
    assert counts["title_without_known_word"] == 3


def test_rows_do_not_depend_on_how_a_table_is_chunked() -> None:
    table, vectors = songs(), np.eye(2, dtype=np.float32)
    fields = dict.fromkeys(TEXT_FIELDS, FieldWord2Vec(("nights", "ann"), vectors))
    means = number_statistics(table)
    whole, _ = metadata_features(table, fields, means)
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    np.testing.assert_array_equal(metadata_features(chunked, fields, means)[0], whole)
    np.testing.assert_array_equal(metadata_features(table.slice(1), fields, means)[0], whole[1:])
    assert metadata_features(table.slice(3), fields, means)[0].shape == (0, 12)
    assert set(number_statistics(table.slice(3)).values()) == {0.0}
