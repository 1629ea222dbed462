"""The sample corpus as tables: the same corpus, its damage, its days; read without fusionrec."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fusionrec.errors import ConfigError
from fusionrec.formats.sample import write_sample, write_tables
from fusionrec.formats.sample.tables import DAYS, TablesTruth, play_times, read_tables_truth

SONGS, USERS, SEED = 120, 40, 5


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TablesTruth]:
    root = tmp_path_factory.mktemp("tables")
    return root, write_tables(root, songs=SONGS, users=USERS, seed=SEED)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("official")
    write_sample(root, songs=SONGS, users=USERS, seed=SEED)
    return root


def rows(root: Path, name: str) -> list[dict[str, str]]:
    with (root / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tsv(root: Path, name: str) -> list[list[str]]:
    return [line.split("\t") for line in (root / name).read_text("utf-8").splitlines()]


def plain(text: str) -> str:
    """An id as the official form has it."""
    return text.removeprefix("más-").removeprefix("zoë-")


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


def sound_plays(root: Path) -> list[dict[str, str]]:
    return [
        row
        for row in rows(root, "plays.csv")
        if row["listens"] and row["listens"].isdigit() and "no-such" not in row["track"]
    ]


def test_the_same_arguments_give_the_same_bytes_by_any_processes(tables, tmp_path) -> None:
    write_tables(tmp_path / "two", songs=SONGS, users=USERS, seed=SEED, processes=2)
    write_tables(tmp_path / "other", songs=SONGS, users=USERS, seed=SEED + 1)
    first, other = contents(tables[0]), contents(tmp_path / "other")
    assert contents(tmp_path / "two") == first
    assert all(first[name] != other[name] for name in first)


def test_it_replaces_its_own_kind_only(tables, official, tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("of value")
    for place in (tmp_path, official):
        with pytest.raises(ConfigError, match="is not a sample corpus in tables; name an empty"):
            write_tables(place, songs=SONGS, users=2)
    with pytest.raises(ConfigError, match="no complete sample corpus"):
        read_tables_truth(official)
    assert read_tables_truth(tables[0]) == tables[1]


def test_songs_words_and_plays_are_those_of_the_official_form(tables, official) -> None:
    root, truth = tables
    theirs = {row[1]: row for row in reversed(tsv(official, "truth_songs.tsv")[1:])}
    ours = {plain(row[0]): row for row in tsv(root, "truth_songs.tsv")[1:]}
    assert set(ours) == set(theirs)
    assert len(ours) == truth.songs
    for song, row in ours.items():
        assert row[2:] == theirs[song][3:]
    listened = Counter(
        (plain(row["uid"]), plain(row["track"]), row["listens"]) for row in sound_plays(root)
    )
    known = set(ours)
    triplets = Counter(
        (user, song, count)
        for user, song, count in (
            row for row in tsv(official, "tasteprofile/train_triplets.txt") if len(row) == 3
        )
        if song in known and count.isdigit()
    )
    assert listened == triplets
    assert listened.total() == truth.plays
    # A song's words: those of its first track, by the vocabulary in the file's head.
    track_of = {row[1]: row[0] for row in reversed(tsv(official, "truth_songs.tsv")[1:])}
    bags, vocabulary = {}, []
    for part in ("train", "test"):
        for line in (official / f"musixmatch/mxm_dataset_{part}.txt").read_text().splitlines():
            if line.startswith("%"):
                vocabulary = line[1:].split(",")
            elif not line.startswith("#"):
                track, _, *pairs = line.split(",")
                bags[track] = pairs if part == "train" else [p for p in pairs if p[-1] != ":"]
    read = 0
    for row in rows(root, "lyrics.csv")[:-1]:
        pairs = [pair.split(":") for pair in bags[track_of[plain(row["track"])]]]
        assert row["words"].split() == [f"{vocabulary[int(w) - 1]}:{c}" for w, c in pairs]
        read += 1
    assert read == truth.lyrics


def test_ids_and_titles_have_letters_beyond_ascii(tables) -> None:
    root, _ = tables
    songs, plays = rows(root, "songs.csv"), rows(root, "plays.csv")
    for texts in (
        {row["track"] for row in songs},
        {row["name"] for row in songs},
        {row["uid"] for row in plays},
    ):
        assert any(not text.isascii() for text in texts)
        assert any(text.isascii() for text in texts)


def test_songs_are_played_after_they_were_added(tables) -> None:
    root, _ = tables
    added = {row["track"]: row["added"] for row in rows(root, "songs.csv") if row["added"]}
    assert len(set(added.values())) > SONGS / 3
    last: dict[str, datetime] = {}
    untimed = 0
    for row in sound_plays(root):
        if row["ts"] == "yesterday":
            untimed += 1
            continue
        at = datetime.fromisoformat(row["ts"])
        begun = datetime.fromisoformat(added[row["track"]]).replace(tzinfo=UTC)
        assert begun <= at < datetime(2013, 1, 1, tzinfo=UTC)
        assert at >= last.get(row["uid"], at)  # each user's in the order of their times
        last[row["uid"]] = at
    assert untimed == 1


def test_first_plays_fall_off_as_they_are_said_to() -> None:
    """Of a song that is there from the first day, against the exponential cut off at the end."""
    seconds = np.concatenate([play_times(1, user, np.zeros(50, np.int64)) for user in range(400)])
    assert seconds.min() >= 0
    assert seconds.max() < DAYS * 86_400
    # Listeners begin on days 0 to 364, evenly: the mean over them of the cut exponential's.
    begun = np.arange(DAYS // 2)
    left, scale = DAYS - begun, 120.0
    mean = begun + scale - left / np.expm1(left / scale)
    assert seconds.mean() / 86_400 == pytest.approx(mean.mean(), rel=0.05)


def test_vectors_tell_the_planted_mixtures(tables) -> None:
    root, truth = tables
    vectors = np.load(root / "sound.npy")
    names = (root / "sound_ids.txt").read_text("utf-8").splitlines()
    assert vectors.dtype == np.float32
    assert len(vectors) == len(names) == truth.vectors + 2
    assert np.isnan(vectors[-2]).all()
    assert names[-1] == "no-such-track"
    planted = {row[0]: row[4:] for row in tsv(root, "truth_songs.tsv")[1:]}
    assert names[-2] in planted
    assert names[-2] not in names[:-2]
    x = vectors[:-2].astype(np.float64)
    y = np.array([planted[name] for name in names[:-2]], np.float64)
    design = np.column_stack([x, np.ones(len(x))])
    left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    assert 1 - left.var(axis=0).sum() / y.var(axis=0).sum() > 0.9


def test_damage_is_counted(tables) -> None:
    root, truth = tables
    songs = rows(root, "songs.csv")
    times = Counter(row["track"] for row in songs)
    found: defaultdict[str, int] = defaultdict(int)
    found["song_repeated"] = sum(count - 1 for count in times.values())
    found["year_not_a_number"] = sum(row["released"] == "unknown" for row in songs)
    found["lyrics_unknown_song"] = sum(
        row["track"] not in times for row in rows(root, "lyrics.csv")
    )
    found["vector_nan"] = found["vector_unknown_song"] = 1  # seen above
    for row in rows(root, "plays.csv"):
        found["play_negative"] += row["listens"] == "-3"
        found["play_not_a_number"] += row["listens"] == "often"
        found["play_two_fields"] += row["listens"] is None
        found["play_unknown_song"] += row["track"] not in times
        found["play_without_time"] += row["ts"] == "yesterday"
    assert truth.injected == dict(found)
