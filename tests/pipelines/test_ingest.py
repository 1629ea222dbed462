"""Ingest of a tree as people have them: odd entries, tracks twice, files mended in place."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from fusionrec.errors import SourceError, UnavailableError
from fusionrec.formats import hdf5, trouble
from pipelines import config as config_module
from pipelines import ingest
from pipelines.ingest import listing
from pipelines.runtime import sharding
from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import overrides
from tests.pipelines.inline import load, without_ray


def rejects(workspace: Workspace) -> set[tuple[str, str, str, str]]:
    columns = ["source", "item", "reason", "action"]
    return {
        tuple(row.values())
        for row in workspace.read("ingest", "rejects").select(columns).to_pylist()
    }


def test_an_odd_tree(own_corpus, ray_session, tmp_path) -> None:
    root = own_corpus / "MillionSong"
    paths = [Path(path) for path in hdf5.track_paths(str(root))]
    truncated = next(
        path
        for path in paths
        if hdf5.read_tracks([str(path)]).rejects["reason"].to_pylist() == ["truncated HDF5 file"]
    )
    twice = paths[-1]
    for folder in ("data/A/A/A/copies", "data/Z"):
        (root / folder).mkdir(parents=True)
        shutil.copyfile(twice, root / folder / twice.name)
    os.mkfifo(root / "data/A/fifo.h5")
    os.symlink("..", root / "data/A/loop")
    (root / "data/A" / os.fsdecode(b"\xff.h5")).write_bytes(b"no HDF5")

    settings = overrides(own_corpus, tmp_path / "w", ingest__files_per_shard=7)
    settings = config_module.load(None, settings)
    counts = ingest.STAGE.run(settings)["counts"]
    workspace = Workspace(str(tmp_path / "w"))
    songs = workspace.read("ingest", "songs")
    ids = songs["track_id"].to_pylist()
    assert len(set(ids)) == len(set(songs["song_id"].to_pylist())) == len(ids) == counts["songs"]
    assert twice.stem in ids
    found = rejects(workspace)
    assert {
        ("data/A/fifo.h5", "fifo.h5", "not a regular file", "dropped"),
        ("data/A/loop", "loop", "folder that is listed already", "excluded"),
        ("data/A/\\xff.h5", "\\xff", "not an HDF5 file", "dropped"),
        ("songs", twice.stem, "track read before", "excluded"),
    } <= found
    # Every track that was read is a song or is listed with the rule that left it out.
    assert counts["tracks_repeated"] == 2
    excluded = [r for r in found if r[0] == "songs" and r[3] == "excluded"]
    dropped = {source for source, _, _, action in found if action == "dropped"}
    readable = [path for path in paths if os.path.relpath(path, root) not in dropped]
    left_out = {path.stem for path in readable if path.stem not in ids}
    assert {item for _, item, *_ in excluded} - {twice.stem} == left_out
    assert {reason for _, _, reason, _ in excluded} == {
        "track read before",
        "known mismatch",
        "song of another track",
    }
    assert counts["rejects"]["excluded"] == counts["tracks"] - counts["songs"] + 1

    # The listing that shards and key were made of is kept.
    parts = [
        workspace.read_part("ingest", "listing", p) for p in workspace.parts("ingest", "listing")
    ]
    assert {len(part) for part in parts[:-1]} == {7}
    assert sum(map(len, parts)) == counts["song_files_or_rows"] - 1  # the FIFO was seen, not read

    # Ray Data carried what was read; how long that took is in the manifest alone.
    streams = counts["streams"]
    assert streams.keys() == {"songs", "lyrics", "plays", "other_songs"}
    assert streams["songs"]["read"]["items"] == streams["songs"]["write"]["items"] == len(parts)
    for each in streams.values():
        assert each["read"]["bytes"] > 0
        assert each["read"]["seconds"] > 0
    kept = workspace.read_json("ingest", "report.json")
    assert kept == {name: count for name, count in counts.items() if name != "streams"}

    # A damaged file over which a good one is copied is read again, and only then.
    before = ingest.STAGE.run(settings)
    assert before["counts"] == counts
    shutil.copyfile(paths[0], truncated)
    assert ingest.STAGE.run(settings)["key"] != before["key"]
    assert not any("truncated" in reason for _, _, reason, _ in rejects(workspace))


def test_a_listing_is_made_once_for_key_and_work(own_corpus, monkeypatch, tmp_path) -> None:
    settings = config_module.load(None, overrides(own_corpus, tmp_path / "w"))
    calls = []
    list_tracks = hdf5.list_tracks
    monkeypatch.setattr(
        hdf5, "list_tracks", lambda path: (calls.append(path), list_tracks(path))[1]
    )
    root = str(own_corpus / "MillionSong")
    state = listing.source_state(settings)
    assert listing.take_listing(root).digest() == state[0][2]
    assert calls == [root]
    # Looked up again, an edit in place is seen: of the same name and size, at another time.
    path = Path(hdf5.full_paths(root, list_tracks(root).table)[0])
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert listing.source_state(settings) != state
    assert calls == [root, root]


def test_trouble_in_a_worker_stops_the_run_by_name(ray_session) -> None:
    def read(shard: dict) -> dict:
        trouble.PAUSES = (0.0,)
        return trouble.patiently("s3://msd/A/B/C/TR.h5", full)

    def full() -> dict:
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(UnavailableError, match=r"C/TR\.h5: cannot be read, .*Too many open files"):
        sharding.map_shards(None, read, [{"part": 0}], description="reading songs")


def test_a_tree_of_nothing_but_odd_entries(tmp_path, ray_session) -> None:
    (tmp_path / "MillionSong").mkdir()
    os.mkfifo(tmp_path / "MillionSong" / "x.h5")
    for name in ("mxm_dataset_train.txt", "mxm_dataset_test.txt"):
        (tmp_path / "musixmatch").mkdir(exist_ok=True)
        (tmp_path / "musixmatch" / name).touch()
    settings = ["source.plays=[]", "source.mismatches=null"]
    settings = config_module.load(None, [*overrides(tmp_path, tmp_path / "w"), *settings])
    with pytest.raises(SourceError, match=r"holds no \.h5 file that can be read \(1 passed over\)"):
        ingest.STAGE.run(settings)


def test_lyrics_files_without_a_line_are_named(own_corpus, tmp_path) -> None:
    for part in ("train", "test"):
        (own_corpus / "musixmatch" / f"mxm_dataset_{part}.txt").write_text("")
    settings = config_module.load(None, overrides(own_corpus, tmp_path / "w"))
    message = r"mxm_dataset_train\.txt, .*: holds no lyrics; mend source.lyrics, or leave it out"
    with without_ray(), pytest.raises(SourceError, match=message):
        ingest.STAGE.run(settings)


def test_a_tracks_second_lyrics_are_listed(own_corpus, tmp_path) -> None:
    train, test = (
        own_corpus / "musixmatch" / f"mxm_dataset_{part}.txt" for part in ("train", "test")
    )
    line = train.read_text().splitlines()[-1]
    test.write_text(f"{test.read_text()}\n{line}\n")
    with without_ray():
        manifest = ingest.STAGE.run(load(own_corpus, tmp_path / "w"))
    assert manifest["counts"]["lyrics_repeated"] == 1
    track = line.split(",")[0]
    found = rejects(Workspace(str(tmp_path / "w")))
    assert ("lyrics", track, "track read before", "excluded") in found
