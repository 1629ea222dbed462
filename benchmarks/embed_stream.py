"""The stream of lyrics past an encoder: how long does the encoder wait, without a GPU to ask?

    python benchmarks/embed_stream.py CORPUS [--parts 300] [--tasks 4] [--json]

The encoder is one that sleeps as long as an H100 would compute (0.46 microseconds a token, 40 % of
its bfloat16 peak for a roberta-base); all else is the embed stage's own: parts of 1,000 songs, of
which 238 have lyrics, are read, their words chosen and tokenised by tasks, and the vectors written.
`earlier` is the form that the stage had before, in which the encoder's actor did all of it, one
after the other. Both run in turns under one Ray, in the other order each round, with `--tasks` CPUs
beside the actor's.

The share of the time that the encoder waited is what it did not sleep, of the time from its first
part to its last. What decides it is the time a token of the tasks, which is told, too, against the
earlier form's. It is time on the wall, and CPU time only on idle cores, no fewer than tasks: with
fewer, both wait longer.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import transformers
from roberta_shape import write_model

from fusionrec.features.lyrics import tfidf
from fusionrec.features.lyrics.hub import quiet_transformers
from fusionrec.features.lyrics.shard import features
from fusionrec.features.lyrics.tokens import usual_budget
from fusionrec.formats import musixmatch
from pipelines.config import ClusterConfig, LyricsConfig
from pipelines.embed import lyrics, tokens
from pipelines.runtime import session, stream, tasks
from pipelines.runtime.shards import Shard, shards_of
from pipelines.runtime.workspace import StageRun, Workspace, part_name

SECONDS_A_TOKEN = 0.46e-6
WIDTH = 768
SONGS, LYRICS = 1_000, 238
"""Of a part: songs, and how many of them have lyrics in the full data."""

Span = tuple[float, float, float, int]
"""Of a part in the encoder: when it began, when it ended, seconds asleep, tokens."""


def ingested(corpus: Path, place: Path, parts: int) -> tuple[StageRun, np.ndarray, list[str]]:
    """A workspace with parts of songs and lyrics, again and again the corpus's own."""
    path = str(corpus / "musixmatch" / "mxm_dataset_test.txt")
    vocabulary = musixmatch.read_vocabulary(path)
    bags = musixmatch.read_lyrics(path).table
    weights = tfidf.word_weights(tfidf.count(bags, len(vocabulary)), "sklearn")
    run = Workspace(str(place)).begin("ingest", {})
    assert run is not None
    rng = np.random.default_rng(0)
    tracks = pa.array([f"TR{i:016d}" for i in range(SONGS)])
    songs = pa.table({"song_id": [f"SO{i:016d}" for i in range(SONGS)], "track_id": tracks})
    for part in range(parts):
        chosen = bags.take(pa.array(rng.integers(0, bags.num_rows, LYRICS)))
        spoken = tracks.take(pa.array(np.sort(rng.permutation(SONGS)[:LYRICS])))
        run.write(songs, "songs", part)
        run.write(chosen.set_column(0, chosen.schema.field(0), [spoken]), "lyrics", part)
    run.write(pa.table({"word": vocabulary}), "vocabulary")
    run.commit({})
    workspace = run.workspace
    embed = workspace.begin("embed", {"benchmark": 1})
    assert embed is not None
    texts = tfidf.significant_texts(bags[:4_000], weights, "sklearn", vocabulary, 128)
    return embed, weights, [text for text in texts if text]


def asleep(tokens: int) -> float:
    """Sleep as long as the encoder would compute; how long it was meant to be."""
    seconds = tokens * SECONDS_A_TOKEN
    time.sleep(seconds)
    return seconds


def vectors(texts: int) -> np.ndarray:
    """Numbers as long to write as vectors are, float32 (texts, WIDTH)."""
    return np.resize(_NUMBERS, (texts, WIDTH))


_NUMBERS = np.random.default_rng(0).standard_normal(100_003).astype(np.float32)


# --- the stage's form ------------------------------------------------------------------------


def sleeper() -> Callable[[Iterator[stream.Arrays]], Iterator[stream.Arrays]]:
    """Instead of the stage's own encoder."""
    about = json.dumps({"dimension": WIDTH, "dtype": "float32", "path": "packed", "processor": {}})

    def encode(parts: Iterator[stream.Arrays]) -> Iterator[stream.Arrays]:
        for part in parts:
            asleep(len(part["token"]))
            yield {
                "song_id": part["song_id"],
                "row": part["row"],
                "length": part["length"],
                "value": pa.array(vectors(len(part["row"])).ravel()),
                "encoder": pa.array([about]),
                "told": part["told"],
            }

    return encode


def streamed(run: StageRun, settings: LyricsConfig, weights: np.ndarray) -> dict[str, float]:
    """Share of the time in which the encoder waited, and the tasks' time a token."""
    parts = shards_of(run.workspace, "ingest", "songs")
    tokenizers, _ = tasks.run_task(run, tokens.tokenizers_of, run, settings)
    budget = usual_budget("cuda")
    shared = tasks.share(tokenizers)
    tokenise = partial(tokens.tokenise, run, settings, weights, shared, budget)
    _, statistics = stream.stream(
        run,
        lyrics._groups(run, parts, "cuda"),
        stream.Source("tokenise", tokenise, tokens.TOKENISED),
        stream.Pool("encode", sleeper, (), lyrics.ENCODED, num_gpus=1.0),
        stream.Sink("write", partial(lyrics._write, run)),
        description="encoding lyrics",
    )
    found, encode = statistics.operators, statistics.operators["encode"]
    waited = statistics.waited or 0.0
    number = _tokens(run, tokenise, parts)
    return {
        "waited": 1 - number * SECONDS_A_TOKEN / (waited + encode.seconds),
        "waited_for_input": waited / (waited + encode.seconds),
        "tokenise_us_a_token": 1e6 * found["tokenise"].seconds / number,
        "write_us_a_token": 1e6 * found["write"].seconds / number,
        "tokens": number,
    }


def _tokens(run: StageRun, tokenise: Callable[[Shard], stream.Arrays], parts: list[Shard]) -> int:
    """Of all parts: as many as some of them have on average, to a part in a hundred."""
    some = parts[:20]
    return round(sum(len(tokenise(shard)["token"]) for shard in some) * len(parts) / len(some))


# --- the form that it had --------------------------------------------------------------------


class Pieces:
    """Ids of texts as lists, put together from each distinct piece's, remembered as a list."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: dict[str, list[int]] = {}

    def __call__(self, texts: list[str], max_length: int) -> list[list[int]]:
        cut = [text.replace(" ", "\n ").split("\n") for text in texts]
        unknown = list({piece for pieces in cut for piece in pieces} - self._ids.keys())
        if unknown:
            bare = self._tokenizer(unknown, add_special_tokens=False)["input_ids"]
            self._ids |= zip(unknown, bare, strict=True)
        of = self._ids.__getitem__
        room = max_length - 2
        return [[0, *list(chain.from_iterable(map(of, p)))[:room], 2] for p in cut]


def does_it_all(
    run: StageRun, settings: LyricsConfig, weights: np.ndarray
) -> Callable[[Iterator[stream.Arrays]], Iterator[stream.Arrays]]:
    """An actor that reads, tokenises, encodes and writes, one after the other."""
    import torch

    with quiet_transformers():
        tokenise = Pieces(transformers.AutoTokenizer.from_pretrained(settings.encoder))
    vocabulary = run.workspace.read("ingest", "vocabulary")["word"].to_pylist()

    def encode(shard: Shard) -> Span:
        began = time.perf_counter()
        part = part_name(shard.part)
        run.workspace.exists(run.stage, "reports", f"lyrics-{shard.part:05d}.json")
        songs = run.workspace.read_part("ingest", "songs", part, ["song_id", "track_id"])
        bags = run.workspace.read_part("ingest", "lyrics", part)
        texts = tfidf.significant_texts(bags, weights, "sklearn", vocabulary, settings.words)
        spoken = [i for i, text in enumerate(texts) if text]
        ids = tokenise([texts[i] for i in spoken], 512)
        order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), i))
        longest_first = [ids[i] for i in order]
        # As lists became tensors: token ids, and positions a text at a time.
        torch.tensor([token for row in longest_first for token in row])
        torch.cat([torch.arange(len(row)) for row in longest_first])
        tokens = sum(map(len, longest_first))
        slept = asleep(tokens)
        where = pa.compute.index_in(
            bags["track_id"].take(spoken).combine_chunks(),
            value_set=songs["track_id"].combine_chunks(),
        ).to_numpy()
        rows = where.astype(np.int64)
        table = features(songs["song_id"].combine_chunks(), rows, vectors(len(rows)))
        run.write(table, "earlier", shard.part)
        run.write_json({"songs": SONGS}, "reports", f"earlier-{shard.part:05d}.json")
        return began, time.perf_counter(), slept, tokens

    def work(parts: Iterator[stream.Arrays]) -> Iterator[stream.Arrays]:
        for arrays in parts:
            yield {"span": pa.array(encode(Shard(arrays["part"][0].as_py())), pa.float64())}

    return work


def named(shard: Shard) -> stream.Arrays:
    """A part by its number only: the actor reads it."""
    return {"part": pa.array([shard.part], pa.int32())}


def span_of(shard: Shard, arrays: stream.Arrays) -> Span:
    """As the actor told it."""
    began, ended, slept, tokens = arrays["span"].to_pylist()
    return began, ended, slept, int(tokens)


def earlier(run: StageRun, settings: LyricsConfig, weights: np.ndarray) -> dict[str, float]:
    """Share of the time in which the encoder waited."""
    arguments = (run, settings, weights)
    spans, _ = stream.stream(
        run,
        [[shard] for shard in shards_of(run.workspace, "ingest", "songs")],
        stream.Source("name", named, {"part": pa.int32()}),
        stream.Pool("encode", does_it_all, arguments, {"span": pa.float64()}, num_gpus=1.0),
        stream.Sink("tell", span_of),
        description="encoding lyrics",
    )
    began, ended, slept, tokens = zip(*spans, strict=True)
    seconds = max(ended) - min(began)
    return {
        "waited": 1 - sum(slept) / seconds,
        "us_a_token": 1e6 * (seconds - sum(slept)) / sum(tokens),
        "tokens": sum(tokens),
    }


def main() -> None:
    """Run both forms in turns and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", type=Path, help="folder with musixmatch/mxm_dataset_test.txt")
    parser.add_argument("--parts", type=int, default=300)
    parser.add_argument("--tasks", type=int, default=4, help="CPUs beside the actor's")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=8_000, help="of the trained BPE")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args()
    session.set_environment()
    ray.init(
        address="local",
        num_cpus=1 + options.tasks,
        num_gpus=1,  # in name
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=500 << 20,
    )
    session.start(ClusterConfig())
    ray.data.DataContext.get_current().enable_progress_bars = False
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        run, weights, texts = ingested(options.corpus, place / "workspace", options.parts)
        (place / "model").mkdir()
        write_model(str(place / "model"), texts, vocabulary=options.vocabulary, hidden=64, layers=1)
        settings = LyricsConfig(encoder=str(place / "model"))
        forms = [("earlier", earlier), ("stream", streamed)]
        for number in range(options.rounds):
            run.workspace.delete("embed", "reports")
            turns = forms if number % 2 else forms[::-1]
            rounds.append({name: form(run, settings, weights) for name, form in turns})
    best = {
        form: min((found[form] for found in rounds), key=lambda one: one["waited"])
        for form in ("earlier", "stream")
    }
    tokens = best["stream"]["tokens"]
    print(f"{tokens / 1e6:.1f} million tokens, {options.tasks} tasks", file=sys.stderr)
    for form, found in best.items():
        rest = ", ".join(f"{k} {v:.3f}" for k, v in found.items() if k not in ("waited", "tokens"))
        print(
            f"{form:<9}the encoder waited {found['waited']:.3f} of the time; {rest}",
            file=sys.stderr,
        )
    ray.shutdown()
    if options.json:
        print(json.dumps({"tasks": options.tasks, "rounds": rounds, "best": best}))


if __name__ == "__main__":
    main()
