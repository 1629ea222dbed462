"""What each part of fitting a blend costs at 1, 2, 4 and 8 times the data, and how that grows.

    python benchmarks/blend_scale.py [--songs 1000] [--factors 1 2 4 8] [--without-tuning] [--json]
        [--record cluster/capacity.json]
    python benchmarks/blend_scale.py --capacity cluster/capacity.json   # CAPACITY.md's table

A made-up catalogue as the Million Song Dataset with the Taste Profile: 22 songs an artist, 20 terms
and 100 similar artists each, lyrics of 80 words of a quarter of the songs, with an encoder's 768
numbers, statistics of audio; of each song 127 plays, 48 of each user. Every size is a process of
its own, which fits a blend of all signals with the settings of the product, but that it has room
for features as 380,000 songs have (:data:`fusionrec.signals.memo.LIMIT`). A part's CPU time is that
of its own code, without that of the parts that it calls; its memory is the most that the process
had while it ran.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scale import fit
from scipy.sparse import csr_array

FULL = {"songs": 380_000, "users": 1_000_000, "plays": 48_000_000}
"""The songs of the Million Song Dataset that have plays in the Taste Profile, about."""

USERS_A_SONG = 2.65
PLAYS_A_USER = 48
SONGS_AN_ARTIST = 22
TASTES = 32
WORDS = 5_000

PARTS = (
    ("kernels", "content", "kernel"),
    ("kernels", "context", "kernel"),
    ("PageRank", "pagerank", "graph"),
    ("PageRank", "pagerank", "profiles"),
    ("weights of kernels", "basis", "kernel_weights"),
    ("features of kernels", "basis", "_basis"),
    ("features of kernels", "basis", "_features"),
    ("matrix factorisation", "taste", "_factorised"),
    ("ridge", "taste", "_inverse"),
    ("ridge", "taste", "solved"),
    ("ridge", "taste", "to_smoothed"),
    ("neighbour means", "neighbour_means", "_neighbour_means"),
    ("popularity", "popularity", "_regressed"),
    ("songs of an artist", "catalogue", "same_artist"),
    ("songs of an artist", "catalogue", "_attention"),
    ("inner folds", "blend", "inner_folds"),
    ("scores of lists", "lists", "Lists.scores"),
    ("weights", "weights", "choose"),
    ("songs heard together", "colistened", "nearest_by_listeners"),
    ("rotation", "compress", "rotated"),
    ("rotation", "compress", "rotation"),
    ("users' vectors", "compress", "gram_of_users"),
    ("users' vectors", "users", "Users.times"),
    ("users' vectors", "users", "Users.told"),
)
"""Parts, and the functions of :mod:`fusionrec.signals` that are timed for each."""

UNITS = dict.fromkeys(
    ("matrix factorisation", "inner folds", "songs heard together", "users' vectors"), "plays"
)
"""What a part's cost is proportional to, if not to the songs."""

REST = "joining, and other signals"


class Parts:
    """CPU seconds and the most memory of parts that may call each other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.bytes: dict[str, int] = defaultdict(int)
        self._stack = [REST]
        self._last = time.process_time()
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._ended.wait(0.01):
            self.look()

    def look(self) -> None:
        """Note the memory of now for the part that runs."""
        status = Path("/proc/self/status").read_text()
        now = int(status.partition("RssAnon:")[2].split()[0]) << 10
        self.bytes[self._stack[-1]] = max(self.bytes[self._stack[-1]], now)

    def _turn(self) -> None:
        now = time.process_time()
        self.seconds[self._stack[-1]] += now - self._last
        self._last = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """While it lasts, time and memory are those of this part."""
        self._turn()
        self._stack.append(name)
        try:
            yield
        finally:
            self.look()
            self._turn()
            self._stack.pop()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted."""

        def call(*args: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*args, **named)

        return call

    def end(self) -> None:
        """Stop reading."""
        self._turn()
        self._ended.set()
        self._reader.join()


def watched(parts: Parts) -> None:
    """Have the functions of :data:`PARTS`, and all signals, timed."""
    import importlib

    from fusionrec.signals.registry import SIGNALS

    for name, module, path in PARTS:
        owner: Any = importlib.import_module(f"fusionrec.signals.{module}")
        *classes, function = path.split(".")
        for part in classes:
            owner = getattr(owner, part)
        setattr(owner, function, parts.timed(name, getattr(owner, function)))
    names = {"factors-terms": "neighbour means", "artist-songs": "songs of an artist"}
    for name, spec in SIGNALS.items():
        if name in names:
            SIGNALS[name] = replace(spec, fit=parts.timed(names[name], spec.fit))
        elif name.startswith(("taste-smoothed", "colistened")):
            SIGNALS[name] = replace(spec, fit=parts.timed("ridge", spec.fit))


def catalogue(songs: int, seed: int = 0) -> tuple[Any, np.ndarray]:
    """Songs whose artists have a taste, which terms, words, sound and similar artists tell.

    And the tastes, shape (songs,).
    """
    from fusionrec.signals.songs import Songs

    generator = np.random.default_rng(seed)
    artists = max(songs // SONGS_AN_ARTIST, TASTES)
    share = generator.lognormal(0, 1, artists)
    artist = np.sort(generator.choice(artists, songs, p=share / share.sum()))
    taste = np.arange(artists) % TASTES
    # Some of the listed artists have no songs.
    listed = max(artists // TASTES, 300)
    similar = [t + TASTES * generator.choice(listed, 100, replace=False) for t in taste]
    own = generator.integers(0, 60, (artists, 14)) + 60 * taste[:, None]
    terms = np.concatenate([own, 60 * TASTES + generator.zipf(1.3, (artists, 6)) % 400], axis=1)
    strange = generator.zipf(1.2, (songs, 4)) % 30_000
    release = generator.integers(0, 3, songs)

    of_artist = {
        name: pa.array([[f"{prefix}{item}" for item in row] for row in rows])
        for name, prefix, rows in (("terms", "term", terms), ("similar_artists", "AR", similar))
    }
    table = pa.table(
        {
            "song_id": [f"SO{number:016d}" for number in range(songs)],
            "artist_id": [f"AR{a}" for a in artist],
            "artist_name": [f"name{a % 7919} of{a // 7} and{a % 13}" for a in artist],
            "title": [" ".join(f"w{word:x}" for word in row) for row in strange],
            "release": [f"record {a} {r}" for a, r in zip(artist, release, strict=True)],
            "year": pa.array(1960 + (taste[artist] + generator.poisson(5, songs)) % 50, pa.int32()),
            **{name: rows.take(pa.array(artist)) for name, rows in of_artist.items()},
            "term_weights": pa.array([np.linspace(1, 0.2, 20).tolist()] * songs),
            "mbtags": [[f"tag{taste[a]}"] if a % 3 == 0 else [] for a in artist],
            "mbtag_counts": [[1] if a % 3 == 0 else [] for a in artist],
            "artist_hotttnesss": pa.array(generator.random(artists)[artist], pa.float32()),
            "artist_familiarity": pa.array(generator.random(artists)[artist], pa.float32()),
        }
    )
    audio = generator.normal(size=(songs, 223)).astype(np.float32) + taste[artist, None] % 5
    sung = np.flatnonzero(generator.random(songs) < 0.24)
    words = (generator.zipf(1.3, (len(sung), 80)) + 97 * taste[artist[sung], None]) % WORDS
    cells = np.repeat(sung, 80), words.ravel()
    lyrics = csr_array((np.ones(words.size, np.float32), cells), shape=(songs, WORDS))
    encoded = np.zeros((songs, 768), np.float32)
    encoded[sung] = generator.normal(size=(len(sung), 768))
    vectors = {"audio": audio.astype(np.float32), "lyrics": encoded}
    return Songs(table, songs, lyrics, vectors), taste[artist]


def plays(taste: np.ndarray, users: int, seed: int = 0) -> Any:
    """Plays of users who mostly like one taste, of songs of very unlike popularity."""
    from fusionrec.signals.histories import Histories

    generator = np.random.default_rng([seed, 1])
    popular = generator.lognormal(0, 1.5, len(taste))
    sizes = np.maximum(generator.geometric(1 / PLAYS_A_USER, users), 2)
    user = np.repeat(np.arange(users), sizes)
    liked = np.repeat(generator.integers(0, TASTES, users), sizes)
    liked[generator.random(len(liked)) < 0.3] = -1
    song = np.empty(len(user), np.int64)
    for t in range(-1, TASTES):
        rows = np.flatnonzero(liked == t)
        of = np.flatnonzero(taste == t) if (taste == t).any() else np.arange(len(taste))
        chance = np.cumsum(popular[of])
        song[rows] = of[np.searchsorted(chance, chance[-1] * generator.random(len(rows)))]
    return Histories.of(user, song, np.ones(len(user), np.int64), (users, len(taste)))


def measure(songs: int, tune: bool) -> dict[str, Any]:
    """Fit one blend in this process."""
    from threadpoolctl import threadpool_limits

    from fusionrec.signals import blend
    from fusionrec.signals.memo import LIMIT, Memo
    from fusionrec.signals.registry import names
    from fusionrec.signals.settings import BlendSettings
    from fusionrec.signals.signal import Fold

    threadpool_limits(1)
    all_songs, taste = catalogue(songs)
    users = int(songs * USERS_A_SONG)
    histories = plays(taste, users)
    hidden = np.zeros(songs, bool)
    hidden[np.random.default_rng(2).permutation(songs)[: songs // 5]] = True
    room = Memo(limit=LIMIT * songs // FULL["songs"])
    fold = Fold(all_songs, histories, hidden, "song", BlendSettings(tune=tune), memo=room)
    parts = Parts()
    parts.look()
    before = parts.bytes[REST]
    watched(parts)
    found = blend.fit_blend(fold, names())
    parts.end()
    return {
        "songs": songs,
        "users": users,
        "plays": int(histories.counts.nnz),
        "dimensions": found.F.shape[1],
        "kept": found.kept,
        "data_mb": before / 2**20,
        "parts": {
            name: {"cpu_seconds": seconds, "mb": parts.bytes[name] / 2**20}
            for name, seconds in sorted(parts.seconds.items())
        },
    }


def table(measured: list[dict[str, Any]], factors: list[int]) -> str:
    """CPU seconds and memory of each part, how they grow, and what the full data take, as Markdown.

    That is by the line through all sizes but the first, where a kernel has fewer features.
    """
    heads = " | ".join(f"{factor}x" for factor in factors)
    lines = [
        f"| part | {heads} | of | exponent | {FULL['songs']:,} songs [CPU h] "
        f"| memory at {factors[-1]}x [MB] |",
        "|---|" + "--:|" * len(factors) + "---|" + "--:|" * 3,
    ]
    total = np.zeros(len(measured) + 1)
    for name in measured[0]["parts"]:
        unit = UNITS.get(name, "songs")
        sizes = [float(each[unit]) for each in measured]
        costs = [each["parts"][name]["cpu_seconds"] for each in measured]
        power = growth(sizes, costs)
        hours = extrapolated(sizes, costs, FULL[unit]) / 3600
        total += [*costs, hours]
        lines.append(
            f"| {name} | {' | '.join(f'{cost:.1f}' for cost in costs)} | {unit} "
            f"| {'–' if power is None else f'{power:.2f}'} | {hours:.2f} "
            f"| {measured[-1]['parts'][name]['mb']:,.0f} |"
        )
    sums = " | ".join(f"**{cost:.0f}**" for cost in total[:-1])
    lines.append(f"| **all** | {sums} | | | **{total[-1]:.1f}** | |")
    peaks = [max(part["mb"] for part in each["parts"].values()) for each in measured]
    songs = [float(each["songs"]) for each in measured]
    full = extrapolated(songs, peaks, FULL["songs"]) / 1024
    cells = " | ".join(f"{peak:,.0f}" for peak in peaks)
    lines.append(f"| most memory [MB] | {cells} | songs | | {full:.0f} GB | |")
    return "\n".join(lines)


def extrapolated(sizes: list[float], costs: list[float], size: float) -> float:
    """A cost at another size, by the line through all but the first; at least the largest's."""
    some = slice(1 if len(sizes) > 2 else 0, None)
    if len(sizes) < 2:
        return costs[-1] * size / sizes[-1]
    slope, fixed = np.polyfit(sizes[some], costs[some], 1)
    return max(float(fixed + slope * size), costs[-1])


def growth(sizes: list[float], costs: list[float]) -> float | None:
    """The exponent of growth where there are sizes enough to tell it."""
    return fit(sizes, costs)["exponent"] if len(sizes) > 2 else None


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--songs", type=int, default=1_000, help="songs at 1x")
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--without-tuning", action="store_true", help="settings as they begin")
    parser.add_argument("--one", action="store_true", help="measure 1x in this process")
    parser.add_argument("--record", type=Path, help="put the measurement into this JSON file")
    parser.add_argument("--capacity", type=Path, help="print CAPACITY.md's table of a record")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if chosen.capacity:
        recorded = json.loads(chosen.capacity.read_text())["blend"]
        print(table(recorded["measured"], recorded["factors"]))
        return
    if chosen.one:
        print(json.dumps(measure(chosen.songs, not chosen.without_tuning)))
        return
    measured = []
    for factor in chosen.factors:
        command = [sys.executable, __file__, "--one", "--songs", str(chosen.songs * factor)]
        command += ["--without-tuning"] * chosen.without_tuning
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        measured.append(json.loads(done.stdout.splitlines()[-1]))
        total = sum(part["cpu_seconds"] for part in measured[-1]["parts"].values())
        peak = max(part["mb"] for part in measured[-1]["parts"].values())
        print(f"{factor}x: {total:.0f} CPU-seconds, {peak:,.0f} MB", file=sys.stderr)
    if chosen.record:
        old = json.loads(chosen.record.read_text()) if chosen.record.exists() else {}
        new = {"blend": {"factors": chosen.factors, "measured": measured}}
        chosen.record.write_text(json.dumps({**old, **new}, indent=1) + "\n")
    if chosen.json:
        print(json.dumps({"factors": chosen.factors, "measured": measured}))
    else:
        print(table(measured, chosen.factors))


if __name__ == "__main__":
    main()
