"""Audio: statistics of the Echo Nest segments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from fusionrec import schemas
from fusionrec.errors import DataError
from fusionrec.features import audio
from pipelines.config import Config
from pipelines.embed.features import write_features
from pipelines.runtime import sharding
from pipelines.runtime.shards import Shard
from pipelines.runtime.stage import Counts, resumable
from pipelines.runtime.workspace import StageRun, part_name


@dataclass(frozen=True)
class AudioReport:
    """Songs of a part, and the width of its vectors."""

    songs: int
    songs_with_audio: int
    dimension: int


def embed_audio(config: Config, run: StageRun, parts: list[Shard]) -> Counts:
    """Statistics of timbre, pitches and loudness for every part."""
    reports = sharding.map_shards(
        run,
        resumable(run, "audio", partial(_audio_part, run), AudioReport),
        parts,
        description="embedding audio",
    )
    with_audio = sum(report.songs_with_audio for report in reports)
    if with_audio == 0:
        raise DataError(
            "no song of the corpus has segments; they are in the HDF5 tree and in aggregate files. "
            "Leave audio out: --set 'embed.modalities=[metadata,lyrics]'"
        )
    return {
        "songs": sum(report.songs for report in reports),
        "songs_with_audio": with_audio,
        "dimension": reports[0].dimension,
    }


def _audio_part(run: StageRun, shard: Shard) -> AudioReport:
    name = part_name(shard.part)
    songs = run.workspace.read_part("ingest", "songs", name)
    workspace = run.workspace
    if name in workspace.parts("ingest", "segment_statistics"):
        statistics = workspace.read_part("ingest", "segment_statistics", name)
    else:
        segments = schemas.SEGMENTS.empty_table()
        if name in workspace.parts("ingest", "segments"):
            segments = workspace.read_part("ingest", "segments", name)
        statistics = audio.segment_statistics(segments)
    rows, present = audio.audio_features(songs, statistics)
    write_features(run, "audio", shard.part, songs["song_id"], rows, present)
    return AudioReport(songs.num_rows, int(present.sum()), rows.shape[1])
