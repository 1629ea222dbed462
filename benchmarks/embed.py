"""Embedding lyrics: fusionrec's encoder against the naive loop, and against the machine.

    python benchmarks/embed.py CORPUS [--words 128] [--rounds 3] [--device cpu] [--json]

A roberta-base-shaped model with random weights runs over the bags of a musiXmatch corpus on
one thread. `naive` is the loop one would write first: batches of 32 in the given order, padded
to 512 tokens, float32. `padded` sorts by length and batches by a token budget; `packed` is
fusionrec's forward pass without padding. The share of the peak counts the multiplications
that the pass really does, against the best rate of a large matrix product in the same
precision, measured between the rounds. All contestants run in turns.

There is no way to have RoBERTa's own vocabulary without a network, so a byte-level BPE is
trained on the corpus's own pieces, of a size that gives its 242 tokens a song on average.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from roberta_shape import cosine, work, write_model

from fusionrec.features.lyrics import tfidf
from fusionrec.features.lyrics.encoder import LyricsEncoder, load_encoder
from fusionrec.features.lyrics.hub import quiet_transformers
from fusionrec.features.lyrics.pieces import WordTokenizer
from fusionrec.features.lyrics.products import prepacks
from fusionrec.features.lyrics.recipes import recipe_of
from fusionrec.formats import musixmatch
from fusionrec.probes import processor


def corpus_words(corpus: Path, words: int, limit: int) -> tuple[tfidf.ChosenWords, list[str]]:
    """The significant words of every song, and the vocabulary."""
    path = str(corpus / "musixmatch" / "mxm_dataset_test.txt")
    vocabulary = musixmatch.read_vocabulary(path)
    bags = musixmatch.read_lyrics(path).table[:limit]
    weights = tfidf.word_weights(tfidf.count(bags, len(vocabulary)), "sklearn")
    _, chosen = tfidf.significant_words(bags, weights, "sklearn", words).spoken()
    return chosen, vocabulary


def naive(folder: str, device: str) -> Callable[[list[str]], np.ndarray]:
    """The first loop one would write."""
    with quiet_transformers():
        model = transformers.AutoModel.from_pretrained(folder).eval().to(device)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    @torch.inference_mode()
    def encode(texts: list[str]) -> np.ndarray:
        batch = tokenizer(
            texts, padding="max_length", truncation=True, max_length=512, return_tensors="pt"
        ).to(device)
        return model(**batch).last_hidden_state[:, 0].cpu().numpy()

    return encode


def padded(folder: str, dtype: Any, device: str) -> LyricsEncoder:
    """fusionrec's encoder, made to take transformers' own forward pass."""
    from fusionrec.features.lyrics import encoder

    supports, encoder.supports = encoder.supports, lambda model: False
    try:
        return load_encoder(folder, dtype=dtype, device=device)
    finally:
        encoder.supports = supports


def peak(dtype: torch.dtype, device: str) -> float:
    """Operations per second of a large matrix product."""
    size = 8192 if device != "cpu" else 3072
    a = torch.randn(size, size, dtype=dtype, device=device)
    best = 0.0
    for _ in range(2):
        _synchronise(device)
        start = clock(device)
        a @ a
        _synchronise(device)
        best = max(best, 2 * size**3 / (clock(device) - start))
    return best


def clock(device: str) -> float:
    """CPU time on a CPU, where others may be running; else the wall's."""
    return time.process_time() if device == "cpu" else time.perf_counter()


def _synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def rate(function: Callable[[], object], count: int, device: str) -> float:
    """Documents per second of one call."""
    _synchronise(device)
    start = clock(device)
    function()
    _synchronise(device)
    return count / (clock(device) - start)


def main() -> None:
    """Run all contestants and print their rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", type=Path, help="folder with musixmatch/mxm_dataset_test.txt")
    parser.add_argument("--words", type=int, default=128)
    parser.add_argument("--songs", type=int, default=64, help="songs of a round")
    parser.add_argument("--naive-songs", type=int, default=8, help="songs of the naive loop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--vocabulary", type=int, default=8000, help="of the trained BPE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    device = options.device
    chosen, vocabulary = corpus_words(options.corpus, options.words, 8_000)
    texts = chosen.texts(vocabulary)
    rng = np.random.default_rng(0)
    songs = [texts[i] for i in rng.permutation(len(texts))[: options.songs]]
    with tempfile.TemporaryDirectory() as folder:
        write_model(
            folder,
            texts,
            vocabulary=options.vocabulary,
            hidden=options.hidden,
            layers=options.layers,
        )
        loop = naive(folder, device)
        padded32, padded16 = (padded(folder, d, device) for d in ("float32", "bfloat16"))
        packed32, packed16 = (
            load_encoder(folder, dtype=d, device=device) for d in ("float32", "bfloat16")
        )
        automatic = load_encoder(folder, device=device).dtype
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        recipe = recipe_of(folder, vocabulary)
    pieces = WordTokenizer(recipe)
    few = songs[: options.naive_songs]
    contestants: dict[str, tuple[Callable[[], object], int]] = {
        "naive float32": (
            lambda: [loop(few[i : i + 32]) for i in range(0, len(few), 32)],
            len(few),
        ),
        "padded float32": (lambda: padded32.encode(songs), len(songs)),
        "padded bfloat16": (lambda: padded16.encode(songs), len(songs)),
        "packed float32": (lambda: packed32.encode(songs), len(songs)),
        "packed bfloat16": (lambda: packed16.encode(songs), len(songs)),
    }
    rates = dict.fromkeys(contestants, 0.0)
    peaks = {"float32": 0.0, "bfloat16": 0.0}
    for _ in range(options.rounds):
        for name, (function, count) in contestants.items():
            for kind in peaks:
                peaks[kind] = max(peaks[kind], peak(getattr(torch, kind), device))
            rates[name] = max(rates[name], rate(function, count, device))
    lengths = np.array([len(row) for row in tokenizer(songs, truncation=True)["input_ids"]])
    a_song = work(lengths, options.hidden, options.layers) / len(songs)
    once = rate(lambda: tokenizer(texts, truncation=True, max_length=512), len(texts), "cpu")
    pieces(chosen)
    result = {
        "tokens_a_song": float(lengths.mean()),
        "default_dtype": automatic,
        "documents_per_second": rates,
        "ratio_to_naive": {name: rates[name] / rates["naive float32"] for name in rates},
        "peak_flops": peaks,
        "share_of_peak": {k: rates[f"packed {k}"] * a_song / peaks[k] for k in peaks},
        "worst_cosine_to_float32": cosine(packed16.encode(songs), padded32.encode(songs)),
        "processor": processor(),
        "prepacked": prepacks().reason,
        "tokeniser_ratio": rate(lambda: pieces(chosen), len(texts), "cpu") / once,
        "tokenised_by_piece": recipe.by_piece,
    }
    print(f"{lengths.mean():.0f} tokens a song; default precision {automatic}", file=sys.stderr)
    for name, documents in rates.items():
        print(
            f"{name:<18}{documents:>10.2f} documents/s{documents / rates['naive float32']:>8.2f} x",
            file=sys.stderr,
        )
    for kind, share in result["share_of_peak"].items():
        print(
            f"packed {kind}: {share:.2f} of the peak of {peaks[kind] / 1e9:,.0f} GFLOP/s",
            file=sys.stderr,
        )
    worst = result["worst_cosine_to_float32"]
    print(f"packed bfloat16: worst cosine to float32 {worst:.6f}", file=sys.stderr)
    print(f"tokeniser by pieces {result['tokeniser_ratio']:.1f} x", file=sys.stderr)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
