"""Songs of the corpus given again as new ones: a blend makes the vectors of them that it has."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fusionrec.errors import WorkspaceError
from fusionrec.tables import matrix, vectors
from pipelines.opened import Recommender
from pipelines.opened.made_songs import MadeSongs
from pipelines.opened.new_by_blend import NewByBlend
from pipelines.run import run
from pipelines.runtime.rows import read_matrix
from pipelines.runtime.workspace import Workspace
from tests.pipelines.inline import load, without_ray
from tests.pipelines.tables import TABLES, stand_in

BLEND = {"recommend__model": "blend", "blend__tune": "false"}
FILES = {**BLEND, "embed__modalities": "[metadata, lyrics, audio]", "ingest__segments": "stats"}
OWN = {**BLEND, **TABLES, "embed__modalities": "[metadata, lyrics, clap]"}


@pytest.fixture(scope="module")
def of_files(small, undisturbed, tmp_path_factory) -> Workspace:
    """Of the official files, with lyrics and audio."""
    place = Path(shutil.copytree(undisturbed, tmp_path_factory.mktemp("files") / "w"))
    with without_ray():
        run(load(small, place, **FILES))
    return Workspace(str(place))


@pytest.fixture(scope="module")
def of_tables(small, undisturbed, tmp_path_factory) -> Workspace:
    """Of tables, with vectors of one's own and lyrics as text."""
    place = tmp_path_factory.mktemp("tables") / "w"
    with pytest.MonkeyPatch.context() as monkeypatch, without_ray():
        stand_in(monkeypatch, undisturbed)
        run(load(small, place, **OWN))
    return Workspace(str(place))


def given(workspace: Workspace, further: tuple[str, ...] = ()) -> pa.Table:
    """The songs of a workspace as somebody gives new ones, with their lyrics and own vectors."""
    songs = workspace.read("ingest", "songs")
    bags = workspace.read("ingest", "lyrics").to_pylist()
    words = workspace.read("ingest", "vocabulary")["word"].to_pylist()
    of = {bag["track_id"]: bag for bag in bags}
    lyrics = [of.get(track, {"words": [], "counts": []}) for track in songs["track_id"].to_pylist()]
    songs = songs.append_column("words", pa.array([[words[w] for w in b["words"]] for b in lyrics]))
    songs = songs.append_column("counts", pa.array([list(b["counts"]) for b in lyrics]))
    for name in further:
        table = workspace.read("embed", name)
        rows = vectors(matrix(table["vector"])).cast(pa.list_(pa.float32()))
        songs = songs.append_column(name, pa.compute.if_else(table["present"], rows, None))
    return songs


def check(workspace: Workspace, songs: pa.Table, segments: pa.Table | None = None) -> MadeSongs:
    """All songs of the test part get their vectors and atoms."""
    found = Recommender.open(workspace.uri).song_vectors(songs, segments)
    made = NewByBlend(workspace).make(songs, segments)
    assert found.equals(made.table())
    test = workspace.read("split", "split")["part"].to_numpy(zero_copy_only=False) == "test"
    rows = np.flatnonzero(test)
    assert len(rows) > 20
    assert made.present.all()
    F = matrix(workspace.read("blend", "songs")["vector"])
    np.testing.assert_allclose(made.F[rows], F[rows], atol=2e-5 * np.abs(F).max())
    atoms = read_matrix(workspace, "blend", "history", rows)
    assert made.atoms is not None
    assert atoms.any(axis=1).mean() > 0.9
    np.testing.assert_allclose(made.atoms[rows], atoms, atol=2e-5 * np.abs(atoms).max())
    return made


def test_songs_of_official_files_get_the_rows_of_the_stage(of_files) -> None:
    statistics = of_files.read("ingest", "segment_statistics")
    check(of_files, given(of_files), statistics)


def test_songs_of_tables_get_the_rows_of_the_stage(of_tables) -> None:
    """Also where lyrics are given as text, of which the words are counted."""
    songs = given(of_tables, ("clap",))
    made = check(of_tables, songs)
    bags = zip(songs["words"].to_pylist(), songs["counts"].to_pylist(), strict=True)
    texts = [
        ", ".join(word.capitalize() for word, count in zip(*bag, strict=True) for _ in range(count))
        for bag in bags
    ]
    assert sum(map(bool, texts)) > 50
    as_text = songs.drop_columns(["words", "counts"]).append_column("text", pa.array(texts))
    again = check(of_tables, as_text)
    np.testing.assert_allclose(again.F, made.F, atol=1e-5 * np.abs(made.F).max())
    without = NewByBlend(of_tables).make(as_text.drop_columns(["text", "clap"]))
    assert not np.allclose(without.F, made.F, atol=1e-2 * np.abs(made.F).max())


def test_new_songs_stand_beside_those_of_the_catalogue(of_files, caplog) -> None:
    """A copy of a cold song has its scores; what the corpus does not have is left out and told."""
    recommender = Recommender.open(of_files.uri)
    part = of_files.read("split", "split")["part"].to_numpy(zero_copy_only=False)
    cold = given(of_files).take(np.flatnonzero(part == "test")[:3])
    ids = pa.array([f"new-{row}" for row in range(3)])
    new = cold.set_column(0, "song_id", ids)
    statistics = of_files.read("ingest", "segment_statistics")
    candidates = pa.concat_tables(
        [recommender.vectors(), recommender.song_vectors(new, statistics)]
    )
    heard = recommender.vectors("train")["song_id"].to_pylist()[:4]
    listed = recommender.recommend({"me": heard}, candidates=candidates).to_pylist()[0]
    of = dict(zip(listed["song_ids"], listed["scores"], strict=True))
    size = max(map(abs, of.values()))
    for one, other in zip(ids.to_pylist(), cold["song_id"].to_pylist(), strict=True):
        assert of[one] == pytest.approx(of[other], abs=1e-4 * size)
    odd = pa.table(
        {
            "song_id": [1, 2],
            "artist_id": ["unheard", None],
            "terms": [["no such term"], None],
            "words": [["zzyzx"], None],
            "counts": [[2], None],
        }
    )
    caplog.clear()
    found = recommender.song_vectors(odd)
    assert found["present"].to_pylist() == [False, False]
    assert not matrix(found["vector"]).any()
    told = [record.getMessage() for record in caplog.records]
    assert "song_vectors: 1 words of the lyrics are not in the vocabulary" in told
    assert any("1 songs' artists, 1 terms" in line for line in told)
    none = recommender.song_vectors(odd.slice(0, 0))
    assert none.num_rows == 0
    assert none.schema == found.schema


def test_gaps_in_lists_are_left_out_as_the_sources_are_read(of_files) -> None:
    """With the numbers beside them; and numbers that are not as many are as none."""
    statistics = of_files.read("ingest", "segment_statistics")
    recommender, songs = Recommender.open(of_files.uri), given(of_files).slice(0, 20)

    def found(**lists: list[list[object] | None]) -> pa.Table:
        table = songs
        for name, each in lists.items():
            place = table.column_names.index(name)
            table = table.set_column(place, name, pa.array(each, table[name].type))
        return recommender.song_vectors(table, statistics)

    terms, weights = (songs[name].to_pylist() for name in ("terms", "term_weights"))
    assert sum(map(bool, terms)) > 10
    gaps = {
        "terms": [[None, *(f" {term}" for term in each), "  "] for each in terms],
        "term_weights": [[9.0, *each, 9.0] for each in weights],
        "mbtags": [[None, *each] for each in songs["mbtags"].to_pylist()],
        "mbtag_counts": [[7, *each] for each in songs["mbtag_counts"].to_pylist()],
        "similar_artists": [[None, *each] for each in songs["similar_artists"].to_pylist()],
    }
    assert found(**gaps).equals(found())
    too_few = [each[1:] for each in weights]
    none = found(term_weights=[None] * len(songs))
    assert found(term_weights=too_few).equals(none)
    assert not found().equals(none)


def test_a_blend_that_kept_nothing_of_it_says_so(of_files, tmp_path) -> None:
    place = Path(shutil.copytree(of_files.uri, tmp_path / "w"))
    for folder in place.glob("blend/*/unseen"):
        shutil.rmtree(folder)
    with pytest.raises(WorkspaceError, match=r"blend is of an earlier version, .*: run again"):
        Recommender.open(place).song_vectors(pa.table({"song_id": ["x"]}))
