"""A catalogue of tables of which some files come late: of a base run, and of an update."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fusionrec.formats.sample import write_tables
from pipelines import config
from pipelines.config import Config
from tests.pipelines.beside import TASTE
from tests.pipelines.inline import SMALL

MODELS: dict[str, dict[str, object]] = {
    "genre": {"recommend__model": "genre"},
    "factors": {"train__objective": "factors", **TASTE},
    "ranking": {"train__objective": "ranking", **TASTE},
}
ON_THE_SAME: dict[str, dict[str, object]] = {
    "blend": {"recommend__model": "blend", "blend__tune": "false"},
    "closed": {
        "recommend__model": "blend",
        "blend__tune": "false",
        "blend__other_plays": "false",
        "blend__signals": "[neighbours-terms, neighbours-sound]",
    },
    "limited": {"recommend__model": "genre", "lists__per_artist": 1},
}
"""Lists of other kinds on what the run of `genre` has made before them."""
_SETTINGS: dict[str, object] = {
    **SMALL,
    "cluster__num_cpus": 2,
    "ingest__bytes_per_shard": 1024,  # so that new songs lie in several parts
    "source__format": "tables",
    "source__tables": "{"
    "songs: {paths: songs-*.csv, columns: {song_id: track, artist_id: performer, "
    "artist_name: performer, title: name, "
    "release: album, year: released, duration: seconds, tags: genres}}, "
    "plays: {paths: plays-*.csv, "
    "columns: {user_id: uid, song_id: track, plays: listens, timestamp: ts}}, "
    "lyrics: {paths: lyrics-*.csv, columns: {song_id: track}}, "
    "features: {sound: {paths: sound-*.parquet}}}",
    "embed__modalities": "[metadata, lyrics, sound]",
    "embed__lyrics__encoder": "pretrain",
    "embed__lyrics__words": 20,
    "pretrain__hidden_size": 32,
    "pretrain__heads": 2,
    "pretrain__layers": 1,
    "pretrain__workers": 0,
    "train__workers": 0,
    "train__batch_size": 32,
    "lists__top": 30,
    "lists__users_per_shard": 11,
}


@dataclass(frozen=True)
class Late:
    """The tables, in memory, by whether their rows come early or late.

    Attributes
    ----------
    songs, plays, lyrics
        Rows without the heads.
    vectors
        By song.
    known_before
        A late song that was played early.
    """

    heads: dict[str, list[str]]
    songs: tuple[list[list[str]], list[list[str]]]
    plays: tuple[list[list[str]], list[list[str]]]
    lyrics: tuple[list[list[str]], list[list[str]]]
    vectors: dict[str, np.ndarray]
    known_before: str

    @staticmethod
    def of(folder: Path) -> Late:
        """Of a sample of tables: a fifth of the songs and users come late, and a few plays more."""
        write_tables(folder, songs=150, users=60, seed=4)
        rows = {name: _rows(folder / f"{name}.csv") for name in ("songs", "plays", "lyrics")}
        heads = {name: found.pop(0) for name, found in rows.items()}
        ids = list(dict.fromkeys(row[0] for row in rows["songs"]))
        late, nowhere = set(ids[::5]), set(ids[7::40])  # the latter are played, and no more
        users = list(dict.fromkeys(row[0] for row in rows["plays"]))
        newcomers, steady = set(users[::7]), set(users[1::7])
        played = [row[1] for row in rows["plays"] if row[1] in late and row[0] in steady]
        known_before = played[0]
        plays: tuple[list[list[str]], list[list[str]]] = ([], [])
        for number, row in enumerate(rows["plays"]):
            early = row[1] == known_before and row[0] not in newcomers
            comes_late = row[1] in late or row[0] in newcomers or number % 13 == 0
            if row[0] in steady and not early:
                comes_late = False  # nothing new of these; of late songs they play none
                if row[1] in late:
                    continue
            plays[comes_late and not early].append(row)
        names = (folder / "sound_ids.txt").read_text(encoding="utf-8").splitlines()
        vectors = dict(zip(names, np.load(folder / "sound.npy"), strict=True))
        return Late(
            heads,
            _split(rows["songs"], late, nowhere),
            plays,
            _split(rows["lyrics"], late, nowhere),
            {name: row for name, row in vectors.items() if np.isfinite(row).all()},
            known_before,
        )

    def write(self, folder: Path, when: str, late: bool) -> None:
        """Write the early rows or the late ones, each table as a file of its own."""
        folder.mkdir(exist_ok=True)
        for name in ("songs", "plays", "lyrics"):
            rows = getattr(self, name)[late]
            with (folder / f"{name}-{when}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([self.heads[name], *rows])
        ids = [song for row in self.songs[late] if (song := row[0]) in self.vectors]
        ids = list(dict.fromkeys(ids))
        columns = {"song_id": ids, "vector": [self.vectors[song].tolist() for song in ids]}
        pq.write_table(pa.table(columns), folder / f"sound-{when}.parquet")


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _split(
    rows: list[list[str]], late: set[str], nowhere: set[str]
) -> tuple[list[list[str]], list[list[str]]]:
    early = [row for row in rows if row[0] not in late | nowhere]
    return early, [row for row in rows if row[0] in late - nowhere]


def load(folder: Path, place: Path, model: str = "genre", **more: object) -> Config:
    """Settings for it."""
    of = {**MODELS, **ON_THE_SAME}[model]
    settings = {"source__root": folder, "workspace": place, **_SETTINGS, **of, **more}
    return config.load(
        None, [f"{name.replace('__', '.')}={value}" for name, value in settings.items()]
    )
