"""Labelled songs from the workspace's artifacts, held in memory or streamed by Ray Data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data
import torch

from fusionrec import schemas
from fusionrec.models.batch import BatchShare
from fusionrec.models.collective import Collective
from fusionrec.models.examples import PARTS, Batch, Examples, Part, TrainingSet, require_songs
from fusionrec.models.settings import FusionSettings
from fusionrec.tables import flags, matrix, vectors
from pipelines.config import Config
from pipelines.runtime import sharding
from pipelines.runtime.shards import Shard, shards_of
from pipelines.runtime.stage import resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name

_SHUFFLED_AT_ONCE = 64
"""Global batches in the buffer from which a streamed batch's songs are drawn."""
_SCANNED_TRAINING_SONGS = 100_000
"""Training accuracy of a streamed corpus is measured on so many songs."""


@dataclass(frozen=True)
class Songs:
    """Songs with features.

    Attributes
    ----------
    ids
        Song ids, Arrow strings (N,).
    x
        Fused features, float32 (N, D).
    present
        Which blocks of `x` each song has, bool (N, M).
    part
        `train`, `validation` or `test`, object (N,).
    """

    ids: pa.Array
    x: np.ndarray
    present: np.ndarray
    part: np.ndarray


def fused_blocks(workspace: Workspace) -> tuple[int, ...]:
    """Columns of each block of the workspace's fused features."""
    return tuple(workspace.require("fuse")["counts"]["blocks"])


def fusion_settings(config: Config, blocks: tuple[int, ...]) -> FusionSettings:
    """How the network is to fuse these blocks."""
    absent = "learned" if config.fuse.missing == "learned" else "neutral"
    return config.fuse.fill(FusionSettings, blocks=blocks, absent=absent)


def read_songs(
    workspace: Workspace, only: pa.Array | None = None, parts: list[str] | None = None
) -> Songs:
    """The songs of the split that have features; `only` those of these ids, and `parts`."""
    ids: list[pa.Array] = []
    x, present, part = [], [], []
    for name in parts or workspace.parts("fuse", "fused"):
        table = workspace.read_part("fuse", "fused", name)
        column = workspace.read_part("split", "split", name, ["part"])["part"]
        wanted = pc.and_(table["present"], pc.is_in(column, value_set=pa.array(PARTS)))
        if only is not None:
            wanted = pc.and_(wanted, pc.is_in(table["song_id"], value_set=only))
        table, column = table.filter(wanted), column.filter(wanted)
        ids.append(table["song_id"].combine_chunks())
        x.append(matrix(table["vector"]))
        present.append(flags(table["blocks"]))
        part.append(column.to_numpy(zero_copy_only=False))
    return Songs(
        pa.concat_arrays(ids), np.concatenate(x), np.concatenate(present), np.concatenate(part)
    )


def labels(workspace: Workspace) -> tuple[pa.Array, np.ndarray]:
    """Ids of the labelled songs, and their classes, int64."""
    table = workspace.read("label", "labels", ["song_id", "class"])
    return table["song_id"].combine_chunks(), table["class"].to_numpy().astype(np.int64)


def load_training_set(config: Config, workspace: Workspace) -> TrainingSet:
    """Features and classes of the labelled songs."""
    labelled, classes = labels(workspace)
    songs = read_songs(workspace, labelled)
    y = classes[pc.index_in(songs.ids, value_set=labelled).to_numpy()]
    fusion = fusion_settings(config, fused_blocks(workspace))
    return training_set(songs, y, config.label.k, fusion)


def training_set(songs: Songs, y: np.ndarray, classes: int, fusion: FusionSettings) -> TrainingSet:
    """The songs by part, with their classes `y`, int64 (N,)."""
    train, validation, test = (
        Examples(songs.x[rows], songs.present[rows], y[rows])
        for rows in (songs.part == part for part in PARTS)
    )
    return TrainingSet(train, validation, test, classes, fusion)


# --- streaming ---------------------------------------------------------------------------


@dataclass(frozen=True)
class ExamplesReport:
    """Songs by class of each part."""

    songs: dict[str, list[int]]


def write_examples(config: Config, workspace: Workspace, run: StageRun) -> dict[str, np.ndarray]:
    """Write the labelled songs of each part as Parquet to stream; songs by class of each part."""
    reports = sharding.map_shards(
        run,
        resumable(run, "examples", partial(_write_examples, run, config.label.k), ExamplesReport),
        shards_of(workspace, "fuse", "fused"),
        description="examples",
    )
    return {part: np.sum([report.songs[part] for report in reports], axis=0) for part in PARTS}


def _write_examples(run: StageRun, classes: int, shard: Shard) -> ExamplesReport:
    labelled, of_song = labels(run.workspace)
    songs = read_songs(run.workspace, labelled, [part_name(shard.part)])
    y = of_song[pc.index_in(songs.ids, value_set=labelled).to_numpy()]
    counts: dict[str, list[int]] = {}
    for part in PARTS:
        rows = songs.part == part
        present = songs.present[rows]
        table = pa.Table.from_arrays(
            [
                vectors(songs.x[rows]),
                pa.FixedSizeListArray.from_arrays(pa.array(present.ravel()), present.shape[1]),
                pa.array(y[rows]),
            ],
            schema=schemas.examples(songs.x.shape[1], present.shape[1]),
        )
        run.write(table, f"examples_{part}", shard.part)
        counts[part] = np.bincount(y[rows], minlength=classes).tolist()
    return ExamplesReport(counts)


def datasets(run: StageRun) -> dict[str, ray.data.Dataset]:
    """What :func:`write_examples` wrote: `train` to be split, the others whole."""

    def read(part: str) -> ray.data.Dataset:
        names = run.workspace.parts(run.stage, f"examples_{part}")
        rows = [{"stage": run.stage, "artifact": f"examples_{part}", "name": n} for n in names]
        # Not read_parquet, which starts actors for the files' footers with every epoch.
        return ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            partial(_read_part, run.workspace), batch_size=1, batch_format="pyarrow"
        )

    scanned = {part: read(part) for part in PARTS}
    scanned["train"] = scanned["train"].limit(_SCANNED_TRAINING_SONGS)
    return {"train": read("train"), **{f"scan_{part}": data for part, data in scanned.items()}}


def _read_part(workspace: Workspace, files: Any) -> Any:
    (file,) = files.to_pylist()
    return workspace.read_part(file["stage"], file["artifact"], file["name"])


class Streamed:
    """Batches streamed from the workspace by Ray Data; a :class:`fusionrec.models.examples.Feed`.

    Each worker gets its share of the songs (at most one fewer than there are workers is left
    out of an epoch), and of every global batch an equal share. Songs are drawn from a buffer
    of 64 batches that moves over the files. With one worker an epoch's order depends on the
    seed and the epoch; with several, also on which worker asks first.

    Parameters
    ----------
    iterators
        This worker's, by the names of :func:`datasets`.
    songs
        Songs by class of each part.
    """

    def __init__(
        self,
        iterators: Mapping[str, ray.data.DataIterator],
        songs: Mapping[str, np.ndarray],
        fusion: FusionSettings,
        *,
        batch_size: int,
        seed: int,
        norm_group: int | None,
        collective: Collective,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        require_songs(int(songs["train"].sum()))
        self.iterators = iterators
        self.songs = songs
        self.counts = songs["train"]
        self.fusion = fusion
        self.seed = seed
        self.norm_group = norm_group
        self.group = collective
        self.device = device
        self.dtype = dtype
        self.share = max(1, batch_size // collective.world)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """See :class:`fusionrec.models.examples.Feed`."""
        world = self.group.world
        mine = int(self.counts.sum()) // world
        too_few = (mine % self.share) * world < min(16, self.share * world // 2)
        for table in self._tables(
            "train",
            batch_size=self.share,
            # A remainder too small to normalise is left out.
            drop_last=too_few and mine > self.share,
            local_shuffle_buffer_size=_SHUFFLED_AT_ONCE * self.share,
            local_shuffle_seed=self.seed * 1_000_003 + epoch,
        ):
            rows, before = table.num_rows, table.num_rows * self.group.rank
            # All workers have as many rows, and cut their own into groups.
            own = BatchShare.of(rows, self.norm_group, Collective())
            sizes = (rows,) if self.norm_group and own.sizes is None else own.sizes
            share = BatchShare(
                *(rows * world, before, before + rows),
                *(sizes, own.groups * world, own.groups * self.group.rank),
            )
            yield self._batch(table, share)

    def scan(self, part: Part) -> Iterator[Batch]:
        """See :class:`fusionrec.models.examples.Feed`."""
        if not self.songs[part].sum():
            return
        # Every worker reads the whole and evaluates its rows of each batch.
        for table in self._tables(f"scan_{part}", batch_size=8192):
            start, stop = self.group.slice(table.num_rows)
            yield self._batch(table.slice(start, stop - start), BatchShare(stop - start))

    def _tables(self, name: str, **options: Any) -> Iterator[pa.Table]:
        for table in self.iterators[name].iter_batches(batch_format="pyarrow", **options):
            assert isinstance(table, pa.Table)
            yield table

    def _batch(self, table: pa.Table, share: BatchShare) -> Batch:
        return Batch(
            torch.from_numpy(matrix(table["vector"])).to(self.device, self.dtype),
            torch.from_numpy(flags(table["blocks"])).to(self.device),
            torch.from_numpy(table["class"].to_numpy().copy()).to(self.device),
            share,
        )
