"""New songs and plays, 1 % of each, by `fusionrec update`: its cost over that of a full run.

    python benchmarks/update.py [--users 100000] [--songs 20000] [--plays 20] [--share 0.01]
        [--spread] [--cpus 2] [--json]

A catalogue of tables is made up: songs with titles, artists, albums, tags and vectors of their own,
each user's plays around a few tags. All but the share come early; of the plays that come late half
are new users', half those of old ones, as many a user as everybody has; with `--spread` each is
another user's, who is ranked for anew. A run of classes is timed on the early part (to `lists`,
without the evaluation; a run on all of it takes so much more), then the update by part, on the wall
and by CPU seconds of all processes, and both are put in ratio. What an update must do for all users
whatever is new, to read each list and write it again, is the floor: so long it takes alone.

Of 200 users who played no late song lists are made once more, by the workspace opened before the
update, of all songs at once: they must be the same ids.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from processes import Watcher

from pipelines import config as config_module
from pipelines import lists, run, update
from pipelines.config import Config
from pipelines.opened import Recommender
from pipelines.runtime import session
from pipelines.runtime.workspace import Workspace
from pipelines.update import stage as stage_module

GENRES, WORDS, SOUND = 12, 4_000, 32
SAMPLE = 200
PARTS = {
    "reading": ("read_new",),
    "vectors of songs": ("make_vectors",),
    "plays": ("send_plays", "bring_plays_together"),
    "lists": ("submit_offered", "known_by", "update_lists"),
}
"""What the stage calls, by what is told."""


def write(folder: Path, options: argparse.Namespace) -> None:
    """The tables, early and late."""
    rng = np.random.default_rng(0)
    songs, users = options.songs, options.users
    genre = rng.integers(0, GENRES, songs)
    artist = rng.integers(0, max(songs // 10, 1), songs)
    words = np.array([f"word{number}" for number in range(WORDS)])
    drawn = words[(rng.pareto(1.0, (songs, 6)) * 20).astype(int) % WORDS]
    centres = rng.normal(size=(GENRES, SOUND))
    sound = (centres[genre] + rng.normal(size=(songs, SOUND))).astype(np.float32)
    ids = np.array([f"song-{number:07d}" for number in range(songs)])
    table = pa.table(
        {
            "song_id": ids,
            "title": [" ".join(row) for row in drawn[:, :3].tolist()],
            "release": [" ".join(row) for row in drawn[:, 3:5].tolist()],
            "artist_name": [f"artist {number}" for number in artist.tolist()],
            "artist_id": [f"artist-{number}" for number in artist.tolist()],
            "year": rng.integers(1960, 2024, songs),
            "tags": [[f"genre {number}"] for number in genre.tolist()],
        }
    )
    late = np.zeros(songs, bool)
    late[rng.permutation(songs)[: round(options.share * songs)]] = True
    vectors = pa.table({"song_id": ids, "vector": list(sound)})
    by_genre = [np.flatnonzero(genre == number) for number in range(GENRES)]
    folder.mkdir()
    for when, some in (("1", ~late), ("2", late)):
        pq.write_table(table.filter(pa.array(some)), folder / f"songs-{when}.parquet")
        pq.write_table(vectors.filter(pa.array(some)), folder / f"sound-{when}.parquet")
    user = np.repeat(np.arange(users), options.plays)
    of_user = rng.integers(0, GENRES, users)
    song = np.concatenate([rng.choice(by_genre[g], options.plays) for g in of_user.tolist()])
    comes_late = late[song]
    count = round(options.share * len(user))
    if options.spread:
        others = np.flatnonzero(~comes_late)
        comes_late[rng.choice(others, max(count - int(comes_late.sum()), 0), replace=False)] = True
    else:
        early = np.flatnonzero(~late)
        song = np.where(comes_late, early[song % len(early)], song)
        chosen = rng.permutation(users)[: round(options.share * users)]
        # New users with all that they play, and old ones who play as much once more.
        comes_late = np.isin(user, chosen[::2])
        more = np.isin(user, chosen[1::2])
        user = np.concatenate([user, user[more]])
        song = np.concatenate([song, rng.integers(0, songs, int(more.sum()))])
        comes_late = np.concatenate([comes_late, np.ones(int(more.sum()), bool)])
    for when, some in (("1", ~comes_late), ("2", comes_late)):
        names = np.char.add("user-", user[some].astype(str))
        plays = pa.table({"user_id": names, "song_id": ids[song[some]]})
        pq.write_table(plays, folder / f"plays-{when}.parquet")


def settings(folder: Path, place: Path, when: str, options: argparse.Namespace) -> Config:
    """Of the early tables, or of all."""
    tables = {kind: {"paths": f"{kind}-{when}.parquet"} for kind in ("songs", "plays")}
    values = {
        "workspace": place,
        "source.format": "tables",
        "source.root": folder,
        "source.tables": json.dumps(
            {**tables, "features": {"sound": {"paths": f"sound-{when}.parquet"}}}
        ),
        "embed.modalities": "[metadata, sound]",
        "train.workers": 0,
        "train.epochs": options.epochs,
        "recommend.model": "genre",
        "lists.top": options.top,
        "cluster.num_cpus": options.cpus,
    }
    return config_module.load(None, [f"{name}={value}" for name, value in values.items()])


class Timer:
    """Seconds on the wall and of CPU of what is called, by name."""

    def __init__(self) -> None:
        self.watcher = Watcher(os.getpid())
        self.watcher.start()
        self.found: dict[str, dict[str, float]] = {}

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        before, begun = self.watcher.read(), time.perf_counter()
        result = call()
        of = self.found.setdefault(name, {"seconds": 0.0, "cpu_seconds": 0.0})
        of["seconds"] += time.perf_counter() - begun
        of["cpu_seconds"] += self.watcher.read() - before
        return result

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""
        return lambda *args, **kwargs: self(name, lambda: function(*args, **kwargs))


def timed(folder: Path, place: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The run and the update, by part."""
    timer = Timer()
    early = settings(folder, place, "1", options)
    session.start(early.cluster)
    for stage in run.stages(early):
        if stage.name not in ("recommend", "evaluate"):
            timer(stage.name, lambda stage=stage: stage.run(early))
    timer("lists", lambda: lists.STAGE.run(early))
    full, timer.found = timer.found, {}
    for name, functions in PARTS.items():
        for function in functions:
            for module in (stage_module, stage_module.songs, stage_module.numbering):
                if hasattr(module, function):
                    setattr(module, function, timer.around(name, getattr(module, function)))
            users = stage_module.users
            if hasattr(users, function):
                setattr(users, function, timer.around(name, getattr(users, function)))
    now = settings(folder, place, "*", options)
    whole = Timer()
    counts = whole("update", lambda: update.STAGE.run(now))["counts"]
    parts, of_update = timer.found, whole.found["update"]
    timer.found = {}
    timer("floor", lambda: copied(Workspace(str(place)).of("update"), Path(folder) / "copy"))
    ray.shutdown()
    return {
        "full": full,
        "update": {"whole": of_update, **parts},
        "floor": timer.found["floor"],
        "counts": {name: count for name, count in counts.items() if isinstance(count, int)},
        "refit_due": counts["refit_due"],
    }


def copied(workspace: Workspace, target: Path) -> None:
    """Read every list of before and write it once more, one after the other."""
    target.mkdir()
    for name in workspace.parts("lists", "lists"):
        table = workspace.read_part("lists", "lists", name)
        pq.write_table(table, target / name, compression="zstd", row_group_size=250)


def some_lists(workspace: Workspace) -> dict[str, list[str]]:
    """Of users drawn from all, the songs listed; a part of the lists is in memory at a time."""
    parts = workspace.parts("update", "lists")
    users = [len(workspace.read_part("update", "lists", name, ["user_id"])) for name in parts]
    drawn = np.sort(np.random.default_rng(1).choice(sum(users), SAMPLE, replace=False))
    first = np.concatenate([[0], np.cumsum(users)])
    wanted: dict[str, list[str]] = {}
    for part, name in enumerate(parts):
        rows = drawn[(drawn >= first[part]) & (drawn < first[part + 1])] - first[part]
        if len(rows):
            table = workspace.read_part("update", "lists", name, ["user_id", "song_ids"])
            chosen = table.take(pa.array(rows)).to_pydict()
            wanted |= zip(chosen["user_id"], chosen["song_ids"], strict=True)
    return wanted


def same(folder: Path, place: Path) -> dict[str, int]:
    """Users whose lists were made once more, of all songs, and those whose ids are the same."""
    workspace = Workspace(str(place))
    late = set(pq.read_table(folder / "songs-2.parquet")["song_id"].to_pylist())
    wanted = some_lists(workspace)
    plays: dict[str, dict[str, int]] = {user: {} for user in wanted}
    for when in "12":
        table = pq.read_table(folder / f"plays-{when}.parquet", filters=[("user_id", "in", wanted)])
        for user, song in zip(*(column.to_pylist() for column in table.columns), strict=True):
            plays[user][song] = plays[user].get(song, 0) + 1
    plays = {user: played for user, played in plays.items() if not late & set(played)}
    before = Recommender(workspace.of("lists"), "genre", "raw")
    songs = pq.read_table(folder / "songs-2.parquet").drop_columns(["tags"])
    sound = pq.read_table(folder / "sound-2.parquet")["vector"]
    new = before.song_vectors(songs.append_column("sound", sound))
    candidates = pa.concat_tables([before.vectors("all"), new])
    top = max(map(len, wanted.values()))
    found = before.recommend(plays, top=top, candidates=candidates).to_pylist()
    return {
        "users": len(found),
        "same": sum(row["song_ids"] == wanted[row["user_id"]] for row in found),
    }


def ratios(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of the update to the run: as a whole, and of each part; and of the floor."""
    kinds = ("seconds", "cpu_seconds")
    full = {kind: sum(of[kind] for of in found["full"].values()) for kind in kinds}
    each = {**found["update"], "floor": found["floor"]}
    return {
        name: {kind: of[kind] / max(full[kind], 1e-9) for kind in kinds}
        for name, of in each.items()
    }


def tell(result: dict[str, Any]) -> None:
    """Print it for people."""
    for name, of in result["ratios"].items():
        print(
            f"{name}: {of['seconds']:.1%} of the run on the wall, {of['cpu_seconds']:.1%} by CPU",
            file=sys.stderr,
        )
    full = sum(of["cpu_seconds"] for of in result["full"].values())
    for name, of in result["full"].items():
        print(f"  run: {name} {of['cpu_seconds'] / full:.0%} of its CPU time", file=sys.stderr)
    same_ = result["same"]
    print(f"lists made once more: {same_['same']} of {same_['users']} the same", file=sys.stderr)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--songs", type=int, default=20_000)
    parser.add_argument("--plays", type=int, default=20, help="of a user")
    parser.add_argument("--share", type=float, default=0.01, help="of songs and plays that is new")
    parser.add_argument("--spread", action="store_true", help="each late play by another user")
    parser.add_argument("--top", type=int, default=500, help="lists.top")
    parser.add_argument("--epochs", type=int, default=40, help="train.epochs")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fusionrec-update-") as scratch:
        folder, place = Path(scratch) / "tables", Path(scratch) / "w"
        write(folder, options)
        found = timed(folder, place, options)
        result = {**vars(options), **found, "ratios": ratios(found), "same": same(folder, place)}
    tell(result)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
