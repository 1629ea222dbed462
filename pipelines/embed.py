"""Embed: every modality into one vector a song, in parts aligned with `songs`.

- metadata (paper 3.1.4): a Word2Vec for each text field, fitted on training songs by three
  parallel tasks (each reads one column, about 25 MB at a million songs); then a map.
- lyrics (3.1.5): TF-IDF weights by map-reduce; then a pool of actors, each with one
  encoder, turns the most significant words of every bag into a vector.
- audio: statistics of the Echo Nest segments.

The driver holds the word weights (40 kB) and one report a part.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import probes, schemas
from fusionrec.errors import DataError
from fusionrec.features import audio, metadata
from fusionrec.features.lyrics.shard import lyrics_features
from fusionrec.features.words import FieldWord2Vec, load_vectors
from fusionrec.tables import vectors
from pipelines.config import Config, LyricsConfig
from pipelines.pretrain import lyrics_weights
from pipelines.runtime import metrics, resources, sharding, tasks
from pipelines.runtime.command import as_command
from pipelines.runtime.stage import Counts, Stage, processor_lines, resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name, part_number

log = logging.getLogger("fusionrec")

PRETRAIN = "pretrain"
"""The value of `embed.lyrics.encoder` that asks for the workspace's own encoder."""


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Embed each modality the config names."""
    parts = [{"part": part_number(name)} for name in workspace.parts("ingest", "songs")]
    embed: dict[str, Callable[..., Counts]] = {
        "metadata": embed_metadata,
        "lyrics": embed_lyrics,
        "audio": embed_audio,
    }
    return {name: embed[name](config, run, parts) for name in config.embed.modalities}


# --- metadata ----------------------------------------------------------------------------


def embed_metadata(config: Config, run: StageRun, parts: list[dict[str, Any]]) -> Counts:
    """Fit one Word2Vec a field, then transform every part."""
    # Three at a time, or one after the other where each wants all CPUs of a node.
    threads = min(config.embed.metadata.threads, resources.node_cpus())
    fits = [
        tasks.submit(run, _fit_field, config, run, field, num_cpus=threads)
        for field in metadata.TEXT_FIELDS
    ]
    numbers = tasks.submit(run, _number_statistics, run)
    means: dict[str, float] = tasks.gather([*fits, numbers])[-1]
    reports = sharding.map_shards(
        run,
        resumable(run, "metadata", partial(_metadata_part, run, means)),
        parts,
        description="embedding metadata",
    )
    return _summed(reports)


def _training_songs(workspace: Workspace, columns: list[str]) -> pa.Table:
    songs = workspace.read("ingest", "songs", columns)
    part = workspace.read("split", "split", ["part"])["part"]
    return songs.filter(pc.equal(part, "train"))


def _fit_field(config: Config, run: StageRun, field: str) -> int:
    settings = config.embed.metadata
    texts = _training_songs(run.workspace, [field])[field].to_pylist()
    model = FieldWord2Vec.fit(
        texts,
        dimension=settings.dimension,
        epochs=settings.epochs,
        seed=config.seed,
        threads=settings.threads,
        initial=load_vectors(settings.vectors) if settings.vectors else None,
    )
    run.write_bytes(model.to_bytes(), "word2vec", f"{field}.safetensors")
    return len(texts)


def _number_statistics(run: StageRun) -> dict[str, float]:
    means = metadata.number_statistics(_training_songs(run.workspace, list(metadata.NUMBERS)))
    run.write_json(means, "word2vec", "number_means.json")
    return means


def _metadata_part(run: StageRun, means: dict[str, float], shard: dict[str, Any]) -> Counts:
    songs = run.workspace.read_part("ingest", "songs", part_name(shard["part"]))
    fields = {
        field: FieldWord2Vec.from_bytes(
            run.workspace.read_bytes(run.stage, "word2vec", f"{field}.safetensors")
        )
        for field in metadata.TEXT_FIELDS
    }
    rows, counts = metadata.metadata_features(songs, fields, means)
    present = np.ones(len(rows), bool)
    _write(run, "metadata", shard["part"], songs["song_id"], rows, present)
    return {"songs": len(rows), **counts, "dimension": rows.shape[1]}


# --- lyrics ------------------------------------------------------------------------------


def embed_lyrics(config: Config, run: StageRun, parts: list[dict[str, Any]]) -> Counts:
    """Fit the word weights, then encode every part's bags in a pool of actors."""
    weights = lyrics_weights(config, run)
    settings, why = _with_precision(config, run)
    log.info("lyrics encoder %s: %s, %s", settings.encoder, settings.dtype, why)
    reports = sharding.map_shards(
        run,
        _lyrics_encoder,
        parts,
        description="encoding lyrics",
        actor_arguments=(run, settings, weights),
        num_gpus=settings.num_gpus,
    )
    processor = processor_lines(reports)
    counts = _summed(reports)
    if counts["songs_with_lyrics"] == 0:
        raise DataError(
            "no song of the corpus has lyrics; name the musiXmatch files in source.lyrics or "
            "leave lyrics out: --set embed.modalities=[metadata]"
        )
    chosen = {name: reports[0][name] for name in ("dtype", "path")}
    return {
        **counts,
        "encoder": settings.encoder,
        **chosen,
        "dtype_chosen": why,
        "layers": processor,
    }


def _with_precision(config: Config, run: StageRun) -> tuple[LyricsConfig, str]:
    """The settings with one precision for all actors, and why it is that.

    Chosen once, in a worker like the encoder's: processors that differ would choose differently.
    """
    settings = config.embed.lyrics
    if settings.dtype != "auto":
        return settings, "as configured"
    dtype, why = tasks.run_task(run, _precision, run, settings, num_gpus=settings.num_gpus)
    return settings.model_copy(update={"dtype": dtype}), why


def _precision(run: StageRun, settings: LyricsConfig) -> tuple[str, str]:
    from fusionrec.features.lyrics.encoder import dtype_for, hidden_size_of

    with _encoder_folder(run, settings) as name:
        return dtype_for(settings.dtype, _device(settings), hidden_size_of(name))


def _device(settings: LyricsConfig) -> str:
    import torch

    torch.set_num_threads(1)
    return "cuda" if settings.num_gpus and torch.cuda.is_available() else "cpu"


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
) -> Callable[[dict[str, Any]], Counts]:
    """Load the encoder once an actor; the result encodes one part."""
    # Imported here, so that only encoder actors pay for torch and transformers.
    from fusionrec.features.lyrics.encoder import load_encoder

    device = _device(settings)
    with _encoder_folder(run, settings) as name:
        encoder = load_encoder(
            name, device=device, dtype=settings.dtype, compiled=settings.compiled
        )
    vocabulary = run.workspace.read("ingest", "vocabulary")["word"].to_pylist()

    def encode(shard: dict[str, Any]) -> Counts:
        part = shard["part"]
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
        return {
            "songs": songs.num_rows,
            "songs_with_lyrics": embedded,
            "dimension": encoder.hidden_size,
            "dtype": encoder.dtype,
            "path": encoder.path,
            "processor": probes.lines("bfloat16 layers"),
        }

    return resumable(run, "lyrics", encode)


def _download_encoder(workspace: Workspace, folder: Path) -> str:
    from pyarrow import fs as pafs

    selector = pafs.FileSelector(workspace.path("pretrain", "model"))
    for info in workspace.fs.get_file_info(selector):
        content = workspace.read_bytes("pretrain", "model", info.base_name)
        (folder / info.base_name).write_bytes(content)
    return str(folder)


# --- audio -------------------------------------------------------------------------------


def embed_audio(config: Config, run: StageRun, parts: list[dict[str, Any]]) -> Counts:
    """Statistics of timbre, pitches and loudness for every part."""
    reports = sharding.map_shards(
        run,
        resumable(run, "audio", partial(_audio_part, run)),
        parts,
        description="embedding audio",
    )
    counts = _summed(reports)
    if counts["songs_with_audio"] == 0:
        raise DataError(
            "no song of the corpus has segments; they are in the HDF5 tree and in aggregate files. "
            "Leave audio out: --set 'embed.modalities=[metadata,lyrics]'"
        )
    return counts


def _audio_part(run: StageRun, shard: dict[str, Any]) -> Counts:
    name = part_name(shard["part"])
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
    _write(run, "audio", shard["part"], songs["song_id"], rows, present)
    return {
        "songs": songs.num_rows,
        "songs_with_audio": int(present.sum()),
        "dimension": rows.shape[1],
    }


# --- shared ------------------------------------------------------------------------------


def _write(
    run: StageRun,
    modality: str,
    part: int,
    songs: pa.ChunkedArray,
    rows: np.ndarray,
    present: np.ndarray,
) -> None:
    columns = [songs.combine_chunks(), vectors(rows), pa.array(present)]
    schema = schemas.features(rows.shape[1])
    run.write(pa.Table.from_arrays(columns, schema=schema), modality, part)


def _summed(reports: list[Counts]) -> Counts:
    """Counts added up over parts; the dimension is the same in all."""
    totals: Counts = {}
    for report in reports:
        for name, value in report.items():
            if name == "dimension":
                totals[name] = value
            elif isinstance(value, int):
                totals[name] = totals.get(name, 0) + value
    return totals


STAGE = Stage(
    name="embed",
    needs=lambda config: (
        ("ingest", "split", "pretrain")
        if "lyrics" in config.embed.modalities and config.embed.lyrics.encoder == PRETRAIN
        else ("ingest", "split")
    ),
    settings=lambda config: {
        "embed": config.embed.model_dump(
            exclude={"lyrics": {"num_gpus", "token_budget", "compiled"}}
        ),
        "seed": config.seed,
    },
    work=work,
)


if __name__ == "__main__":
    as_command(STAGE.name)
