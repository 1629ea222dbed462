"""Pretrain: a small RoBERTa by masked-word modelling on the corpus's own lyrics.

It never sees the lyrics of validation or test songs. Each Ray Train worker reads the bags
(at most `pretrain.max_bags`, about 25 MB of text) and trains on its share of every batch;
the driver reads none of them.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from fusionrec.errors import DataError
from fusionrec.features.lyrics import tfidf
from fusionrec.features.pretraining import loop, masked_words
from fusionrec.features.pretraining.settings import MlmSettings
from fusionrec.features.pretraining.tokenizer import build_tokenizer
from fusionrec.hashing import stable_hash
from pipelines import ingest, split
from pipelines.config import Config
from pipelines.runtime import distributed, progress
from pipelines.runtime.command import as_command
from pipelines.runtime.gpus import GpuUse
from pipelines.runtime.stage import Counts, Stage
from pipelines.runtime.workspace import StageRun, Workspace
from pipelines.words import lyrics_weights, training_lyrics


@dataclass(frozen=True)
class PretrainJob:
    """What the workers train; `weights` are those of the vocabulary's words."""

    config: Config
    run: StageRun
    weights: np.ndarray


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Fit the word weights, then train; the first worker writes the model."""
    job = PretrainJob(config, run, lyrics_weights(config, run))
    settings = config.pretrain
    with progress.watched(run, "pre-training"):
        return distributed.run(
            _pretrain,
            job,
            run,
            workers=settings.workers,
            num_gpus=run.gpus,
            patience=config.cluster.patience,
        )


def training_bags(workspace: Workspace, limit: int, seed: int) -> pa.Table:
    """Bags of training songs and of tracks outside the corpus, at most `limit` by hash."""
    parts = workspace.parts("ingest", "lyrics")
    bags = pa.concat_tables(
        [
            workspace.read("ingest", "other_lyrics"),
            *(training_lyrics(workspace, part) for part in parts),
        ]
    )
    if bags.num_rows == 0:
        raise DataError(
            "no lyrics to pretrain an encoder on: name musiXmatch files in source.lyrics, "
            "or leave lyrics out with --set embed.modalities=[metadata]"
        )

    order = np.argsort(stable_hash(bags["track_id"].to_pylist(), seed=seed, purpose="pretrain"))
    return bags.take(np.sort(order[:limit]))


def settings_of(config: Config) -> MlmSettings:
    """The encoder's size and training from the config.

    A word takes a token, and one more for its count where the encoder knows positions:
    without them it could not tell whose count a count is, so it gets the words alone.
    """
    chosen = config.pretrain
    return chosen.fill(
        MlmSettings,
        intermediate_size=2 * chosen.hidden_size,
        max_tokens=min(510, (2 if chosen.positions else 1) * config.embed.lyrics.words + 2),
    )


def _pretrain(job: PretrainJob, worker: distributed.Worker) -> Counts:
    config, run, collective = job.config, job.run, worker.collective
    lyrics, settings = config.embed.lyrics, settings_of(config)
    vocabulary = run.workspace.read("ingest", "vocabulary")["word"].to_pylist()
    bags = training_bags(run.workspace, config.pretrain.max_bags, config.seed)
    texts = tfidf.significant_texts(bags, job.weights, lyrics.tfidf, vocabulary, lyrics.words)
    texts = [text for text in texts if text]
    if settings.dtype == "auto":  # what was begun goes on in the same precision
        halves = loop.autocasts("auto", worker.collective, worker.device)
        halves = run.choose("precision", lambda: halves)
        settings = replace(settings, dtype="bfloat16" if halves else "float32")
    tokenizer = build_tokenizer(
        vocabulary, counts=settings.positions, model_max_length=settings.max_tokens
    )
    result = loop.pretrain(
        texts,
        tokenizer,
        settings,
        seed=config.seed,
        collective=collective,
        device=worker.device,
        progress=progress.Reporter(run) if collective.rank == 0 else None,
    )
    if collective.rank == 0:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            masked_words.save(result, tokenizer, folder)
            for path in sorted(path for path in folder.iterdir() if path.is_file()):
                run.write_bytes(path.read_bytes(), "model", path.name)
    return {
        "bags": len(texts),
        "parameters": sum(p.numel() for p in result.model.parameters() if p.requires_grad),
        "steps": len(result.losses),
        "heldout_perplexity": _number(result.heldout_perplexity),
        "unigram_perplexity": _number(result.unigram_perplexity),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


STAGE = Stage(
    name="pretrain",
    needs=lambda config: (ingest.STAGE, split.STAGE),
    settings=lambda config: {
        "pretrain": config.pretrain.model_dump(exclude={"workers", "num_gpus"}),
        "words": config.embed.lyrics.words,
        "tfidf": config.embed.lyrics.tfidf,
        "seed": config.seed,
    },
    work=work,
    demand=lambda config: distributed.demand("pretrain", config.pretrain.workers),
    gpus=GpuUse("pretrain.num_gpus", "a worker"),
)


if __name__ == "__main__":
    as_command(STAGE.name)
