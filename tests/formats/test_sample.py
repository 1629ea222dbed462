"""The sample corpus: its formats, its damage and its planted truth, read without fusionrec."""

from __future__ import annotations

import json
import os
import re
import tracemalloc
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fusionrec.errors import ConfigError, ResourceError
from fusionrec.formats.sample import tracks as sample_tracks
from fusionrec.formats.sample.corpus import SampleTruth, read_truth, write_sample
from fusionrec.formats.sample.model import PREFERENCE_STRENGTH, Listening, PlantedModel
from fusionrec.formats.sample.model import planted_scores as scores_of
from fusionrec.formats.sample.similarity import LONGEST, SimilarArtists
from tests.formats.hdf5.test_writer import assert_official

SONGS, USERS = 320, 100


@dataclass
class Corpus:
    root: Path
    truth: SampleTruth
    tracks: dict[str, dict[str, object]]  # by track id, what its HDF5 file says
    broken: list[Path]
    songs: list[list[str]]  # rows of truth_songs.tsv
    mixtures: np.ndarray  # (tracks, genres)
    popularity: np.ndarray  # (tracks,)

    def lines(self, name: str) -> list[bytes]:
        return (self.root / name).read_bytes().removesuffix(b"\n").split(b"\n")

    def lyrics(self, part: str) -> dict[str, tuple[int, dict[int, int]]]:
        """Bags by track id; the cut pair at the end is left out."""
        bags = {}
        for line in self.lines(f"musixmatch/mxm_dataset_{part}.txt"):
            if line[:1] not in (b"#", b"%"):
                track, mxm, *pairs = line.decode().split(",")
                split = [pair.split(":") for pair in pairs]
                bags[track] = int(mxm), {int(w): int(c) for w, c in split if c}
        return bags


def read_tracks(root: Path) -> tuple[dict[str, dict[str, object]], list[Path]]:
    tracks, broken = {}, []
    for path in sorted(root.rglob("*.h5")):
        try:
            with h5py.File(path) as file:
                metadata, analysis = file["metadata/songs"][0], file["analysis/songs"][0]
                tracks[path.stem] = {
                    "path": path,
                    "timbre": file["analysis/segments_timbre"][:],
                    "pitches": file["analysis/segments_pitches"][:],
                    "start": file["analysis/segments_start"][:],
                    "tags": file["musicbrainz/artist_mbtags"][:].tolist(),
                    "tag_counts": file["musicbrainz/artist_mbtags_count"][:].tolist(),
                    "terms": file["metadata/artist_terms"][:].tolist(),
                    "weights": file["metadata/artist_terms_weight"][:].tolist(),
                    "similar": file["metadata/similar_artists"][:].tolist(),
                    "year": int(file["musicbrainz/songs"][0]["year"]),
                    "track": analysis["track_id"].decode(),
                    "duration": float(analysis["duration"]),
                    "song": metadata["song_id"].decode(),
                    "artist": metadata["artist_id"].decode(),
                    "title": bytes(metadata["title"]),
                    "name": bytes(metadata["artist_name"]),
                    "hotttnesss": float(metadata["song_hotttnesss"]),
                }
        except OSError:
            broken.append(path)
    return tracks, broken


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("sample")
    truth = write_sample(root, songs=SONGS, users=USERS, seed=5)
    tracks, broken = read_tracks(root)
    rows = [line.split("\t") for line in (root / "truth_songs.tsv").read_text().splitlines()][1:]
    numbers = np.array([[float(x) for x in row[5:]] for row in rows])
    return Corpus(
        root, truth, tracks, broken, rows, numbers, np.array([float(row[4]) for row in rows])
    )


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# Determinism and the folder


def test_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_sample(tmp_path / name, songs=60, users=5, seed=seed)
    first, same, other = (files(tmp_path / name) for name in "abc")
    assert first == same
    assert not set(first) & {name for name in other if name.endswith(".h5")}
    for name in set(first) & set(other):
        assert first[name] != other[name], name


def test_processes_write_the_same_bytes(tmp_path: Path) -> None:
    for processes in (1, 2):
        shares = {"lyrics": 0.24, "history": 20, "processes": processes}
        write_sample(tmp_path / str(processes), songs=120, users=5, **shares)
    assert files(tmp_path / "1") == files(tmp_path / "2")


def ended(_: object) -> None:
    os._exit(1)


def test_a_process_that_was_ended_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_tracks, "_write", ended)
    with pytest.raises(ResourceError, match=r"memory is full; use fewer --processes"):
        write_sample(tmp_path / "out", songs=120, users=5, processes=2)
    with pytest.raises(ConfigError, match=r"no complete sample"):
        read_truth(tmp_path / "out")


def test_lyrics_and_histories_as_asked_for(tmp_path: Path, corpus: Corpus) -> None:
    truth = write_sample(tmp_path, songs=SONGS, users=USERS, seed=5, lyrics=0.24, history=20)
    with_lyrics = truth.lyrics_train + truth.lyrics_test
    assert abs(with_lyrics / SONGS - 0.24) < 3 * np.sqrt(0.24 * 0.76 / SONGS)
    lines = [
        line.split(b"\t") for line in (tmp_path / "tasteprofile/train_triplets.txt").open("rb")
    ]
    played = Counter(fields[0] for fields in lines)
    assert 17 < np.median(list(played.values())) < 23
    assert read_truth(tmp_path) == truth
    # Nothing else of a song changes with them.
    assert (tmp_path / "truth_songs.tsv").read_bytes() == (
        corpus.root / "truth_songs.tsv"
    ).read_bytes()


def test_an_earlier_sample_is_replaced_without_a_trace(tmp_path: Path) -> None:
    write_sample(tmp_path / "again", songs=80, users=9, seed=1)
    # As a run leaves it that was stopped half-way.
    (tmp_path / "again/truth.json").write_text('{"format": "fusionrec-sample", "complete": false}')
    with pytest.raises(ConfigError, match=r"no complete sample"):
        read_truth(tmp_path / "again")
    for name in ("again", "fresh"):
        write_sample(tmp_path / name, songs=60, users=5, seed=2)
    assert files(tmp_path / "again") == files(tmp_path / "fresh")


@pytest.mark.parametrize("content", ["", "{}", '["fusionrec-sample"]'])
def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "truth.json").write_text(content)
    with pytest.raises(ConfigError, match="not a sample corpus"):
        write_sample(tmp_path, songs=60, users=1)
    with pytest.raises(ConfigError, match="not a sample corpus"):
        write_sample(tmp_path / "truth.json", songs=60, users=1)
    assert files(tmp_path) == {"truth.json": content.encode()}


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"songs": 49}, "songs = 49"),
        ({"users": 0}, "users = 0"),
        ({"processes": 0}, "processes = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"lyrics": 1.5}, "lyrics = 1.5"),
        ({"history": 10}, "history = 10"),
    ],
)
def test_sizes_out_of_bounds(tmp_path: Path, sizes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        write_sample(tmp_path / "out", **sizes)
    assert not (tmp_path / "out").exists()


def test_the_smallest_corpus_is_whole_and_its_progress_adds_up(tmp_path: Path) -> None:
    steps: list[int] = []
    truth = write_sample(tmp_path, songs=50, users=1, progress=steps.append)
    tracks, broken = read_tracks(tmp_path)
    assert (len(tracks), len(broken)) == (50, 2)
    assert truth.lyrics_test >= 1
    assert truth.triplets >= 8
    assert sum(steps) == 51


def test_memory_hardly_grows_with_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_little(path: Path, **content: object) -> None:
        path.write_bytes(b"x")

    monkeypatch.setattr(sample_tracks, "write_track", write_little)  # slow while being traced
    peaks = {}
    for songs in (100, 400):
        tracemalloc.start()
        write_sample(tmp_path / str(songs), songs=songs, users=5)
        peaks[songs] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # A song's segments alone are 12 kB, its genre mixture and cumulative popularities 0.2 kB.
    assert peaks[400] - peaks[100] < 300 * 1_000


def test_truth_reads_back(corpus: Corpus) -> None:
    assert read_truth(corpus.root) == corpus.truth
    assert json.loads((corpus.root / "truth.json").read_text())["songs"] == SONGS


# Formats


def test_every_track_lies_in_the_official_tree_with_the_official_layout(corpus: Corpus) -> None:
    assert len(corpus.tracks) == SONGS
    for track, read in corpus.tracks.items():
        assert read["track"] == track
        assert re.fullmatch(r"TR[A-Z]{5}128F[0-9A-F]{7}", track)
        assert re.fullmatch(r"SO[A-Z]{5}12A8C[0-9A-F]{6}", str(read["song"]))
        assert re.fullmatch(r"AR[A-Z]{5}1187[0-9A-F]{7}", str(read["artist"]))
        folders = "/".join(track[2:5])
        where = Path(str(read["path"])).relative_to(corpus.root)
        assert where == Path(f"MillionSong/data/{folders}/{track}.h5")
    for track in list(corpus.tracks)[:5]:
        assert_official(Path(str(corpus.tracks[track]["path"])))


def test_segments_are_those_of_a_song(corpus: Corpus) -> None:
    for read in corpus.tracks.values():
        start, pitches = np.asarray(read["start"]), np.asarray(read["pitches"])
        assert 50 <= len(start) <= 70
        assert np.shape(read["timbre"]) == pitches.shape == (len(start), 12)
        assert start[0] == 0
        assert (np.diff(start) >= 0).all()
        assert start[-1] <= read["duration"]
        assert pitches.min() >= 0
        np.testing.assert_array_equal(pitches.max(axis=1), 1.0)


def test_track_lists_agree_with_the_files(corpus: Corpus) -> None:
    rows = [line.split(b"<SEP>") for line in corpus.lines("AdditionalFiles/unique_tracks.txt")]
    assert len(rows) == SONGS
    for track, song, name, title in rows:
        read = corpus.tracks[track.decode()]
        assert (read["song"], read["name"], read["title"]) == (song.decode(), name, title)
    dated = {
        track.decode(): int(year)
        for year, track, _, _ in (
            line.split(b"<SEP>") for line in corpus.lines("AdditionalFiles/tracks_per_year.txt")
        )
    }
    assert dated == {t: r["year"] for t, r in corpus.tracks.items() if r["year"]}
    tags = {tag for read in corpus.tracks.values() for tag in read["tags"]}  # type: ignore[attr-defined]
    assert corpus.lines("AdditionalFiles/unique_mbtags.txt") == sorted(tags)


def test_lyrics_files(corpus: Corpus) -> None:
    train, test = corpus.lyrics("train"), corpus.lyrics("test")
    assert (len(train), len(test)) == (corpus.truth.lyrics_train, corpus.truth.lyrics_test)
    assert not set(train) & set(test)
    assert set(train) | set(test) <= set(corpus.tracks)
    assert len(test) / len(train | test) == pytest.approx(0.1, abs=0.01)
    assert len(train | test) / SONGS == pytest.approx(0.85, abs=0.06)
    vocabularies = [
        [line for line in corpus.lines(f"musixmatch/mxm_dataset_{part}.txt") if line[:1] == b"%"]
        for part in ("train", "test")
    ]
    assert vocabularies[0] == vocabularies[1]
    words = vocabularies[0][0][1:].decode().split(",")
    assert len(words) == len(set(words)) == 1500
    assert all(words)
    totals = Counter()
    for _, bag in (train | test).values():
        assert list(bag) == sorted(bag)
        assert 1 <= min(bag) <= max(bag) <= len(words)
        assert min(bag.values()) >= 1
        totals.update(bag)
    # Zipf: the hundred most frequent words are about half of all.
    head = sum(count for word, count in totals.items() if word <= 100)
    assert 0.35 < head / totals.total() < 0.75
    lengths = [sum(bag.values()) for _, bag in (train | test).values()]
    assert 110 < np.median(lengths) < 180


def test_listening_file(corpus: Corpus) -> None:
    users = [line.split(b"\t")[0].decode() for line in corpus.lines("truth_users.tsv")][1:]
    songs = {row[1] for row in corpus.songs}
    kinds, plays, seen = Counter(), defaultdict(dict), []
    for line in corpus.lines("tasteprofile/train_triplets.txt"):
        user, song, *count = line.decode().split("\t")
        assert user in users
        if not seen or seen[-1] != user:
            seen.append(user)
        if not count:
            kinds["triplet_two_fields"] += 1
        elif song not in songs:
            kinds["triplet_unknown_song"] += 1
        elif count[0].startswith("-"):
            kinds["triplet_negative"] += 1
        elif not count[0].isdigit():
            kinds["triplet_not_integer"] += 1
        else:
            assert song not in plays[user]
            plays[user][song] = int(count[0])
    injected = corpus.truth.injected
    assert kinds == {kind: n for kind, n in injected.items() if kind.startswith("triplet")}
    assert min(kinds.values()) >= 1
    # Grouped: each user's lines are one run.
    assert seen == users
    assert all(re.fullmatch("[0-9a-f]{40}", user) for user in users)
    lengths = [len(of_user) for of_user in plays.values()]
    assert sum(lengths) == corpus.truth.triplets
    assert np.median(lengths) >= 20
    assert max(lengths) > 1.5 * np.median(lengths)  # as far as 320 songs allow
    counts = np.array([count for of_user in plays.values() for count in of_user.values()])
    assert counts.min() == 1
    assert np.median(counts) <= 2
    assert counts.max() > 50


# Injected damage


def test_damage_is_what_the_truth_declares(corpus: Corpus) -> None:
    tracks, injected = corpus.tracks.values(), corpus.truth.injected
    found = {
        "hdf5_not_hdf5": sum(p.read_bytes()[:4] != b"\x89HDF" for p in corpus.broken),
        "hdf5_truncated": sum(p.read_bytes()[:4] == b"\x89HDF" for p in corpus.broken),
        "no_mbtags": sum(not read["tags"] for read in tracks),
        "no_lyrics": SONGS - len(corpus.lyrics("train") | corpus.lyrics("test")),
        "year_zero": sum(read["year"] == 0 for read in tracks),
        "hotttnesss_nan": sum(bool(np.isnan(read["hotttnesss"])) for read in tracks),
        "shared_song_ids": SONGS - len({read["song"] for read in tracks}),
        "lyrics_cut_lines": sum(
            not (corpus.root / f"musixmatch/mxm_dataset_{part}.txt").read_bytes().endswith(b"\n")
            for part in ("train", "test")
        ),
        "title_invalid_utf8": sum(
            "\ufffd" in read["title"].decode("utf-8", "replace")  # type: ignore[attr-defined]
            for read in tracks
        ),
    }
    assert found == {kind: injected[kind] for kind in found}
    assert found["hdf5_not_hdf5"] == found["hdf5_truncated"] == 1
    assert found["title_invalid_utf8"] == found["lyrics_cut_lines"] == 1
    assert min(found.values()) >= 1
    accented = sum(
        not title.isascii() and b"\xff" not in title
        for title in (bytes(read["title"]) for read in tracks)  # type: ignore[call-overload]
    )
    assert accented in (injected["title_non_ascii"], injected["title_non_ascii"] - 1)
    assert accented > 5
    assert corpus.truth.tagged_songs == SONGS - found["no_mbtags"]
    last = corpus.lines("musixmatch/mxm_dataset_test.txt")[-1]
    assert re.search(rb",\d+:\d+,\d+:$", last)


def test_mismatched_pairs(corpus: Corpus) -> None:
    pairs = [
        re.fullmatch(rb"ERROR: <(SO\w{16}) (TR\w{16})> .+  -  .+  !=  .+  -  .+", line)
        for line in corpus.lines("tasteprofile/sid_mismatches.txt")
    ]
    assert all(pairs)
    ids = [(pair[1].decode(), pair[2].decode()) for pair in pairs if pair]
    own = [pair for pair in ids if pair[1] in corpus.tracks]
    assert len(own) == corpus.truth.injected["mismatched_songs"] >= 2
    assert len(ids) - len(own) == corpus.truth.injected["mismatched_foreign"]
    assert all(corpus.tracks[track]["song"] == song for song, track in own)
    known = {read["song"] for read in corpus.tracks.values()}
    assert not known & {song for song, track in ids if track not in corpus.tracks}


# The planted truth


def test_tags_and_terms_are_the_artists(corpus: Corpus) -> None:
    by_artist = defaultdict(list)
    for read in corpus.tracks.values():
        by_artist[read["artist"]].append(
            [read[key] for key in ("tags", "tag_counts", "terms", "weights", "similar", "name")]
        )
    assert len(by_artist) == corpus.truth.artists
    assert sum(len(songs) > 1 for songs in by_artist.values()) > 20
    for songs in by_artist.values():
        assert all(song == songs[0] for song in songs)
        tags, counts, terms, weights, *_ = songs[0]
        assert len(tags) == len(set(tags)) == len(counts)
        assert weights[0] == 1.0
        assert weights == sorted(weights, reverse=True)
        assert len(terms) == len(weights)
    sizes = sorted(len(songs) for songs in by_artist.values())
    assert sizes[-1] >= 2 * np.mean(sizes)  # long-tailed
    assert len({str(songs[0][0]) for songs in by_artist.values()}) > 30


def test_similar_artists_follow_the_genres_by_rank(corpus: Corpus) -> None:
    artists = {row[1]: row[2] for row in corpus.songs}
    mixtures: dict[str, np.ndarray] = {}
    for row, mixture in zip(corpus.songs, corpus.mixtures, strict=True):
        mixtures[artists[row[1]]] = mixtures.get(row[2], 0.0) + mixture
    directions = {name: m / np.linalg.norm(m) for name, m in mixtures.items()}
    lists = {
        str(read["artist"]): [artist.decode() for artist in read["similar"]]
        for read in corpus.tracks.values()
    }
    empty = sum(not similar for similar in lists.values())
    assert 0 < empty < 0.2 * len(lists)
    likeness: dict[int, list[float]] = defaultdict(list)
    for artist, similar in lists.items():
        assert artist not in similar
        assert len(similar) == len(set(similar)) <= LONGEST
        for rank, other in enumerate(similar):
            assert re.fullmatch(r"AR[A-Z]{5}1187[0-9A-F]{7}", other)
            if other in directions:
                likeness[rank // 5].append(float(directions[artist] @ directions[other]))
    everyone = np.stack(list(directions.values()))
    chance = float((everyone @ everyone.T)[~np.eye(len(everyone), dtype=bool)].mean())
    first, second, third = (float(np.mean(likeness[i])) for i in range(3))
    assert first > second > third > chance
    assert first > chance + 0.5
    # As in the real files, many of the artists named have no song in the corpus.
    named = [other for similar in lists.values() for other in similar]
    assert 0.2 < np.mean([other not in lists for other in named]) < 0.6


def test_famous_artists_are_named_more_often() -> None:
    model = PlantedModel(7)
    similarity = SimilarArtists(model, 150)
    named = Counter(int(other) for artist in range(150) for other in similarity.of(artist))
    fame = [model.artist(artist).popularity for artist in range(150)]
    famous = np.argsort(fame)[-30:]
    assert sum(named[int(a)] for a in famous) > 1.5 * 30 / 150 * sum(named[a] for a in range(150))


def test_truth_rows_describe_the_tracks(corpus: Corpus) -> None:
    assert {row[0] for row in corpus.songs} == set(corpus.tracks)
    first_tracks = {}
    for row, mixture, popularity in zip(
        corpus.songs, corpus.mixtures, corpus.popularity, strict=True
    ):
        read = corpus.tracks[row[0]]
        assert (read["song"], read["artist"]) == (row[1], row[2])
        assert row[3] == corpus.truth.genres[int(mixture.argmax())]
        # The second track of a song is never chosen, and has the first's genres.
        assert (popularity == 0) == (row[1] in first_tracks)
        np.testing.assert_array_equal(mixture, first_tracks.setdefault(row[1], mixture))
    np.testing.assert_allclose(corpus.mixtures.sum(axis=1), 1, atol=1e-4)


def nearest_centroid_accuracy(features: np.ndarray, genres: np.ndarray) -> tuple[float, float]:
    """Accuracy on every third song, and the share of the largest genre there."""
    held_out = np.arange(len(genres)) % 3 == 0
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    present = np.unique(genres[~held_out])
    centroids = np.array([scaled[~held_out & (genres == g)].mean(axis=0) for g in present])
    distances = ((scaled[held_out][:, None] - centroids) ** 2).sum(axis=-1)
    right = present[distances.argmin(axis=1)] == genres[held_out]
    return float(right.mean()), float(np.bincount(genres[held_out]).max() / held_out.sum())


def test_timbre_tells_the_genre_but_not_always(corpus: Corpus) -> None:
    timbre = np.array([np.mean(corpus.tracks[row[0]]["timbre"], axis=0) for row in corpus.songs])  # type: ignore[arg-type]
    accuracy, majority = nearest_centroid_accuracy(timbre, corpus.mixtures.argmax(axis=1))
    assert majority + 0.15 < accuracy < 0.95


def test_lyrics_tell_the_genre_but_not_always(corpus: Corpus) -> None:
    bags = corpus.lyrics("train") | corpus.lyrics("test")
    rows = [i for i, row in enumerate(corpus.songs) if row[0] in bags]
    counts = np.zeros((len(rows), 1501))
    for at, i in enumerate(rows):
        for word, count in bags[corpus.songs[i][0]][1].items():
            counts[at, word] = count
    genres = corpus.mixtures[rows].argmax(axis=1)
    accuracy, majority = nearest_centroid_accuracy(np.log1p(counts), genres)
    assert majority + 0.15 < accuracy < 0.95


def average_precision(relevant: set[int], ranking: list[int]) -> float:
    hits = [rank for rank, song in enumerate(ranking, 1) if song in relevant]
    return sum(n / rank for n, rank in enumerate(hits, 1)) / len(relevant)


def test_oracle_beats_genres_beat_random(corpus: Corpus) -> None:
    """mAP on a third of the songs: what is planted can be recovered, and is worth recovering."""
    song_rows = {row[1]: i for i, row in reversed(list(enumerate(corpus.songs)))}
    users = [line.decode().split("\t") for line in corpus.lines("truth_users.tsv")[1:]]
    preferences = np.array([[float(x) for x in user[1:]] for user in users])
    np.testing.assert_allclose(preferences.sum(axis=1), 1, atol=1e-4)
    candidates = [i for i in song_rows.values() if i % 3 == 0]
    relevant = defaultdict(set)
    for line in corpus.lines("tasteprofile/train_triplets.txt"):
        user, song, *_ = line.decode().split("\t")
        if song_rows.get(song, 1) % 3 == 0:
            relevant[user].add(song_rows[song])
    rng = np.random.default_rng(0)
    everyone = np.ones(len(corpus.songs))
    rankers = {
        "oracle": scores_of(preferences, corpus.mixtures, corpus.popularity),
        "genres": scores_of(preferences, corpus.mixtures, everyone),
        "popular": np.tile(corpus.popularity, (len(users), 1)),
        "random": rng.random((len(users), len(corpus.songs))),
    }
    means = {
        name: np.mean(
            [
                average_precision(relevant[user[0]], sorted(candidates, key=lambda i: -row[i]))
                for user, row in zip(users, scores, strict=True)
                if relevant[user[0]]
            ]
        )
        for name, scores in rankers.items()
    }
    assert means["genres"] > 1.5 * means["random"]
    assert means["oracle"] > 2.0 * means["random"]
    assert means["oracle"] > 1.1 * max(means["genres"], means["popular"])
    assert means["oracle"] < 0.9


def test_planted_scores_are_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    preferences, mixtures = rng.dirichlet(np.ones(8), 3), rng.dirichlet(np.ones(8), 5)
    popularity = np.array([1.0, 4.0, 0.0, 2.0, 1.0])
    expected = np.zeros((3, 5))
    for u in range(3):
        for s in range(5):
            for g in range(8):
                total = sum(
                    popularity[t] * np.exp(PREFERENCE_STRENGTH * mixtures[t, g]) for t in range(5)
                )
                pull = popularity[s] * np.exp(PREFERENCE_STRENGTH * mixtures[s, g])
                expected[u, s] += preferences[u, g] * pull / total
    scores = scores_of(preferences, mixtures, popularity)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)
    np.testing.assert_allclose(scores.sum(axis=1), 1)


def test_listeners_choose_by_the_planted_scores() -> None:
    """Against numpy's own sampling without replacement, from the scores in the closed form."""
    rng = np.random.default_rng(1)
    mixtures = rng.dirichlet(np.full(8, 0.3), 60).astype(np.float32)
    popularity = (1 + rng.pareto(1.5, 60)).astype(np.float32)
    popularity[7] = 0
    preference = rng.dirichlet(np.ones(8))
    listening = Listening(PlantedModel(0), mixtures, popularity)
    chances = scores_of(preference[None], mixtures, popularity)[0]
    drawn, expected = np.zeros(60), np.zeros(60)
    trials = 3000
    for user in range(trials):
        songs, plays = listening.history(user, preference)
        assert len(songs) == len(plays) == len(np.unique(songs)) >= 10
        drawn[songs] += 1
        expected[rng.choice(60, len(songs), replace=False, p=chances)] += 1
    assert drawn[7] == 0
    share = (drawn + expected) / (2 * trials)
    spread = np.sqrt(2 * trials * share * (1 - share)) + 1e-9
    assert np.abs((drawn - expected) / spread).max() < 4.5


def test_plays_rise_with_affinity() -> None:
    mixtures = np.repeat(np.eye(8, dtype=np.float32), 40, axis=0)
    listening = Listening(PlantedModel(0), mixtures, np.ones(320, np.float32))
    preference = np.array([0.85, 0.15, 0, 0, 0, 0, 0, 0])
    heavy: dict[bool, list[bool]] = {True: [], False: []}
    for user in range(300):
        songs, plays = listening.history(user, preference)
        for song, count in zip(songs, plays, strict=True):
            heavy[bool(song < 40)].append(bool(count >= 3))
    assert np.mean(heavy[True]) > np.mean(heavy[False]) + 0.1
