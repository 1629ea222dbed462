"""Vectors of new songs, part by part, by the models of the run; and how far they lie from these."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec.features.words import FieldWord2Vec
from pipelines.config import Config
from pipelines.ingest.vectors import artifact_of
from pipelines.opened.new_by_blend import NewByBlend
from pipelines.opened.new_songs import NewSongs, as_songs
from pipelines.runtime import tasks
from pipelines.runtime.rows import rows_name
from pipelines.runtime.shards import Shard, shards_of
from pipelines.runtime.stage import resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name
from pipelines.update import distance
from pipelines.update.numbering import SONGS
from pipelines.update.reading import LYRICS, Read

VECTORS = "song_vectors"
"""Of new songs: `song_id`, `vector` (zeros without) and `present`."""

FEATURES, HISTORY = BY_BLEND = ("features", "history")
"""Of a blend, what `blend` has by these names: `rows`, float32 (songs, D), in parts as vectors."""

MEASURES = "measures"


@dataclass(frozen=True)
class MadeReport:
    """New songs of a part, those with a vector, and unknown words of lyrics among all of them."""

    songs: int
    present: int
    words: int
    unknown: int


def make_vectors(
    config: Config, workspace: Workspace, run: StageRun, read: Read, centre: Any
) -> list[MadeReport]:
    """Write the vectors of all new songs, and their measures.

    Parameters
    ----------
    centre
        A reference to where the training songs lie, as :func:`find_centre` gives it.
    """
    by = _make_by_blend if config.recommend.model == "blend" else _make
    make = partial(by, workspace, run, read.modalities, centre)
    work = resumable(run, VECTORS, make, MadeReport)
    parts = shards_of(run.workspace, run.stage, SONGS)
    return tasks.map_tasks(run, work, parts, description="vectors of new songs")


def _make(
    workspace: Workspace,
    run: StageRun,
    modalities: tuple[str, ...],
    centre: Any,
    shard: Shard,
) -> MadeReport:
    given = _given(run, modalities, shard.part)
    new, _ = _makers(workspace)
    fused = new.fused(given)
    run.write(new.made(fused).table(), VECTORS, shard.part)
    measured = (fused.x, fused.usable, fused.present)
    return _measure(workspace, run, given, measured, centre, shard)


def _make_by_blend(
    workspace: Workspace,
    run: StageRun,
    modalities: tuple[str, ...],
    centre: Any,
    shard: Shard,
) -> MadeReport:
    given = _given(run, modalities, shard.part)
    new, blend = _makers(workspace)
    made = blend.make(given)
    run.write(made.table(), VECTORS, shard.part)
    for artifact, rows in ((FEATURES, made.features), (HISTORY, made.atoms)):
        assert rows is not None
        run.write_arrays({"rows": rows}, artifact, rows_name(shard.part))
    has = _has(workspace, new, given)
    return _measure(workspace, run, given, (made.F, made.present, has), centre, shard)


@lru_cache(maxsize=1)
def _makers(workspace: Workspace) -> tuple[NewSongs, NewByBlend]:
    """In a worker: what was read of them for one part is there for the next."""
    return NewSongs(workspace), NewByBlend(workspace)


def _measure(
    workspace: Workspace, run: StageRun, given: pa.Table, of: Any, centre: Any, shard: Shard
) -> MadeReport:
    """Write the measures of songs by what was made `of` them: rows, which are usable, and by
    modality which have it.
    """
    (x, usable, present), middle = of, tasks.gather([centre])[0]
    songs = run.workspace.read_part(run.stage, SONGS, part_name(shard.part))
    found = distance.measure(songs, words_of(workspace), x, usable, present, middle)
    run.write(found.table(), MEASURES, shard.part)
    words, unknown = _unknown(workspace, given)
    return MadeReport(len(songs), int(usable.sum()), words, unknown)


def _has(workspace: Workspace, new: NewSongs, given: pa.Table) -> dict[str, NDArray[np.bool_]]:
    """By modality, which songs have it; a blend does not make vectors of all of them."""
    found: dict[str, NDArray[np.bool_]] = {}
    for name in distance.modalities(workspace):
        if name == "metadata":
            found[name] = np.ones(len(given), bool)
        elif name == "lyrics":
            found[name] = new.lyrics.present(given, as_songs(given)[1])
        elif name in given.column_names:
            found[name] = np.array(given[name].is_valid())
        else:
            found[name] = np.zeros(len(given), bool)
    return found


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
    wanted = "metadata" in distance.modalities(workspace)
    return _makers(workspace)[0].words if wanted else None


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
    of = distance.OfRun.read(workspace, distance.chosen(parts_of(workspace), distance.TRAINED))
    return distance.Centre.of(of.x if of.usable is None else of.x[of.usable])


def parts_of(workspace: Workspace) -> np.ndarray:
    """The part of each song of the run."""
    parts = workspace.read("split", "split", ["part"])["part"]
    return np.asarray(parts.to_numpy(zero_copy_only=False), object)
