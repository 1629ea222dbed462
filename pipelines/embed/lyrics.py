"""Lyrics (paper 3.1.5): word weights, then a stream of parts past a pool of encoders.

Tasks choose the most significant words of every bag of a part and tokenise them; an actor with an
encoder turns the tokens into vectors; tasks write them. What a part's vectors are depends on
nothing but the part.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fusionrec import probes
from fusionrec.errors import DataError
from fusionrec.features.lyrics.pieces import Recipe, WordTokenizer
from fusionrec.features.lyrics.shard import features, prepare
from fusionrec.features.lyrics.tokens import Batches, Tokens, bounds_of, usual_budget
from pipelines.config import Config, LyricsConfig
from pipelines.runtime import metrics, stream, tasks
from pipelines.runtime.gpus import GpuUse
from pipelines.runtime.resume import finished, resumable
from pipelines.runtime.shards import Shard
from pipelines.runtime.stage import Counts, processor_lines
from pipelines.runtime.stream import Arrays
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


TOKENS_A_GROUP = 1_000_000
"""That an actor on a GPU has at a time: half a second of a large one's work."""

_TOKENS_A_BYTE = 1.2
"""Of a part of lyrics, roughly: 230 tokens a song of 190 bytes."""

TOKENISED = {
    "song_id": pa.string(),
    "row": pa.int32(),
    "token": pa.int32(),
    "length": pa.int32(),
    "cut": pa.int32(),
}
"""Of a part: its songs; of each text the song's position, the ids, their number; the batches."""

ENCODED = {
    "song_id": pa.string(),
    "row": pa.int32(),
    "value": pa.float32(),
    "encoder": pa.string(),
}
"""Of a part: its songs; of each text the song's position and the vector; what the encoder is."""


def embed_lyrics(config: Config, run: StageRun, parts: list[Shard]) -> Counts:
    """Fit the word weights, then stream the parts that are not there yet past the encoders."""
    weights = lyrics_weights(config, run)
    settings, why = _with_precision(config, run)
    log.info("lyrics encoder %s: %s, %s", settings.encoder, settings.dtype, why)
    done = finished(run, "lyrics", (shard.part for shard in parts), LyricsReport)
    left = [shard for shard in parts if shard.part not in done]
    found, statistics = _streamed(run, settings, weights, left)
    reports = [*done.values(), *found]
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
        "stream": statistics.counts(),
    }


def _streamed(
    run: StageRun, settings: LyricsConfig, weights: np.ndarray, parts: list[Shard]
) -> tuple[list[LyricsReport], stream.Statistics]:
    if not parts:
        return [], stream.Statistics()
    recipe, device = tasks.run_task(run, _recipe, run, settings, num_gpus=run.gpus)
    budget = settings.token_budget or usual_budget(device)
    shared = tasks.share(recipe)
    return stream.stream(
        run,
        _groups(run, parts, device),
        stream.Source(
            "tokenise", partial(_tokenise, run, settings, weights, shared, budget), TOKENISED
        ),
        stream.Pool(
            "encode",
            _lyrics_encoder,
            (run, settings),
            ENCODED,
            actor=f"the lyrics encoder {settings.encoder}",
            num_gpus=run.gpus,
        ),
        stream.Sink("write", partial(_write, run)),
        description="encoding lyrics",
    )


def _groups(run: StageRun, parts: list[Shard], device: str) -> list[list[Shard]]:
    """Parts together until they are worth an actor's while; alone on a CPU, which takes longer."""
    if device == "cpu":
        return [[shard] for shard in parts]
    size = {info.base_name: info.size or 0 for info in run.workspace.files("ingest", "lyrics")}
    tokens = [_TOKENS_A_BYTE * size.get(part_name(shard.part), 0) for shard in parts]
    return stream.grouped(parts, tokens, TOKENS_A_GROUP)


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


def _recipe(run: StageRun, settings: LyricsConfig) -> tuple[Recipe, str]:
    """How the encoder's tokenizer works, and the type of the device that encoders run on."""
    from fusionrec.features.lyrics.recipes import recipe_of

    vocabulary = run.workspace.read("ingest", "vocabulary")["word"].to_pylist()
    with _encoder_folder(run, settings) as name:
        return recipe_of(name, tuple(vocabulary)), _device(run.gpus)


@lru_cache(maxsize=1)
def _tokenizer(shared: Any) -> WordTokenizer:
    """Of this process: it remembers the pieces that it has seen."""
    return WordTokenizer(tasks.shared(shared))


def _tokenise(
    run: StageRun,
    settings: LyricsConfig,
    weights: np.ndarray,
    shared: Any,
    budget: int,
    shard: Shard,
) -> Arrays:
    part = part_name(shard.part)
    songs = run.workspace.read_part("ingest", "songs", part, ["song_id", "track_id"])
    prepared = prepare(
        songs,
        run.workspace.read_part("ingest", "lyrics", part),
        _tokenizer(shared),
        weights,
        scheme=settings.tfidf,
        words=settings.words,
        token_budget=budget,
    )
    tokens = prepared.batches.tokens
    return {
        "song_id": songs["song_id"].combine_chunks(),
        "row": pa.array(prepared.rows, pa.int32()),
        "token": pa.array(tokens.ids),
        "length": pa.array(tokens.lengths, pa.int32()),
        "cut": pa.array(prepared.batches.cuts, pa.int32()),
    }


def _lyrics_encoder(
    run: StageRun, settings: LyricsConfig
) -> Callable[[Iterator[Arrays]], Iterator[Arrays]]:
    """Load the encoder once an actor."""
    # Imported here, so that only encoder actors pay for torch and transformers.
    from fusionrec.features.lyrics.encoder import load_encoder

    device = _device(run.gpus)
    with _encoder_folder(run, settings) as name:
        encoder = load_encoder(
            name, device=device, dtype=settings.dtype, compiled=settings.compiled
        )
    about = json.dumps(
        {
            "dimension": encoder.hidden_size,
            "dtype": encoder.dtype,
            "path": encoder.path,
            "processor": probes.lines("bfloat16 layers"),
        }
    )

    def encode(parts: Iterator[Arrays]) -> Iterator[Arrays]:
        begun: list[Arrays] = []

        def batches() -> Iterator[Batches]:
            for part in parts:
                begun.append(part)
                ids, lengths, cuts = (part[name].to_numpy() for name in ("token", "length", "cut"))
                yield Batches(Tokens(ids, bounds_of(lengths)), cuts)

        for vectors in encoder.encode_batches(batches(), pooling=settings.pooling):
            part = begun.pop(0)
            if len(vectors):
                metrics.count("fusionrec_documents_embedded", len(vectors))
                metrics.count("fusionrec_tokens_embedded", len(part["token"]))
            yield {
                "song_id": part["song_id"],
                "row": part["row"],
                "value": pa.array(vectors.ravel()),
                "encoder": pa.array([about]),
            }

    return encode


def _write(run: StageRun, shard: Shard, encoded: Arrays) -> LyricsReport:
    def write(shard: Shard) -> LyricsReport:
        about = json.loads(encoded["encoder"][0].as_py())
        rows = encoded["row"].to_numpy().astype(np.int64)
        vectors = encoded["value"].to_numpy().reshape(len(rows), about["dimension"])
        run.write(features(encoded["song_id"], rows, vectors), "lyrics", shard.part)
        return LyricsReport(len(encoded["song_id"]), len(rows), **about)

    return resumable(run, "lyrics", write, LyricsReport)(shard)


def _download_encoder(workspace: Workspace, folder: Path) -> str:
    from pyarrow import fs as pafs

    selector = pafs.FileSelector(workspace.path("pretrain", "model"))
    for info in workspace.fs.get_file_info(selector):
        content = workspace.read_bytes("pretrain", "model", info.base_name)
        (folder / info.base_name).write_bytes(content)
    return str(folder)
