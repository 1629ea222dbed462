"""Lyrics (paper 3.1.5): word weights, then a stream of parts past a pool of encoders.

Tasks choose the most significant words of every bag of a part, or take the lyrics as they are
written where the source has them so, and tokenise them (:mod:`pipelines.embed.tokens`); an actor
with an encoder turns the tokens into vectors; tasks write them. What a part's vectors are depends
on nothing but the part.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from fusionrec import probes
from fusionrec.errors import DataError
from fusionrec.features.lyrics.shard import features
from fusionrec.features.lyrics.texts import Long
from fusionrec.features.lyrics.tokens import Batches, Tokens, bounds_of, usual_budget
from pipelines.config import Config, LyricsConfig
from pipelines.embed.tokens import (
    PRETRAIN,
    TEXTS,
    TOKENISED,
    device_of,
    encoder_folder,
    reads_text,
    tokenise,
    tokenizers_of,
)
from pipelines.runtime import metrics, stream, tasks
from pipelines.runtime.gpus import GpuUse
from pipelines.runtime.resume import finished, resumable
from pipelines.runtime.shards import Shard
from pipelines.runtime.stage import Counts, processor_lines
from pipelines.runtime.stream import Arrays
from pipelines.runtime.workspace import StageRun, part_name
from pipelines.words import lyrics_weights

log = logging.getLogger("fusionrec")

GPUS = GpuUse(
    "embed.lyrics.num_gpus",
    "an encoder",
    applies=lambda config: "lyrics" in config.embed.modalities,
)
"""What encodes on GPUs; no other modality does."""


@dataclass(frozen=True)
class LyricsReport:
    """Songs of a part, the width of its vectors, and how the encoder made them.

    `told` has the songs with lyrics as they are written, those of them that are encoded so, and
    those whose lyrics are longer than the encoder takes.
    """

    songs: int
    songs_with_lyrics: int
    dimension: int
    dtype: str
    path: str
    processor: dict[str, int]
    told: dict[str, int]


TOKENS_A_GROUP = 1_000_000
"""That an actor on a GPU has at a time: half a second of a large one's work."""

_TOKENS_A_BYTE = {"lyrics": 1.2, TEXTS: 0.6}
"""Of a part of lyrics, roughly: of bags 230 tokens a song of 190 bytes; texts come beside them."""

ENCODED = {
    "song_id": pa.string(),
    "row": pa.int32(),
    "length": pa.int32(),
    "value": pa.float32(),
    "encoder": pa.string(),
    "told": pa.string(),
}
"""Of a part: its songs; of each text the song's position, its tokens and the vector; what the
encoder is; what was counted of its texts."""


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
            "no song of the corpus has lyrics; name the musiXmatch files in source.lyrics (of "
            "tables, source.tables.lyrics) or leave lyrics out: --set embed.modalities=[metadata]"
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
        **({"texts": _texts(settings, reports)} if run.workspace.parts("ingest", TEXTS) else {}),
        "stream": statistics.counts(),
    }


def _texts(settings: LyricsConfig, reports: list[LyricsReport]) -> Counts:
    """What became of lyrics as they are written: of how many songs they were read so."""
    texts, as_text, longer = (
        sum(report.told[name] for report in reports) for name in ("texts", "as_text", "longer")
    )
    by_words = texts - as_text
    if by_words and settings.encoder == PRETRAIN:
        log.warning(
            "the text of %s songs' lyrics is left unread, and their most significant words are "
            "encoded: embed.lyrics.encoder: pretrain knows the corpus's words alone. An encoder "
            "by name or folder reads texts",
            f"{by_words:,}",
        )
    return {"songs": as_text, "songs_by_words": by_words, "longer": longer, "long": settings.long}


def _streamed(
    run: StageRun, settings: LyricsConfig, weights: np.ndarray, parts: list[Shard]
) -> tuple[list[LyricsReport], stream.Statistics]:
    if not parts:
        return [], stream.Statistics()
    tokenizers, device = tasks.run_task(run, tokenizers_of, run, settings, num_gpus=run.gpus)
    budget = settings.token_budget or usual_budget(device)
    shared = tasks.share(tokenizers)
    return stream.stream(
        run,
        _groups(run, parts, device),
        stream.Source(
            "tokenise", partial(tokenise, run, settings, weights, shared, budget), TOKENISED
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
    tokens = np.zeros(len(parts))
    for artifact, of_a_byte in _TOKENS_A_BYTE.items():
        if run.workspace.parts("ingest", artifact):
            files = run.workspace.files("ingest", artifact)
            size = {info.base_name: info.size or 0 for info in files}
            tokens += [of_a_byte * size.get(part_name(shard.part), 0) for shard in parts]
    return stream.grouped(parts, tokens.tolist(), TOKENS_A_GROUP)


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

    with encoder_folder(run, settings) as name:
        return dtype_for(settings.dtype, device_of(run.gpus), hidden_size_of(name))


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
    long = settings.long if reads_text(config) else "cut"
    return tasks.run_task(None, _checked, settings, long, gpus, num_gpus=gpus)


def _checked(settings: LyricsConfig, long: Long, gpus: float) -> str:
    from fusionrec.features.lyrics import check

    found = check.check_encoder(
        settings.encoder,
        pooling=settings.pooling,
        dtype=settings.dtype,
        device=device_of(gpus),
        long=long,
    )
    return (
        f"{settings.encoder}: vectors of {found.hidden_size}, up to {found.max_tokens} tokens, "
        f"{found.dtype}, {found.path}"
    )


def _lyrics_encoder(
    run: StageRun, settings: LyricsConfig
) -> Callable[[Iterator[Arrays]], Iterator[Arrays]]:
    """Load the encoder once an actor."""
    # Imported here, so that only encoder actors pay for torch and transformers.
    from fusionrec.features.lyrics.encoder import load_encoder

    device = device_of(run.gpus)
    with encoder_folder(run, settings) as name:
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
                "length": part["length"],
                "value": pa.array(vectors.ravel()),
                "encoder": pa.array([about]),
                "told": part["told"],
            }

    return encode


def _write(run: StageRun, shard: Shard, encoded: Arrays) -> LyricsReport:
    def write(shard: Shard) -> LyricsReport:
        about = json.loads(encoded["encoder"][0].as_py())
        rows, lengths = (encoded[name].to_numpy().astype(np.int64) for name in ("row", "length"))
        vectors = encoded["value"].to_numpy().reshape(len(rows), about["dimension"])
        run.write(features(encoded["song_id"], rows, vectors, lengths), "lyrics", shard.part)
        spoken, told = len(np.unique(rows)), json.loads(encoded["told"][0].as_py())
        return LyricsReport(len(encoded["song_id"]), spoken, **about, told=told)

    return resumable(run, "lyrics", write, LyricsReport)(shard)
