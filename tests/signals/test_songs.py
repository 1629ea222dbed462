"""Songs and histories: codes, what is unknown, and plays that are hidden."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from fusionrec.errors import DataError
from fusionrec.signals.histories import Histories
from fusionrec.signals.signal import Fold
from fusionrec.signals.songs import COLUMNS, Songs
from tests.signals.corpus import corpus


def test_no_signal_can_read_a_songs_own_popularity() -> None:
    songs, _ = corpus()
    assert "song_hotttnesss" not in COLUMNS
    assert songs.table.column_names == list(COLUMNS)


def test_columns_that_are_missing_are_unknown() -> None:
    songs = Songs(pa.table({"song_id": ["a", "b"], "artist_id": ["x", ""]}), own=1)
    assert songs.artists.tolist() == [0, -1]
    assert songs.albums.tolist() == [-1, -1]
    assert np.isnan(songs.numbers("year")).all()


def test_similar_artists_of_more_songs_than_one_array_can_hold() -> None:
    of_one = pa.array([[f"AR{number:018}" for number in range(100_000)]])  # 2 MB
    chunks = pa.chunked_array([of_one] * 1_100)  # more than 2 GiB, if it had to be one array
    with pytest.raises(pa.ArrowInvalid, match="overflow"):
        chunks.combine_chunks()
    ids = [str(number) for number in range(len(chunks))]
    artists = [None, *("xy"[number % 2] for number in range(1, len(chunks)))]
    table = pa.table({"song_id": ids, "artist_id": artists, "similar_artists": chunks})
    songs = Songs(table, own=len(chunks))
    kept = songs.table["similar_artists"].is_valid().to_numpy()
    assert np.flatnonzero(kept).tolist() == [1, 2]  # the first of each artist
    assert songs.table["similar_artists"][1].as_py() == of_one[0].as_py()


def test_albums_are_releases_of_an_artist() -> None:
    table = {
        "song_id": list("abcde"),
        "artist_id": ["x", "x", "y", "y", None],
        "release": ["hits", "hits", "hits", None, "hits"],
    }
    first, second, third, *unknown = Songs(pa.table(table), own=5).albums.tolist()
    assert first == second != third
    assert unknown == [-1, -1]


def test_rows_must_fit() -> None:
    table = pa.table({"song_id": ["a", "b"]})
    with pytest.raises(DataError, match="3 rows of audio for 2 songs"):
        Songs(table, own=2, vectors={"audio": np.zeros((3, 1), np.float32)})
    with pytest.raises(DataError, match="0 songs of the catalogue"):
        Songs(table, own=0)


def test_weights_of_a_history() -> None:
    found = Histories.of(
        np.array([0, 0, 2, 0]), np.array([1, 2, 0, 1]), np.array([1, 1, 5, 2]), (3, 3)
    )
    log = np.log1p([3, 1])
    np.testing.assert_allclose(found.weights("log").toarray()[0], [0, *log / log.sum()], rtol=1e-6)
    assert found.weights("binary").toarray().tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert found.weights("mean").toarray().tolist() == [[0, 0.5, 0.5], [0, 0, 0], [1, 0, 0]]
    assert found.listeners.tolist() == [1, 1, 1]
    assert found.sizes.tolist() == [2, 0, 1]


def test_a_fold_has_no_play_of_a_hidden_song() -> None:
    songs, histories = corpus()
    hidden = np.arange(len(songs)) % 3 == 0
    fold = Fold(songs, histories, hidden)
    expected = histories.counts.toarray()
    expected[:, hidden] = 0
    np.testing.assert_array_equal(fold.histories.counts.toarray(), expected)
    assert fold.histories.counts.nnz == (expected > 0).sum()
    with pytest.raises(DataError, match="do not fit"):
        Fold(songs, Histories(csr_array((3, 2), dtype=np.float32)), hidden)
