"""Songs of the corpus given again as new ones: a blend makes the vectors of them that it has."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

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
    songs = given(of_tables, ("clap",))
    check(of_tables, songs)
    texts = of_tables.read("ingest", "lyrics_text").to_pylist()
    assert texts
