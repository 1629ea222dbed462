"""Plays by user: the same however the work was cut, and read a part at a time."""

from __future__ import annotations

import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fusionrec.ranking.protocols import candidate_songs
from pipelines.ingest import STAGE, by_user, catalogue, lookup, song_codes, song_groups, user_codes
from pipelines.ingest import stage as ingest_stage
from pipelines.opened.catalogue import Catalogue, user_code
from pipelines.recommend import stage, vectors
from pipelines.recommend.ranking import StoredSongs
from pipelines.runtime.shards import shards_of_rows
from pipelines.runtime.workspace import Workspace, part_number
from tests.pipelines.inline import Held, load, without_ray

ARTIFACTS = ("users", "plays", "other_plays")


@pytest.fixture(scope="module")
def scattered(small, tmp_path_factory) -> Path:
    """The corpus with its triplets in no order: every shard has plays of almost every user."""
    place = Path(shutil.copytree(small, tmp_path_factory.mktemp("scattered") / "corpus"))
    lyrics = [place / f"musixmatch/mxm_dataset_{part}.txt" for part in ("train", "test")]
    with lyrics[1].open("a") as test:
        for line in lyrics[0].read_text().splitlines()[-3:]:  # tracks that come again
            print(line, file=test)
        rest = line.split(",", 1)[1]
        print(f"TRZZZZZ128F0000001,{rest}", file=test)  # and one that the corpus does not have
    file = place / "tasteprofile/train_triplets.txt"
    lines = file.read_text().splitlines()
    lines += [line for line in lines[:40] if line.count("\t") == 2]  # pairs that come again
    order = np.random.default_rng(5).permutation(len(lines))
    file.write_text("".join(f"{lines[i]}\n" for i in order))
    return place


def ingested(corpus: Path, place: Path, **more: object) -> Workspace:
    with without_ray():
        STAGE.run(load(corpus, place, ingest__max_reject_share=0.5, **more))
    return Workspace(str(place))


@pytest.fixture(scope="module")
def whole(scattered, tmp_path_factory) -> Workspace:
    return ingested(scattered, tmp_path_factory.mktemp("whole") / "w")


@pytest.mark.parametrize("kilobytes", [2, 1000])
@pytest.mark.parametrize(("a_part", "a_piece"), [(8, 50), (8, 1 << 22), (1 << 14, 50)])
def test_plays_do_not_depend_on_how_the_work_is_cut(
    scattered, whole, tmp_path, monkeypatch, kilobytes, a_part, a_piece
) -> None:
    monkeypatch.setattr(by_user, "USERS_A_PART", a_part)
    monkeypatch.setattr(by_user, "PLAYS_A_PIECE", a_piece)
    monkeypatch.setattr(user_codes, "IDS_A_PIECE", a_piece)
    monkeypatch.setattr(song_codes, "IDS_A_PIECE", a_piece)
    monkeypatch.setattr(lookup, "IDS_A_PIECE", a_piece)
    monkeypatch.setattr(song_groups, "SONGS_A_GROUP", a_piece)
    monkeypatch.setattr(catalogue, "TRACKS_A_PIECE", a_piece)
    monkeypatch.setattr(ingest_stage, "_REJECTS_AT_ONCE", a_piece)
    workspace = ingested(scattered, tmp_path / "w", ingest__bytes_per_shard=kilobytes << 10)
    users = workspace.require("ingest")["counts"]["users"]
    for name in ARTIFACTS:
        assert workspace.read("ingest", name).equals(whole.read("ingest", name)), name
        parts = [part_number(part) for part in workspace.parts("ingest", name)]
        assert parts == list(range(-(-users // a_part))), name
    counts = [{**each.require("ingest")["counts"]} for each in (workspace, whole)]
    for each in counts:
        del each["song_files_read_directly"]  # not the first of a process
    assert counts[0] == counts[1]
    for name in ("songs", "other_songs", "lyrics", "other_lyrics"):
        assert workspace.read("ingest", name).equals(whole.read("ingest", name)), name
    ids = [*workspace.read("ingest", "songs")["song_id"].to_pylist()]
    ids += workspace.read("ingest", "other_songs")["song_id"].to_pylist()
    songs = Catalogue(workspace)
    assert songs.rows([*ids, "no song"]).tolist() == [*range(len(ids)), -1]
    assert songs.names(ids) == Catalogue(whole).names(ids)
    listed = [
        sorted(tuple(row.values()) for row in each.read("ingest", "rejects").to_pylist())
        for each in (workspace, whole)
    ]
    assert listed[0] == listed[1]
    for number, name in enumerate(workspace.parts("ingest", "plays")):
        table = workspace.read_part("ingest", "plays", name)
        user, song, _ = (column.to_numpy() for column in table.columns)
        assert set(user // a_part) <= {number}
        assert all(a <= b for a, b in pairwise(zip(user, song, strict=True)))


def test_users_are_numbered_along_the_files(scattered, whole, tmp_path, monkeypatch) -> None:
    """Also where their ids fall into many pieces, of which an index finds them."""
    monkeypatch.setattr(user_codes, "IDS_A_PIECE", 60)
    workspace = ingested(scattered, tmp_path / "w", ingest__bytes_per_shard=2 << 10)
    lines = (scattered / "tasteprofile/train_triplets.txt").read_text().splitlines()
    sound = [line.split("\t") for line in lines if line.count("\t") == 2]
    expected = dict.fromkeys(user for user, _, plays in sound if plays.isdigit())
    assert workspace.read("ingest", "users")["user_id"].to_pylist() == list(expected)
    assert len(list((Path(workspace.path("ingest", "user_index"))).iterdir())) > 5
    for indexed in (whole, workspace):
        found = [user_code(indexed, user) for user in [*expected, "nobody"]]
        assert found == [*range(len(expected)), -1]


def test_what_is_asked_of_some_users_is_theirs(scattered, whole, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(by_user, "USERS_A_PART", 8)
    workspace = ingested(scattered, tmp_path / "w")
    plays, ids = whole.read("ingest", "plays"), whole.read("ingest", "users")["user_id"]
    user = plays["user"].to_numpy()
    for start, stop in ((0, 8), (8, 16), (3, 21), (13, 14), (16, 16), (50, len(ids))):
        found = by_user.plays_of(workspace, start, stop)
        assert found.equals(plays.filter((user >= start) & (user < stop))), (start, stop)
        assert by_user.user_ids_of(workspace, start, stop).equals(ids.slice(start, stop - start))
    some = np.array([2, 3, 30, 31])
    found = by_user.plays_of_users(workspace, some)
    assert found.equals(plays.filter(np.isin(user, some)))


def test_a_ranking_task_reads_the_part_of_its_users(scattered, tmp_path, monkeypatch) -> None:
    """And not its users' rows of all parts, which are as many as the triplets' shards."""
    monkeypatch.setattr(by_user, "USERS_A_PART", 20)
    place = tmp_path / "w"
    workspace = ingested(scattered, place, ingest__bytes_per_shard=2 << 10)
    chosen = load(scattered, place, ingest__bytes_per_shard=2 << 10)
    reads: Counter[tuple[str, str]] = Counter()
    read_part = Workspace.read_part

    def counted(self, stage, artifact, part, *arguments, **options):
        reads[artifact, part] += 1
        return read_part(self, stage, artifact, part, *arguments, **options)

    ids = workspace.read("ingest", "songs")["song_id"].combine_chunks()
    part = np.where(np.arange(len(ids)) % 2, "test", "train").astype(object)
    usable = np.ones(len(ids), bool)
    candidates = vectors.Catalogue(ids, part, usable, candidate_songs(part, usable))
    F = np.random.default_rng(0).random((len(ids), 4), np.float32)
    run = workspace.begin("recommend", {})
    assert run is not None
    users = workspace.require("ingest")["counts"]["users"]
    with without_ray():
        monkeypatch.setattr(Workspace, "read_part", counted)
        songs = StoredSongs(Held(lambda: candidates), (Held(lambda: F),), gpus=0.0)
        for shard in shards_of_rows(users, 20):
            ranked = stage._rank_shard(chosen, run, songs, shard)
            assert 0 < ranked.ranked <= ranked.users
    assert len(reads) == 2 * 3
    assert set(reads.values()) == {1}
