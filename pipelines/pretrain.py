"""Pretrain: a small RoBERTa by masked-word modelling on the corpus's own lyrics.

It never sees the lyrics of validation or test songs. Each Ray Train worker reads the bags
(at most `pretrain.max_bags`, about 25 MB of text) and trains on its share of every batch;
the driver reads none of them.
"""

from __future__ import annotations

import math
import tempfile
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.errors import DataError
from fusionrec.features.lyrics import tfidf
from fusionrec.features.pretraining import loop, masked_words
from fusionrec.features.pretraining.tokenizer import build_tokenizer
from fusionrec.hashing import stable_hash
from fusionrec.models.collective import Collective
from pipelines.config import Config
from pipelines.runtime import cluster, distributed
from pipelines.runtime.command import as_command
from pipelines.runtime.stage import Counts, Stage
from pipelines.runtime.workspace import StageRun, Workspace, part_name, part_number


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Fit the word weights, then train; the first worker writes the model."""
    job = {"config": config, "run": run, "weights": lyrics_weights(config, workspace)}
    settings = config.pretrain
    with distributed.shown_progress(run, "pre-training"):
        return distributed.run(
            _pretrain, job, run, workers=settings.workers, num_gpus=settings.num_gpus
        )


def training_lyrics(workspace: Workspace, part: str) -> pa.Table:
    """The bags of one part's training songs."""
    songs = workspace.read_part("ingest", "songs", part, ["track_id"])["track_id"]
    split = workspace.read_part("split", "split", part, ["part"])["part"]
    train = songs.filter(pc.equal(split, "train")).combine_chunks()
    lyrics = workspace.read_part("ingest", "lyrics", part)
    return lyrics.filter(pc.is_in(lyrics["track_id"], value_set=train))


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


def lyrics_weights(config: Config, workspace: Workspace) -> np.ndarray:
    """TF-IDF weights of the words, fitted on the training songs' bags by map-reduce."""
    shards = [{"part": part_number(name)} for name in workspace.parts("ingest", "lyrics")]
    words = workspace.read("ingest", "vocabulary").num_rows
    reports = cluster.map_shards(
        partial(_count, workspace, words), shards, description="document frequencies"
    )
    total = reduce(
        add,
        (
            tfidf.Statistics(r["documents"], np.array(r["documents_with"]), np.array(r["total"]))
            for r in reports
        ),
    )
    return tfidf.word_weights(total, config.embed.lyrics.tfidf)


def _count(workspace: Workspace, words: int, shard: dict[str, Any]) -> Counts:
    statistics = tfidf.count(training_lyrics(workspace, part_name(shard["part"])), words)
    return {
        "documents": statistics.documents,
        "documents_with": statistics.document_frequency.tolist(),
        "total": statistics.total_count.tolist(),
    }


def settings_of(config: Config) -> masked_words.MlmSettings:
    """The encoder's size and training from the config.

    A word takes a token, and one more for its count where the encoder knows positions:
    without them it could not tell whose count a count is, so it gets the words alone.
    """
    chosen = config.pretrain
    return chosen.fill(
        masked_words.MlmSettings,
        intermediate_size=2 * chosen.hidden_size,
        max_tokens=min(510, (2 if chosen.positions else 1) * config.embed.lyrics.words + 2),
    )


def _pretrain(job: dict[str, Any], collective: Collective, device: str) -> Counts:
    config: Config = job["config"]
    run: StageRun = job["run"]
    lyrics, settings = config.embed.lyrics, settings_of(config)
    vocabulary = run.workspace.read("ingest", "vocabulary")["word"].to_pylist()
    bags = training_bags(run.workspace, config.pretrain.max_bags, config.seed)
    texts = tfidf.significant_texts(bags, job["weights"], lyrics.tfidf, vocabulary, lyrics.words)
    texts = [text for text in texts if text]
    tokenizer = build_tokenizer(
        vocabulary, counts=settings.positions, model_max_length=settings.max_tokens
    )
    result = loop.pretrain(
        texts,
        tokenizer,
        settings,
        seed=config.seed,
        collective=collective,
        device=device,
        progress=distributed.Reporter(run) if collective.rank == 0 else None,
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
    needs=lambda config: ("ingest", "split"),
    settings=lambda config: {
        "pretrain": config.pretrain.model_dump(exclude={"workers", "num_gpus"}),
        "words": config.embed.lyrics.words,
        "tfidf": config.embed.lyrics.tfidf,
        "seed": config.seed,
    },
    work=work,
)


if __name__ == "__main__":
    as_command(STAGE.name)
