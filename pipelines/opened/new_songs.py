"""Songs that a workspace has not seen, by the transforms and the network that it has fitted.

They go the way of the stages: each modality into a vector as `embed` makes it, scaled and reduced
as `fuse` does, and through the network that `train` has trained. Nothing is fitted again; the
weights of the lyrics' words, which no result has, are counted again, in whole numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from safetensors.numpy import load as load_safetensors

from fusionrec import schemas
from fusionrec.errors import DataError
from fusionrec.features import audio, metadata
from fusionrec.features.fusing import Features, Plan
from fusionrec.features.words import FieldWord2Vec
from fusionrec.formats.tables import lists
from pipelines.opened.given import as_table, ids_of, vectors_of
from pipelines.opened.made_songs import MadeSongs
from pipelines.opened.new_lyrics import NewLyrics
from pipelines.opened.stored import on_taste
from pipelines.runtime.workspace import Workspace

log = logging.getLogger("fusionrec")

_READ = (
    "track_id",
    *metadata.TEXT_FIELDS,
    *metadata.NUMBERS,
    *("tempo", "loudness", "mode", "key"),
)
"""Columns of SONGS that a modality reads."""

Rows = tuple[NDArray[np.float32], NDArray[np.bool_]]


@dataclass(frozen=True)
class FusedSongs:
    """Songs in the order in which they were given, n of them.

    Attributes
    ----------
    ids
        Arrow strings.
    x
        Float32 (n, P): what :meth:`fusionrec.features.fusing.Plan.fused` gives, with `usable`, bool
        (n,), and `blocks`, bool (n, blocks).
    present
        By modality, which songs have it, bool (n,).
    """

    ids: pa.Array
    x: NDArray[np.float32]
    usable: NDArray[np.bool_]
    blocks: NDArray[np.bool_]
    present: dict[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class NewSongs:
    """What makes vectors of new songs, each part read when it is first needed."""

    workspace: Workspace

    def vectors(self, songs: Any, segments: pa.Table | None = None) -> pa.Table:
        """See :meth:`pipelines.opened.recommender.Recommender.song_vectors`."""
        return self.make(songs, segments).table()

    def make(self, songs: Any, segments: pa.Table | None = None) -> MadeSongs:
        """The same, as arrays: what else a model needs of a song beside."""
        return self.made(self.fused(songs, segments))

    def fused(self, songs: Any, segments: pa.Table | None = None) -> FusedSongs:
        """Songs as the network is fed with them."""
        given, known = as_songs(songs)
        plan = Plan(**self._settings("fuse", ("modalities", "blockwise", "drop")))
        each = [self.modality(name, given, known, segments) for name in plan.modalities]
        features = Features(
            known["song_id"],
            np.concatenate([rows for rows, _ in each], axis=1),
            np.stack([present for _, present in each], axis=1),
            tuple(rows.shape[1] for rows, _ in each),
        )
        x, usable, blocks = plan.fused(features, self._transforms)
        ids = known["song_id"].combine_chunks()
        present = dict(zip(plan.modalities, features.present.T, strict=True))
        return FusedSongs(ids, x, usable, blocks, present)

    def made(self, fused: FusedSongs) -> MadeSongs:
        """What the network makes of them."""
        usable = fused.usable
        F = self._through(fused.x[usable], fused.blocks[usable])
        found = np.zeros((len(usable), F.shape[1]), np.float32)
        found[usable] = F
        return MadeSongs(fused.ids, found, usable)

    def _settings(self, stage: str, names: tuple[str, ...]) -> dict[str, Any]:
        settings = self.workspace.require(stage)["content"]["settings"]
        return {name: settings[name] for name in names}

    # --- modalities ------------------------------------------------------------------------

    def modality(
        self, name: str, given: pa.Table, songs: pa.Table, segments: pa.Table | None
    ) -> Rows:
        """Vectors of a modality, float32 (n, d), and which songs have one, bool (n,)."""
        if name == "metadata":
            fields, means = self.words, self._means
            rows, _ = metadata.metadata_features(songs, fields, means)
            return rows, np.ones(len(rows), bool)
        if name == "lyrics":
            return self.lyrics.vectors(given, songs)
        if name == "audio":
            return audio.audio_features(songs, _statistics(segments))
        return _own(name, given, self.workspace.require("embed")["counts"][name]["dimension"])

    @cached_property
    def words(self) -> dict[str, FieldWord2Vec]:
        """By field of metadata, the words that have vectors."""
        read = self.workspace.read_bytes
        return {
            field: FieldWord2Vec.from_bytes(read("embed", "word2vec", f"{field}.safetensors"))
            for field in metadata.TEXT_FIELDS
        }

    @cached_property
    def _means(self) -> dict[str, float]:
        found: dict[str, float] = self.workspace.read_json("embed", "word2vec", "number_means.json")
        return found

    @cached_property
    def lyrics(self) -> NewLyrics:
        """What reads and encodes lyrics."""
        return NewLyrics(self.workspace)

    # --- to F(s) ---------------------------------------------------------------------------

    @cached_property
    def _transforms(self) -> dict[str, np.ndarray]:
        content = self.workspace.read_bytes("fuse", "transforms.safetensors")
        arrays: dict[str, np.ndarray] = load_safetensors(content)
        return arrays

    @cached_property
    def _network(self) -> Any:
        from pipelines.opened import models  # brings torch with it

        if not on_taste(self.workspace):
            return models.load_network(self.workspace)
        about = self.workspace.read_json("train", "users", "about.json")
        if about["objective"] == "factors":
            return models.load_factor_tower(self.workspace)
        return models.load_ranking_model(self.workspace)

    def _through(self, x: NDArray[np.float32], blocks: NDArray[np.bool_]) -> NDArray[np.float32]:
        from fusionrec.models.ranking import RankingModel
        from fusionrec.models.to_factors import FactorTower
        from fusionrec.models.training import predict

        network = self._network
        if isinstance(network, FactorTower):
            return network.predict(x, blocks)
        if isinstance(network, RankingModel):
            return network.content(x, blocks)
        return predict(network, x, blocks)[0]


def as_songs(songs: Any, more: Sequence[str] = ()) -> tuple[pa.Table, pa.Table]:
    """The songs as they are given, and their columns as the schema of songs has them.

    Parameters
    ----------
    more
        Columns of that schema beside those that a modality reads.

    Raises
    ------
    DataError
        There is no `song_id`, one or a `track_id` is there twice, or a column is of another type.
    """
    given = as_table(songs, "songs")
    if given is None:
        raise DataError(
            f"songs: are of type {type(songs).__name__}: give a pyarrow Table or a data frame"
        )
    ids = ids_of(given, "song_id", "songs")
    _refuse_twice(ids, "song_id")
    columns: dict[str, Any] = {"song_id": ids, "track_id": ids}
    for name in dict.fromkeys((*_READ, *more)):
        if name == "song_id":
            continue
        kind = schemas.SONGS.field(name).type
        if name in given.column_names:
            try:
                columns[name] = given[name].cast(kind)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                reason = str(error).splitlines()[0]
                raise DataError(f"songs: column {name} must be {kind} ({reason})") from None
        elif name not in columns:
            columns[name] = pa.chunked_array([pa.nulls(len(ids), kind)])
    _as_read(columns)
    # Segments are joined by it: a song without has its own id for it.
    columns["track_id"] = pc.coalesce(columns["track_id"], ids)
    _refuse_twice(columns["track_id"], "track_id")
    # As the sources are read: a year of 0 is one that is not known.
    year = columns["year"]
    columns["year"] = pc.if_else(pc.fill_null(pc.less_equal(year, 0), True), None, year)
    return given, pa.table(columns)


_LISTS = {"mbtags": "mbtag_counts", "terms": "term_weights", "similar_artists": None}
"""Lists of texts, and of the numbers that stand beside their items."""


def _as_read(columns: dict[str, Any]) -> None:
    """Lists as the sources are read: items stripped, and none that is null or empty.

    Numbers that are not as many as the items are as none.
    """
    for name, beside in _LISTS.items():
        if name not in columns:
            continue
        texts, _ = lists.texts(columns[name], None)
        numbers = None
        if beside in columns:
            kind = columns[beside].type
            numbers = lists.numbers(columns[beside], None)
            differ = np.asarray(lists.lengths(numbers) != lists.lengths(texts))
            numbers = lists.nulled(numbers, differ)
        texts, numbers, _ = lists.without_empty(texts, numbers)
        columns[name] = pa.chunked_array([texts])
        if beside is not None and numbers is not None:
            columns[beside] = pa.chunked_array([lists.cast_numbers(numbers, kind)])


def _refuse_twice(ids: pa.ChunkedArray, name: str) -> None:
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise DataError(
            f"songs: {name} {twice[0]['values']} is there twice: leave one of its rows out"
        )


def _statistics(segments: pa.Table | None) -> pa.Table:
    """Statistics of segments, of which there may be none; a null is a track without."""
    if segments is None:
        return audio.segment_statistics(schemas.SEGMENTS.empty_table())
    made = "statistics" in segments.column_names
    read = ("statistics", "segments") if made else ("timbre", "pitches", "loudness_max")
    for name in read:
        segments = segments.filter(pc.is_valid(segments[name]))
    return segments if made else audio.segment_statistics(segments)


def _own(name: str, given: pa.Table, dimension: int) -> Rows:
    """Vectors of one's own, of a column; a null is a song without."""
    if name not in given.column_names:
        log.warning("song_vectors: songs have no column %s, and so none of these vectors", name)
        rows = given.num_rows
        return np.zeros((rows, dimension), np.float32), np.zeros(rows, bool)
    return vectors_of(given[name], dimension, "songs", name, "as the workspace was fitted on")
