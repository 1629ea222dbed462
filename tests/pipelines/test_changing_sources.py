"""Sources that change or go while they are read, or are on another file system."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from fusionrec.errors import SourceError
from fusionrec.formats import hdf5
from pipelines import config as config_module
from pipelines import ingest
from pipelines.runtime.workspace import StageRun, Workspace, part_name
from tests.pipelines.conftest import ingest_run, overrides


def test_a_source_on_another_filesystem(corpus, finished, ray_session, tmp_path) -> None:
    settings = overrides(f"file://{corpus}", tmp_path / "w")
    ingest.STAGE.run(config_module.load(None, settings))
    for name in ("songs", "plays", "users", "lyrics"):
        found, expected = (
            Workspace(str(w)).read("ingest", name) for w in (tmp_path / "w", finished)
        )
        assert found.equals(expected), name


@pytest.mark.parametrize("change", ["grows", "shrinks", "goes"])
def test_a_source_changes_while_it_is_read(
    own_corpus, ray_session, tmp_path, monkeypatch, change
) -> None:
    """Changed between reading and the end of the stage: an error, and no manifest."""
    triplets = own_corpus / "tasteprofile" / "train_triplets.txt"
    from pipelines.ingest import stage

    merge = stage.merge_rejects

    def changing(run: StageRun, artifacts: Sequence[str]):
        if change == "grows":
            with triplets.open("a") as file:
                file.write("someone\tSOAAAAA12A6D4F0000\t1\n")
        elif change == "shrinks":
            os.truncate(triplets, 100)
        else:
            triplets.unlink()
        return merge(run, artifacts)

    settings = config_module.load(None, overrides(own_corpus, tmp_path / "w"))
    monkeypatch.setattr(stage, "merge_rejects", changing)
    with pytest.raises(SourceError, match=r"changed while|does not exist"):
        ingest.STAGE.run(settings)
    assert Workspace(str(tmp_path / "w")).manifest("ingest") is None


def test_files_disappear_between_listing_and_reading(
    own_corpus, ray_session, tmp_path, monkeypatch
) -> None:
    from pipelines.ingest import songs

    settings = config_module.load(None, overrides(own_corpus, tmp_path / "w"))
    run = ingest_run(tmp_path / "w")
    listed = songs.song_shards(settings, run)
    gone = hdf5.track_paths(str(own_corpus / "MillionSong"))[1]
    Path(gone).unlink()
    monkeypatch.setattr(songs, "song_shards", lambda *_: listed)
    with pytest.raises(SourceError, match=rf"{Path(gone).name}: was there when this run began"):
        songs.read_songs(settings, run, 0.1)
    # The other shards may have been read before.
    assert part_name(0) not in run.workspace.parts("ingest", "raw_songs")
    assert not run.workspace.exists("ingest", "reports", "songs-00000.json")
