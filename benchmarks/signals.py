"""Signals and their blends on a real corpus in the official formats, protocol `oord`.

    python benchmarks/signals.py CORPUS [--by song artist] [--seeds 0 1] [--folds 0 1 2 3 4]
        [--signals] [--without-other] [--shares 0.25 0.5 1] [--trainings 1] [--json FILE]

For each split, seed and fold three blends: of content, with context, and with context and the
plays of songs without HDF5 (`other`, where AdditionalFiles/track_metadata.db has some); with
`--signals` each signal alone, too. `--shares` does all of it for shares of the training songs, of
whose others no play is known, and ends with a table of how each grows with the songs: test songs,
users and candidates are the same. `--trainings` fits each by so many seeds of its own, and takes
the mean. Users have a training and a test song; all test songs are ranked. Intervals resample users
and songs (two-way). Everything runs in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, product
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from fusionrec.evaluation import two_way
from fusionrec.evaluation.metrics import per_user_metrics
from fusionrec.features.audio import audio_features, segment_statistics
from fusionrec.features.lyrics.tfidf import term_counts
from fusionrec.formats import hdf5, msd_sqlite, musixmatch, taste_profile
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.split import assign
from fusionrec.ranking.topk import rank_users
from fusionrec.signals.blend import joined, simulate
from fusionrec.signals.histories import Histories
from fusionrec.signals.inner import kept_with
from fusionrec.signals.registry import SIGNALS, names
from fusionrec.signals.settings import BlendSettings
from fusionrec.signals.signal import Fold
from fusionrec.signals.songs import Songs

K = 500
READ_AT_ONCE = 2_000
"""Files whose segments are held in memory at a time: some 200 kB a track."""

OF_ARTISTS = ("terms", "term_weights", "mbtags", "mbtag_counts", "similar_artists")


@dataclass
class Corpus:
    """What the files hold."""

    own: pa.Table
    other: pa.Table
    audio: np.ndarray
    bags: pa.Table
    words: int
    triplets: pa.Table
    wrong: set[str]

    def songs(self, other: bool) -> Songs:
        """The songs with HDF5, and the others after them."""
        table = pa.concat_tables([self.own, self.other]) if other else self.own
        n = len(table)
        audio = np.zeros((n, self.audio.shape[1]), np.float32)
        audio[: len(self.audio)] = self.audio
        place = {track: row for row, track in enumerate(table["track_id"].to_pylist())}
        rows = np.array([place.get(t, -1) for t in self.bags["track_id"].to_pylist()])
        counts = term_counts(self.bags, self.words).tocoo()
        kept = rows[counts.row] >= 0
        cells = counts.data[kept], (rows[counts.row[kept]], counts.col[kept])
        lyrics = csr_array(cells, shape=(n, self.words), dtype=np.float32)
        return Songs(table, len(self.own), lyrics, {"audio": audio})

    def histories(self, songs: Songs) -> Histories:
        """Plays of these songs, without those matched wrongly."""
        code = {song: row for row, song in enumerate(songs.table["song_id"].to_pylist())}
        rows = np.array([code.get(s, -1) for s in self.triplets["song_id"].to_pylist()])
        users = self.triplets["user_id"].combine_chunks().dictionary_encode()
        kept = rows >= 0
        shape = (len(users.dictionary), len(songs))
        plays = self.triplets["plays"].to_numpy()
        return Histories.of(users.indices.to_numpy()[kept], rows[kept], plays[kept], shape)


def read(root: str) -> Corpus:
    """Read a corpus laid out as docs/msd.md says."""
    tree = os.path.join(root, "MillionSong")
    paths, tables, statistics = list(hdf5.track_paths(tree)), [], []
    for start in range(0, len(paths), READ_AT_ONCE):
        batch = hdf5.read_tracks(paths[start : start + READ_AT_ONCE], tree, segments=True)
        tables.append(batch.table)
        statistics.append(audio_features(batch.table, segment_statistics(batch.segments))[0])
    own, audio = pa.concat_tables(tables).combine_chunks(), np.concatenate(statistics)
    first = np.sort(np.unique(own["song_id"].to_numpy(), return_index=True)[1])  # a track a song
    own, audio = own.take(first), audio[first]
    additional = os.path.join(root, "AdditionalFiles")
    tracks, terms = (os.path.join(additional, f"{n}.db") for n in ("track_metadata", "artist_term"))
    metadata = own.slice(0, 0)
    if os.path.exists(tracks):
        metadata = msd_sqlite.read_songs(tracks, terms, 0, msd_sqlite.num_rows(tracks)).table
    lyrics = os.path.join(root, "musixmatch")
    texts = [os.path.join(lyrics, f"mxm_dataset_{part}.txt") for part in ("train", "test")]
    listening = os.path.join(root, "tasteprofile")
    triplets = taste_profile.read_triplets(os.path.join(listening, "train_triplets.txt")).table
    mismatches = taste_profile.read_mismatches(os.path.join(listening, "sid_mismatches.txt")).table
    wrong = {*zip(*(mismatches[name].to_pylist() for name in ("song_id", "track_id")), strict=True)}
    pairs = zip(*(own[name].to_pylist() for name in ("song_id", "track_id")), strict=True)
    wrong_songs = {song for song, track in pairs if (song, track) in wrong}
    played = pa.array([s not in wrong_songs for s in triplets["song_id"].to_pylist()])
    return Corpus(
        own,
        others(own, metadata, set(triplets["song_id"].to_pylist())),
        audio,
        pa.concat_tables([musixmatch.read_lyrics(path).table for path in texts]),
        len(musixmatch.read_vocabulary(texts[0])),
        triplets.filter(played),
        wrong_songs,
    )


def others(own: pa.Table, metadata: pa.Table, played: set[str]) -> pa.Table:
    """Songs with plays and no HDF5, a track each; of artists who have one, their terms and tags."""
    artists = {row["artist_id"]: row for row in own.select(["artist_id", *OF_ARTISTS]).to_pylist()}
    seen, rows = set(own["song_id"].to_pylist()), []
    for row in metadata.to_pylist():
        if row["song_id"] in played and row["song_id"] not in seen:
            seen.add(row["song_id"])
            rows.append({**row, **artists.get(row["artist_id"], {})})
    return pa.Table.from_pylist(rows, schema=own.schema)


@dataclass
class Cells:
    """Each (user, test song) with what every method's rank makes of it, fold after fold."""

    sizes: list[np.ndarray] = field(default_factory=list)
    users: list[np.ndarray] = field(default_factory=list)
    songs: list[np.ndarray] = field(default_factory=list)
    values: dict[str, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    random: list[np.ndarray] = field(default_factory=list)

    def summary(self, shares: Sequence[float] = (1.0,)) -> dict[str, Any]:
        """By method: mean over users and folds, its interval, and its ratio to random.

        Of a method with all songs also `grown`, its mean less that with the smallest share, paired.
        """
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(self.sizes))])
        values = {name: np.concatenate(parts) for name, parts in self.values.items()}
        draws = two_way.resample(
            indptr,
            np.concatenate(self.songs),
            values,
            clusters=np.concatenate(self.users),
            seed=0,
            resamples=300,
            count="cells",
        )
        random = float(np.concatenate(self.random).mean())
        found: dict[str, Any] = {"random": {"map": random}}
        for name, value in values.items():
            mean = float((np.add.reduceat(value, indptr[:-1]) / np.diff(indptr)).mean())
            low, high = two_way.interval(draws[name])
            found[name] = {"map": mean, "low": low, "high": high, "ratio": mean / random}
        for name in values:
            fewest = name + of_share(min(shares))
            if fewest != name and fewest in values:
                low, high = two_way.interval(draws[name] - draws[fewest])
                mean = found[name]["map"] - found[fewest]["map"]
                found[name]["grown"] = {"map": mean, "low": low, "high": high}
        return found


def of_share(share: float) -> str:
    """What is added to a method's name where it learns from a share of the training songs."""
    return "" if share == 1 else f", {share:.3g} of the songs"


def growth(found: dict[str, Any], shares: Sequence[float]) -> str:
    """mAP by share of the training songs, and what all songs add to the smallest, as Markdown."""
    shares = sorted(shares)
    heads = " | ".join(f"{share:.3g}" for share in shares)
    lines = [
        f"| mAP@{K} by share of the training songs | {heads} | gain (95 %) |",
        "|---|" + "--:|" * (len(shares) + 1),
    ]
    for name, row in found.items():
        if "grown" in row:
            means = " | ".join(f"{found[name + of_share(share)]['map']:.3f}" for share in shares)
            gain = "{map:+.3f} ({low:+.3f} to {high:+.3f})".format(**row["grown"])
            lines.append(f"| {name} | {means} | {gain} |")
    return "\n".join(lines)


def methods(
    corpus: dict[bool, tuple[Songs, Histories]],
    test: np.ndarray,
    by: Any,
    singles: bool,
    share: float = 1.0,
    seed: int = 0,
) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """By name F of the test songs, V and processor seconds."""
    own = len(test)
    for other, (songs, histories) in corpus.items():
        begun = time.process_time()
        cold = np.zeros(len(songs), bool)
        cold[:own] = test
        hidden = kept_with(songs, cold, by)
        if share < 1:
            hidden |= np.random.default_rng(0).random(len(songs)) >= share
        fold = Fold(songs, histories, hidden, by, seed=seed)
        simulated = simulate(fold, names())
        settings = simulated.settings
        print("   ", {k: v for k, v in vars(settings).items() if v != getattr(BlendSettings, k)})
        fold = fold.with_settings(settings)
        suffix = (" + other" if other else "") + of_share(share)
        for what, some in (("content", names(False)), ("context", names())):
            if other and what == "content":
                continue
            blend = joined(simulated.of(some), fold)
            weights = {n: round(float(w), 3) for n, w in zip(some, blend.weights, strict=True) if w}
            print(f"    {what}{suffix}: l2 {blend.l2}, kept {blend.kept:.4f}, {weights}")
            seconds = time.process_time() - begun
            yield f"blend {what}{suffix}", blend.F[:own][test], blend.V, seconds
        if singles:
            for name, spec in SIGNALS.items():
                begun = time.process_time()
                factors = spec.fit(fold)
                seconds = time.process_time() - begun
                yield name + suffix, factors.F[:own][test], factors.V, seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("corpus")
    add("--by", nargs="+", default=["song", "artist"], choices=["song", "artist", "album"])
    add("--seeds", nargs="+", type=int, default=[0, 1])
    add("--folds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    add("--signals", action="store_true", help="each signal alone, too")
    add("--without-other", action="store_true", help="without other songs' plays")
    add("--trainings", type=int, default=1, help="seeds of whatever is random in a blend")
    add("--shares", nargs="+", type=float, default=[1.0], help="of the training songs")
    add("--json", help="write the figures to this file")
    chosen = parser.parse_args()

    files = read(chosen.corpus)
    corpus = {}
    for other in (False, True) if len(files.other) and not chosen.without_other else (False,):
        songs = files.songs(other)
        corpus[other] = (songs, files.histories(songs))
        print(f"{len(songs):,} songs, {corpus[other][1].counts.nnz:,} plays by user and song")
    own, plays = corpus[False]
    ids, artists, releases = (own.texts(name) for name in ("song_id", "artist_id", "release"))
    results = {}
    for by in chosen.by:
        cells = Cells()
        for seed, number in product(chosen.seeds, chosen.folds):
            split = {"by": by, "folds": 5, "test_fold": number, "validation": 0.0, "seed": seed}
            part, _ = assign(ids, artists, releases, **split)
            test = part == "test"
            found = chain.from_iterable(
                methods(corpus, test, by, chosen.signals, share, training)
                for share, training in product(chosen.shares, range(chosen.trainings))
            )
            evaluate(cells, plays, test, found, (by, seed, number))
        results[by] = cells.summary(chosen.shares)
        print(f"\n{by}: mAP@{K} (95 %), ratio to random {results[by]['random']['map']:.4f}")
        for name, row in results[by].items():
            if name != "random":
                bounds = f"{row['low']:.3f}-{row['high']:.3f}"
                print(f"  {name:36} {row['map']:.4f} ({bounds}) {row['ratio']:.2f}")
        if min(chosen.shares) < max(chosen.shares) == 1:
            print(growth(results[by], chosen.shares))
    if chosen.json:
        with open(chosen.json, "w") as file:
            json.dump(results, file, indent=1)


def evaluate(
    cells: Cells, plays: Histories, test: np.ndarray, found: Any, label: tuple[Any, ...]
) -> None:
    """Rank the test songs of one fold by every method, and keep its cells."""
    columns = np.flatnonzero(test)
    relevant = plays.counts[:, columns]
    # Other songs' plays help methods, and change nothing in who is evaluated.
    users = np.flatnonzero((np.diff(relevant.indptr) > 0) & (plays.without(test).sizes > 0))
    table = relevant[users]
    table.sort_indices()
    lists = SongLists(
        table.indptr.astype(np.int64), table.indices.astype(np.int32), np.ones(table.nnz, np.int64)
    )
    owner = np.repeat(np.arange(len(users)), np.diff(lists.indptr))
    cells.sizes.append(np.diff(lists.indptr))
    cells.users.append(users)
    cells.songs.append(columns[lists.songs])
    trained: dict[str, list[np.ndarray]] = defaultdict(list)
    for number, (name, F, V, seconds) in enumerate(found):
        ranked = rank_users(V[users], np.ascontiguousarray(F), 1, relevant=lists)
        metrics = per_user_metrics(ranked.rank_indptr, ranked.ranks, ranked.candidates, K)
        if not number:
            cells.random.append(metrics["random_level"])
        precisions = two_way.precisions(ranked.rank_indptr, ranked.ranks, K)
        trained[name].append(precisions[np.lexsort((ranked.rank_songs, owner))])
        mean = metrics["average_precision"].mean()
        print(f"  {label} {len(users)} users  {name:36} {mean:.4f}  {seconds:.1f} s", flush=True)
    for name, parts in trained.items():
        cells.values[name].append(np.mean(parts, axis=0))


if __name__ == "__main__":
    main()
