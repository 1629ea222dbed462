"""Lyrics (paper 3.1.5): word weights, then a pool of actors, each with one encoder.

An actor turns the most significant words of every bag of a part into a vector.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from fusionrec import probes
from fusionrec.errors import DataError
from fusionrec.features.lyrics.shard import lyrics_features
from pipelines.config import Config, LyricsConfig
from pipelines.runtime import metrics, sharding, tasks
from pipelines.runtime.gpus import GpuUse
from pipelines.runtime.shards import Shard
from pipelines.runtime.stage import Counts, processor_lines, resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name
from pipelines.words import lyrics_weights

log = logging.getLogger("fusionrec")

PRETRAIN = "pretrain"
"""The value of `embed.lyrics.encoder` that asks for the workspace's own encoder."""

GPUS = GpuUse(
    "embed.lyrics.num_gpus",
    "an encoder",
    applies=lambda config: "lyrics" in config.embed.modalities,
)
"""What encodes on GPUs; no other modality does."""


@dataclass(frozen=True)
class LyricsReport:
    """Songs of a part, the width of its vectors, and how the encoder made them."""

    songs: int
    songs_with_lyrics: int
    dimension: int
    dtype: str
    path: str
    processor: dict[str, int]


def embed_lyrics(config: Config, run: StageRun, parts: list[Shard]) -> Counts:
    """Fit the word weights, then encode every part's bags in a pool of actors."""
    weights = lyrics_weights(config, run)
    settings, why = _with_precision(config, run)
    log.info("lyrics encoder %s: %s, %s", settings.encoder, settings.dtype, why)
    reports = sharding.map_in_actors(
        run,
        _lyrics_encoder,
        (run, settings, weights),
        parts,
        description="encoding lyrics",
        actor=f"the lyrics encoder {settings.encoder}",
        num_gpus=run.gpus,
    )
    processor = processor_lines(reports)
    with_lyrics = sum(report.songs_with_lyrics for report in reports)
    if with_lyrics == 0:
        raise DataError(
            "no song of the corpus has lyrics; name the musiXmatch files in source.lyrics or "
            "leave lyrics out: --set embed.modalities=[metadata]"
        )
    return {
        "songs": sum(report.songs for report in reports),
        "songs_with_lyrics": with_lyrics,
        "dimension": reports[0].dimension,
        "encoder": settings.encoder,
        "dtype": reports[0].dtype,
        "path": reports[0].path,
        "dtype_chosen": why,
        "layers": processor,
    }


def _with_precision(config: Config, run: StageRun) -> tuple[LyricsConfig, str]:
    """The settings with one precision for all actors, and why it is that.

    Chosen once for the result, in a worker like the encoder's: processors that differ would choose
    differently.
    """
    settings = config.embed.lyrics
    if settings.dtype != "auto":
        return settings, "as configured"
    dtype, why = run.choose(
        "lyrics_precision",
        lambda: tasks.run_task(run, _precision, run, settings, num_gpus=run.gpus),
    )
    return settings.model_copy(update={"dtype": dtype}), why


def _precision(run: StageRun, settings: LyricsConfig) -> tuple[str, str]:
    from fusionrec.features.lyrics.encoder import dtype_for, hidden_size_of

    with _encoder_folder(run, settings) as name:
        return dtype_for(settings.dtype, _device(run.gpus), hidden_size_of(name))


def check_encoder(config: Config, gpus: float) -> str:
    """Load the encoder in a worker like those that will use it, and encode something tiny.

    Parameters
    ----------
    gpus
        Of that worker.

    Raises
    ------
    ConfigError, EncoderError
        It would not work.
    """
    settings = config.embed.lyrics
    return tasks.run_task(None, _checked, settings, gpus, num_gpus=gpus)


def _checked(settings: LyricsConfig, gpus: float) -> str:
    from fusionrec.features.lyrics import check

    found = check.check_encoder(
        settings.encoder,
        pooling=settings.pooling,
        dtype=settings.dtype,
        device=_device(gpus),
    )
    return (
        f"{settings.encoder}: vectors of {found.hidden_size}, up to {found.max_tokens} tokens, "
        f"{found.dtype}, {found.path}"
    )


def _device(gpus: float) -> str:
    import torch

    torch.set_num_threads(1)
    return "cuda" if gpus and torch.cuda.is_available() else "cpu"


@contextmanager
def _encoder_folder(run: StageRun, settings: LyricsConfig) -> Iterator[str]:
    """The encoder's name, or a folder that holds the workspace's own for a while."""
    if settings.encoder != PRETRAIN:
        yield settings.encoder
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield _download_encoder(run.workspace, Path(scratch))


def _lyrics_encoder(
    run: StageRun, settings: LyricsConfig, weights: np.ndarray
) -> Callable[[Shard], LyricsReport]:
    """Load the encoder once an actor; the result encodes one part."""
    # Imported here, so that only encoder actors pay for torch and transformers.
    from fusionrec.features.lyrics.encoder import load_encoder

    device = _device(run.gpus)
    with _encoder_folder(run, settings) as name:
        encoder = load_encoder(
            name, device=device, dtype=settings.dtype, compiled=settings.compiled
        )
    vocabulary = run.workspace.read("ingest", "vocabulary")["word"].to_pylist()

    def encode(shard: Shard) -> LyricsReport:
        part = shard.part
        songs = run.workspace.read_part("ingest", "songs", part_name(part), ["song_id", "track_id"])
        bags = run.workspace.read_part("ingest", "lyrics", part_name(part))
        before = encoder.tokens
        table = lyrics_features(
            songs,
            bags,
            encoder,
            weights,
            vocabulary,
            scheme=settings.tfidf,
            words=settings.words,
            pooling=settings.pooling,
            token_budget=settings.token_budget,
        )
        embedded = pc.sum(table["present"]).as_py() or 0
        if embedded:
            metrics.count("fusionrec_documents_embedded", embedded)
            metrics.count("fusionrec_tokens_embedded", encoder.tokens - before)
        run.write(table, "lyrics", part)
        return LyricsReport(
            songs.num_rows,
            embedded,
            encoder.hidden_size,
            encoder.dtype,
            encoder.path,
            probes.lines("bfloat16 layers"),
        )

    return resumable(run, "lyrics", encode, LyricsReport)


def _download_encoder(workspace: Workspace, folder: Path) -> str:
    from pyarrow import fs as pafs

    selector = pafs.FileSelector(workspace.path("pretrain", "model"))
    for info in workspace.fs.get_file_info(selector):
        content = workspace.read_bytes("pretrain", "model", info.base_name)
        (folder / info.base_name).write_bytes(content)
    return str(folder)
