"""Vectors of new songs, part by part, by the models of the run; and how far they lie from these."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.errors import ConfigError
from fusionrec.features.words import FieldWord2Vec
from fusionrec.tables import vectors
from pipelines.config import Config
from pipelines.ingest.vectors import artifact_of
from pipelines.opened.made_songs import MadeSongs
from pipelines.opened.new_songs import NewSongs
from pipelines.runtime import tasks
from pipelines.runtime.shards import Shard, shards_of
from pipelines.runtime.stage import resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name
from pipelines.update import distance
from pipelines.update.numbering import SONGS
from pipelines.update.reading import LYRICS, Read

VECTORS = "song_vectors"
"""Of new songs: `song_id`, `vector` (zeros without) and `present`; of a blend `atoms` beside."""

MEASURES = "measures"
_BY_BLEND = "pipelines.opened.new_by_blend"


@dataclass(frozen=True)
class MadeReport:
    """New songs of a part, those with a vector, and unknown words of lyrics among all of them."""

    songs: int
    present: int
    words: int
    unknown: int


def check_model(model: str) -> None:
    """Raise a ConfigError for a model that makes nothing of new songs."""
    if model == "blend" and find_spec(_BY_BLEND) is None:
        raise ConfigError(
            "recommend.model: blend cannot be updated: its signals of new songs are not to be had "
            "of what it has stored; make lists by genre or network, or run again"
        )


def make_vectors(
    config: Config, workspace: Workspace, run: StageRun, read: Read, centre: Any
) -> list[MadeReport]:
    """Write the vectors of all new songs, and their measures.

    Parameters
    ----------
    centre
        A reference to where the training songs lie, as :func:`find_centre` gives it.
    """
    make = partial(_make, workspace, run, config.recommend.model, read.modalities, centre)
    work = resumable(run, VECTORS, make, MadeReport)
    parts = shards_of(run.workspace, run.stage, SONGS)
    return tasks.map_tasks(run, work, parts, description="vectors of new songs")


def _make(
    workspace: Workspace,
    run: StageRun,
    model: str,
    modalities: tuple[str, ...],
    centre: Any,
    shard: Shard,
) -> MadeReport:
    given = _given(run, modalities, shard.part)
    new = _maker(workspace)
    fused = new.fused(given)
    made = _blended(workspace, given) if model == "blend" else new.made(fused)
    table = made.table()
    if made.atoms is not None:
        table = table.append_column("atoms", vectors(made.atoms))
    run.write(table, VECTORS, shard.part)
    songs = run.workspace.read_part(run.stage, SONGS, part_name(shard.part))
    of = (fused.x, fused.usable, fused.present, tasks.gather([centre])[0])
    found = distance.measure(songs, words_of(workspace), *of)
    run.write(found.table(), MEASURES, shard.part)
    words, unknown = _unknown(workspace, given)
    return MadeReport(len(songs), int(made.present.sum()), words, unknown)


@lru_cache(maxsize=1)
def _maker(workspace: Workspace) -> NewSongs:
    """In a worker: what was read of it for one part is there for the next."""
    return NewSongs(workspace)


def _blended(workspace: Workspace, given: pa.Table) -> MadeSongs:
    made: MadeSongs = import_module(_BY_BLEND).NewByBlend(workspace).make(given, None)
    return made


def _given(run: StageRun, modalities: tuple[str, ...], part: int) -> pa.Table:
    """New songs with their lyrics, and with the vectors of their own, as a person gives them."""
    stage, name = run.stage, part_name(part)
    songs = run.workspace.read_part(stage, SONGS, name)
    ids = songs["song_id"].combine_chunks()
    if run.workspace.parts(stage, LYRICS):
        lyrics = run.workspace.read_part(stage, LYRICS, name)
        rows = pc.index_in(ids, value_set=lyrics["song_id"].combine_chunks())
        for column in ("words", "counts", "text"):
            songs = songs.append_column(column, lyrics[column].take(rows))
    for modality in modalities:
        table = run.workspace.read_part(stage, artifact_of(modality), name)
        rows = pc.index_in(ids, value_set=table["song_id"].combine_chunks())
        found = table.take(rows)
        present = found["present"].combine_chunks()
        places = pa.array(np.arange(len(found)), mask=~present.to_numpy(zero_copy_only=False))
        songs = songs.append_column(modality, found["vector"].combine_chunks().take(places))
    return songs


def words_of(workspace: Workspace) -> dict[str, FieldWord2Vec] | None:
    """The words of metadata that have vectors, where metadata is one of the modalities."""
    settings = workspace.require("fuse")["content"]["settings"]
    return NewSongs(workspace).words if "metadata" in settings["modalities"] else None


def _unknown(workspace: Workspace, given: pa.Table) -> tuple[int, int]:
    """How many words the lyrics have, and how many of them the run does not know."""
    if "words" not in given.column_names or not workspace.parts("ingest", "vocabulary"):
        return 0, 0
    words = given["words"].combine_chunks()
    counts = pc.list_flatten(given["counts"].combine_chunks()).to_numpy()
    vocabulary = workspace.read("ingest", "vocabulary")["word"].combine_chunks()
    known = pc.is_in(pc.list_flatten(words), value_set=vocabulary)
    unknown = ~known.to_numpy(zero_copy_only=False)
    return int(counts.sum()), int(counts[unknown].sum())


def find_centre(workspace: Workspace) -> distance.Centre:
    """Of the training songs."""
    of = distance.OfRun.read(workspace, distance.chosen(parts_of(workspace), train=True))
    return distance.Centre.of(of.x[of.usable])


def parts_of(workspace: Workspace) -> np.ndarray:
    """The part of each song of the run."""
    parts = workspace.read("split", "split", ["part"])["part"]
    return np.asarray(parts.to_numpy(zero_copy_only=False), object)
