"""Tables and a workspace of theirs; what the tables hold, as a person reads them."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines import config, lists
from pipelines.config import Config
from pipelines.opened import Recommender
from pipelines.run import stages
from pipelines.runtime.workspace import Workspace
from tests.pipelines.inline import without_ray
from tests.pipelines.update.late import Late, load


@dataclass(frozen=True)
class Place:
    """Tables, and a folder with a workspace in `w`."""

    late: Late
    tables: Path
    folder: Path
    model: str

    @property
    def workspace(self) -> Workspace:
        return Workspace(str(self.folder / "w"))

    def config(self, **more: object) -> Config:
        return load(self.tables, self.folder / "w", self.model, **more)

    def copy(self, folder: Path) -> Place:
        """The workspace elsewhere, of the same tables."""
        shutil.copytree(self.folder / "w", folder / "w")
        return replace(self, folder=folder)


def begun(late: Late, folder: Path, model: str) -> Place:
    """A run of the early files, with lists."""
    late.write(folder / "tables", "1", late=False)
    found = Place(late, folder / "tables", folder, model)
    with without_ray():
        for stage in stages(found.config()):
            if stage.name == "recommend":
                break
            stage.run(found.config())
        lists.STAGE.run(found.config())
    return found


def written(place: Place) -> Path:
    """The config as a file."""
    file = place.folder / "config.yaml"
    file.write_text(config.to_yaml(place.config()))
    return file


def listed(workspace: Workspace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = workspace.read("update", "lists").to_pylist()
    return rows


def before(place: Place) -> Recommender:
    """The workspace as it was opened before the update."""
    model: Any = place.config().recommend.model
    return Recommender(place.workspace.of("lists"), model, "raw")


def sound_plays(rows: list[list[str]]) -> Counter[tuple[str, str]]:
    """How often each user played each song."""
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if len(row) == 4 and row[2].isdigit() and int(row[2]) > 0:
            found[row[0], row[1]] += int(row[2])
    return found


def all_plays(place: Place) -> dict[str, dict[str, int]]:
    """By user and song, early and late."""
    found: dict[str, dict[str, int]] = {}
    for (user, song), count in sound_plays([*place.late.plays[0], *place.late.plays[1]]).items():
        found.setdefault(user, {})[song] = count
    return found


def given_songs(late: Late) -> pa.Table:
    """The late songs as a person gives them."""
    rows = list({row[0]: row for row in reversed(late.songs[1])}.values())[::-1]
    bags = {
        row[0]: [pair.rpartition(":") for pair in row[1].split()]
        for row in late.lyrics[1]
        if ":" in row[1]
    }
    return pa.table(
        {
            "song_id": [row[0] for row in rows],
            "artist_id": [row[1] or None for row in rows],
            "artist_name": [row[1] or None for row in rows],
            "title": [row[2] or None for row in rows],
            "release": [row[3] or None for row in rows],
            "year": pa.array(
                [int(row[4]) if row[4].isdigit() else None for row in rows], pa.int32()
            ),
            "duration": pa.array([float(row[5]) if row[5] else None for row in rows], pa.float32()),
            "words": [[word for word, _, _ in bags.get(row[0], [])] for row in rows],
            "counts": [[int(count) for _, _, count in bags.get(row[0], [])] for row in rows],
            "sound": [
                None if row[0] not in late.vectors else late.vectors[row[0]].tolist()
                for row in rows
            ],
        }
    )


def given_to(place: Place) -> pa.Table:
    """The same with their tags, which classes make nothing of, as update has read them."""
    given = given_songs(place.late)
    read = place.workspace.read("update", "songs_added")
    rows = pa.compute.index_in(given["song_id"], value_set=read["song_id"])
    for name in ("terms", "mbtags"):
        given = given.append_column(name, read[name].take(rows))
    return given
