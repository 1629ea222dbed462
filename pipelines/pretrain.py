"""Pretrain: a small RoBERTa by masked-word modelling on the corpus's own lyrics.

It never sees the lyrics of validation or test songs. One task reads the bags (at most
`pretrain.max_bags`, about 25 MB of text) and trains.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from fusionrec.config import Config
from fusionrec.errors import DataError
from fusionrec.features import mlm, tfidf
from fusionrec.features.word_tokenizer import build_tokenizer
from fusionrec.ranking.split import stable_hash
from pipelines import cluster
from pipelines.stage import Counts, Stage
from pipelines.workspace import StageRun, Workspace, part_name, part_number


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Fit the word weights, then train in one task."""
    weights = lyrics_weights(config, workspace)
    return cluster.run_task(_pretrain, config, run, weights)


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


def _pretrain(config: Config, run: StageRun, weights: np.ndarray) -> Counts:
    workspace, lyrics = run.workspace, config.embed.lyrics
    vocabulary = workspace.read("ingest", "vocabulary")["word"].to_pylist()
    bags = training_bags(workspace, config.pretrain.max_bags, config.seed)
    texts = tfidf.significant_texts(bags, weights, lyrics.tfidf, vocabulary, lyrics.words)
    texts = [text for text in texts if text]
    settings = config.pretrain
    max_tokens = min(510, 2 * lyrics.words + 2)
    tokenizer = build_tokenizer(vocabulary, model_max_length=max_tokens)
    torch.set_num_threads(max(1, os.cpu_count() or 1))
    result = mlm.pretrain(
        texts,
        tokenizer,
        mlm.MlmSettings(
            hidden_size=settings.hidden_size,
            intermediate_size=2 * settings.hidden_size,
            layers=settings.layers,
            heads=settings.heads,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            max_tokens=max_tokens,
        ),
        seed=config.seed,
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        mlm.save(result, tokenizer, folder)
        files = sorted(path for path in folder.iterdir() if path.is_file())
        for path in files:
            run.write_bytes(path.read_bytes(), "model", path.name)
    return {
        "bags": len(texts),
        "parameters": sum(p.numel() for p in result.model.parameters()),
        "heldout_perplexity": result.heldout_perplexity,
        "unigram_perplexity": result.unigram_perplexity,
    }


STAGE = Stage(
    name="pretrain",
    needs=lambda config: ("ingest", "split"),
    settings=lambda config: {
        "pretrain": config.pretrain.model_dump(),
        "words": config.embed.lyrics.words,
        "tfidf": config.embed.lyrics.tfidf,
        "seed": config.seed,
    },
    work=work,
)


if __name__ == "__main__":
    from pipelines.cli import stage_main

    stage_main(STAGE.name)
