"""The embed stage from Parquet to Parquet, and sentence-transformers on the same lyrics."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import roberta_shape
import torch
import transformers

from fusionrec.features.lyrics import tfidf
from fusionrec.features.lyrics.encoder import load_encoder
from fusionrec.features.lyrics.hub import quiet_transformers
from fusionrec.features.lyrics.pieces import WordTokenizer
from fusionrec.features.lyrics.recipes import recipe_of
from fusionrec.features.lyrics.shard import Prepared, features, prepare
from fusionrec.features.lyrics.tokens import Batches, usual_budget
from gpu_parts import lyrics, stopwatch
from gpu_parts.embed import Size
from gpu_parts.report import Clock, Options, Report, synchronise


@dataclass(frozen=True)
class Corpus:
    """Shards and a model in `folder`, and what the stage knows of the words."""

    folder: Path
    weights: np.ndarray
    words: list[str]
    texts: list[str]

    @classmethod
    def write(cls, folder: Path, size: Size) -> Corpus:
        """Lyrics like musiXmatch's, and a model with a tokenizer trained on them."""
        bags, words = lyrics.bags(size.distinct), lyrics.vocabulary()
        lyrics.write_shards(folder, size.shards, size.songs, bags)
        weights = tfidf.word_weights(tfidf.count(bags, len(words)), "sklearn")
        texts = tfidf.significant_texts(bags, weights, "sklearn", words, 128)
        (folder / "model").mkdir()
        roberta_shape.write_model(
            str(folder / "model"),
            texts[:2_000],
            vocabulary=size.vocabulary,
            hidden=size.hidden,
            layers=size.layers,
        )
        return cls(folder, weights, words, texts)


def run(report: Report, options: Options, size: Size, limit: float) -> None:
    """On lyrics that are made first; `limit` is the peak in operations a second."""
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        corpus = Corpus.write(Path(scratch), size)
        report.figure("making the lyrics and the model", time.perf_counter() - started, "s")
        with report.step("stage, Parquet to Parquet"):
            parquet_to_parquet(report, options, size, corpus, limit)
            report.memory(options.device, "stage")
        with report.step("agreement"):
            agreement(report, options, corpus)
        with report.step("sentence-transformers"):
            peer(report, options, size, corpus)


def parquet_to_parquet(
    report: Report, options: Options, size: Size, corpus: Corpus, limit: float
) -> None:
    """From Parquet to Parquet by the product's own code, shard by shard, in one process.

    The stage reads, tokenises and writes in other processes, beside the encoder's.
    """
    folder = corpus.folder
    started = time.perf_counter()
    encoder = load_encoder(str(folder / "model"), device=options.device)
    report.figure("loading the encoder", time.perf_counter() - started, "s", encoder.dtype)
    tokenize = WordTokenizer(recipe_of(str(folder / "model"), tuple(corpus.words)))

    def read(shard: int) -> tuple[pa.Table, Prepared]:
        songs = pq.read_table(folder / f"songs-{shard:05d}.parquet")
        bags = pq.read_table(folder / f"lyrics-{shard:05d}.parquet")
        budget = usual_budget(options.device)
        return songs, prepare(songs, bags, tokenize, corpus.weights, token_budget=budget)

    def encode(shards: range) -> Iterator[int]:
        """Songs with lyrics of each shard, once it is written."""
        begun: list[tuple[int, pa.Table, Prepared]] = []

        def batches() -> Iterator[Batches]:
            for shard in shards:
                songs, prepared = read(shard)
                begun.append((shard, songs, prepared))
                yield prepared.batches

        for found in encoder.encode_batches(batches()):
            shard, songs, prepared = begun.pop(0)
            table = features(songs["song_id"].combine_chunks(), prepared.rows, found)
            # As the product writes vectors.
            path = folder / f"features-{shard:05d}.parquet"
            pq.write_table(table, path, compression="zstd", use_dictionary=["song_id", "present"])
            yield len(found)

    started = time.perf_counter()
    list(encode(range(1)))
    report.figure(
        "the first shard", time.perf_counter() - started, "s", f"{size.songs * 3 // 4:,} lyrics"
    )
    done, tokens, spent, longest = 0, encoder.tokens, 0.0, options.seconds(75, 1.0)
    synchronise(options.device)
    with stopwatch.watching(gpu=options.on_gpu) as watch:
        started = time.perf_counter()
        for songs in encode(range(1, size.shards)):
            done += songs
            spent = time.perf_counter() - started
            if spent > longest:
                break
        busy = watch.device_seconds() if options.on_gpu else watch.seconds["forward"]
    tokens = encoder.tokens - tokens
    note = f"{done:,} lyrics of {tokens / done:.0f} tokens in {spent:.1f} s"
    report.figure("stage, Parquet to Parquet", done / spent, "lyrics/s", note)
    whole = f"{lyrics.LYRICS:,} lyrics"
    report.figure(whole, lyrics.LYRICS * spent / done, "s", "at that rate")
    report.figure("share of the time the device waited", 1 - busy / spent)
    # Its batches are those of the same lengths as the forward pass's own.
    lengths = lyrics.lengths(100_000)
    of_a_token = roberta_shape.work(lengths, size.hidden, size.layers) / lengths.sum()
    report.figure("stage: share of peak", tokens * of_a_token / spent / limit)
    for name, seconds in watch.seconds.items():
        report.figure(f"stage: share of the time, {name}", seconds / spent, note="on the CPU")


def agreement(report: Report, options: Options, corpus: Corpus) -> None:
    """How far the automatic precision is from transformers' own float32 pass."""
    model_folder, texts = corpus.folder / "model", corpus.texts[:64]
    encoder = load_encoder(str(model_folder), device=options.device)
    with quiet_transformers():
        model = transformers.AutoModel.from_pretrained(model_folder).eval().to(options.device)
        tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    rows = []
    with torch.inference_mode():
        for text in texts:
            ids = tokenizer(text, truncation=True, max_length=512, return_tensors="pt")["input_ids"]
            rows.append(model(ids.to(options.device)).last_hidden_state[0, 0].float().cpu().numpy())
    worst = roberta_shape.cosine(encoder.encode(texts), np.stack(rows))
    report.figure(f"worst cosine, {encoder.dtype}", worst, note="to transformers in float32")


def peer(report: Report, options: Options, size: Size, corpus: Corpus) -> None:
    """The same texts through sentence-transformers' own `encode`, and through ours."""
    from sentence_transformers import SentenceTransformer

    model_folder = corpus.folder / "model"
    # The files by which it knows what to do with a model of the hub.
    (model_folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": size.hidden, "pooling_mode_cls_token": True}
    pooling["pooling_mode_mean_tokens"] = False
    (model_folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (model_folder / "modules.json").write_text(json.dumps(modules))
    (model_folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512}))
    encoder = load_encoder(str(model_folder), device=options.device)
    with quiet_transformers():
        other = SentenceTransformer(str(model_folder), device=options.device)
    other.to(getattr(torch, encoder.dtype))
    sample = corpus.texts if options.on_gpu else corpus.texts[:16]
    rates: dict[str, float] = {}
    for batch in (32, 256) if options.on_gpu else (8,):

        def theirs(some: list[str], batch: int = batch) -> np.ndarray:
            found = other.encode(
                some, batch_size=batch, convert_to_tensor=True, show_progress_bar=False
            )
            vectors: np.ndarray = found.float().cpu().numpy()
            return vectors

        rates[f"batches of {batch}"] = _rate(theirs, sample, options)
    ours = _rate(encoder.encode, sample, options)
    best = max(rates, key=rates.__getitem__)
    note = f"{encoder.dtype}, {best}"
    report.figure("sentence-transformers' encode", rates[best], "lyrics/s", note)
    report.figure("fusionrec's encode, the same texts", ours, "lyrics/s")
    report.figure("fusionrec over sentence-transformers", ours / rates[best], "x")
    few = sample[:64]
    worst = roberta_shape.cosine(encoder.encode(few), theirs(few))
    report.figure("worst cosine to sentence-transformers", worst)


def _rate(encode: Callable[[list[str]], object], texts: list[str], options: Options) -> float:
    encode(texts[:64])
    clock = Clock(options.seconds(6, 0.1), options.device)
    for _ in clock:
        encode(texts)
    return len(texts) * clock.count / clock.seconds
