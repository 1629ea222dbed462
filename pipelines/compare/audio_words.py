"""Audio words: every song's segments as a bag of quantised frames (van den Oord et al. 2013).

The codebook is fitted, in one task, on frames of `compare.audio_words.songs` training songs
(29 kB a song of 100 frames); then a map over the songs' segments, with 100 kB a song in memory.
The network of the paper does without it: the baselines of :mod:`pipelines.compare` are fed
with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from fusionrec import schemas
from fusionrec.errors import ConfigError, DataError
from fusionrec.features import audio_words
from fusionrec.features.audio_words import Codebook
from fusionrec.hashing import stable_hash
from fusionrec.tables import matrix, vectors
from pipelines import ingest, split
from pipelines.config import Config
from pipelines.config.compare import AudioWordsConfig
from pipelines.runtime import sharding, tasks
from pipelines.runtime.shards import Shard, Written, shards_of
from pipelines.runtime.stage import Counts, Stage, resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name


@dataclass(frozen=True)
class BagsReport:
    """Songs of a part with segments, and without."""

    songs: int
    without: int


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Fit the codebook on training songs, then quantise all songs."""
    settings = config.compare.audio_words
    if config.ingest.segments != "full":
        raise ConfigError(
            "audio words are made of segments, but ingest.segments is "
            f"{config.ingest.segments!r}: set ingest.segments: full"
        )
    parts = shards_of(workspace, "ingest", "segments")
    chosen = tasks.submit(run, _training_songs, run, settings, config.seed)
    sharding.map_shards(
        run,
        resumable(run, "frames", partial(_sample, run, chosen, settings, config.seed), Written),
        parts,
        description="sampling frames",
    )
    frames = tasks.run_task(run, _fit, run, settings, config.seed)
    reports = sharding.map_shards(
        run,
        resumable(run, "bags", partial(_quantise, run), BagsReport),
        parts,
        description="audio words",
    )
    return {
        "codebook_frames": frames,
        "codewords": settings.codewords,
        "songs": sum(report.songs for report in reports),
        "songs_without_segments": sum(report.without for report in reports),
    }


def read_codebook(workspace: Workspace) -> Codebook:
    """The workspace's codebook."""
    return Codebook(**load_safetensors(workspace.read_bytes("audio_words", "codebook.safetensors")))


def segments_of(
    workspace: Workspace, part: int, only: pa.Array | None = None
) -> tuple[pa.Table, pa.Table]:
    """One part's songs that have segments (`only` those of these ids), and these, row by row.

    A song's segments lie in the part that its row is in.
    """
    name = part_name(part)
    songs = workspace.read_part("ingest", "songs", name, ["song_id", "track_id"])
    if only is not None:
        songs = songs.filter(pc.is_in(songs["song_id"], value_set=only))
    wanted = pc.field("track_id").isin(songs["track_id"].combine_chunks())
    segments = workspace.read_part("ingest", "segments", name, filters=wanted)
    segments = segments.filter(pc.greater(pc.list_value_length(segments["timbre"]), 0))
    row = pc.index_in(songs["track_id"], value_set=segments["track_id"].combine_chunks())
    return songs.filter(pc.is_valid(row)), segments.take(pc.drop_null(row.combine_chunks()))


def _training_songs(run: StageRun, settings: AudioWordsConfig, seed: int) -> pa.Array:
    """Ids of the training songs that lend their frames."""
    table = run.workspace.read("split", "split", ["song_id", "part"])
    ids = table["song_id"].filter(pc.equal(table["part"], "train")).combine_chunks()
    order = np.argsort(stable_hash(ids.to_pylist(), seed=seed, purpose="codebook"), kind="stable")
    return ids.take(pa.array(order[: settings.songs]))


def _sample(
    run: StageRun, reference: object, settings: AudioWordsConfig, seed: int, shard: Shard
) -> Written:
    chosen = tasks.gather([reference])[0]
    _, segments = segments_of(run.workspace, shard.part, chosen)
    frames = audio_words.sample_frames(segments, settings.frames, seed)
    run.write(pa.table({"frame": vectors(frames)}), "frames", shard.part)
    return Written(len(frames))


def _fit(run: StageRun, settings: AudioWordsConfig, seed: int) -> int:
    """Fit and write the codebook, if it is not there; on how many frames."""
    if run.workspace.exists(run.stage, "codebook.safetensors"):
        return int(run.read_json("codebook.json")["frames"])
    frames = matrix(run.workspace.read(run.stage, "frames")["frame"])
    if not len(frames):
        raise DataError(
            "no training song has segments, so there are no audio words; leave out of "
            "compare.methods what needs them: mlr, linear, mlp, cnn-mse, cnn-wpe"
        )
    codebook = audio_words.fit_codebook(frames, settings.codewords, seed)
    run.write_json({"frames": len(frames)}, "codebook.json")
    arrays = {name: getattr(codebook, name) for name in ("mean", "scale", "centroids")}
    run.write_bytes(save_safetensors(arrays), "codebook.safetensors")
    return len(frames)


def _quantise(run: StageRun, shard: Shard) -> BagsReport:
    codebook = read_codebook(run.workspace)
    songs, segments = segments_of(run.workspace, shard.part)
    bags, _ = audio_words.bags(segments, codebook)
    bags.sort_indices()
    offsets = pa.array(bags.indptr, pa.int32())
    columns = [
        songs["song_id"].combine_chunks(),
        pa.ListArray.from_arrays(offsets, pa.array(bags.indices, pa.int32())),
        pa.ListArray.from_arrays(offsets, pa.array(bags.data.astype(np.int32))),
    ]
    run.write(pa.Table.from_arrays(columns, schema=schemas.AUDIO_WORDS), "bags", shard.part)
    all_songs = run.workspace.read_part("ingest", "songs", part_name(shard.part), ["song_id"])
    return BagsReport(songs.num_rows, all_songs.num_rows - songs.num_rows)


STAGE = Stage(
    name="audio_words",
    needs=lambda config: (ingest.STAGE, split.STAGE),
    settings=lambda config: {
        "audio_words": config.compare.audio_words.model_dump(exclude={"variance"}),
        "seed": config.seed,
    },
    work=work,
    staging=("frames",),
)
