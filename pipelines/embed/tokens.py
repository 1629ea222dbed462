"""From the lyrics of a part to token ids: what tasks do before the encoder.

Of a source with lyrics as they are written, the encoder's own tokenizer reads them; of bags of
words, and where the encoder is the corpus's own, which knows its words alone, the most significant
words are chosen.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fusionrec.features.lyrics.pieces import Recipe, WordTokenizer
from fusionrec.features.lyrics.shard import prepare, with_words
from fusionrec.features.lyrics.texts import TextTokenizer
from pipelines.config import Config, LyricsConfig
from pipelines.runtime import tasks
from pipelines.runtime.shards import Shard
from pipelines.runtime.stream import Arrays
from pipelines.runtime.workspace import StageRun, Workspace, part_name

PRETRAIN = "pretrain"
"""The value of `embed.lyrics.encoder` that asks for the workspace's own encoder."""

TEXTS = "lyrics_text"
"""The artifact of ingest with lyrics as they are written; there is none of bags alone."""

TOKENISED = {
    "song_id": pa.string(),
    "row": pa.int32(),
    "token": pa.int32(),
    "length": pa.int32(),
    "cut": pa.int32(),
    "told": pa.string(),
}
"""Of a part: its songs; of each text the song's position, the ids, their number; the batches; and
one JSON of what was counted."""


def reads_text(config: Config) -> bool:
    """Whether lyrics may go to the encoder as they are written, given the config alone."""
    return (
        config.source.format != "msd"
        and "lyrics" in config.embed.modalities
        and config.embed.lyrics.encoder != PRETRAIN
    )


@dataclass(frozen=True)
class Tokenizers:
    """How an encoder's tokenizer makes token ids of words, and of texts where there are any."""

    words: Recipe
    texts: TextTokenizer | None


def tokenizers_of(run: StageRun, settings: LyricsConfig) -> tuple[Tokenizers, str]:
    """The tokenizers, and the type of the device that encoders run on."""
    from fusionrec.features.lyrics.recipes import recipe_of, text_tokenizer_of

    vocabulary = run.workspace.read("ingest", "vocabulary")["word"].to_pylist()
    texts = settings.encoder != PRETRAIN and bool(run.workspace.parts("ingest", TEXTS))
    with encoder_folder(run, settings) as name:
        read = text_tokenizer_of(name, settings.long) if texts else None
        return Tokenizers(recipe_of(name, tuple(vocabulary)), read), device_of(run.gpus)


@lru_cache(maxsize=1)
def _tokenizers(shared: Any) -> tuple[WordTokenizer, TextTokenizer | None]:
    """Of this process: the first remembers the pieces that it has seen."""
    found: Tokenizers = tasks.shared(shared)
    return WordTokenizer(found.words), found.texts


def tokenise(
    run: StageRun,
    settings: LyricsConfig,
    weights: np.ndarray,
    shared: Any,
    budget: int,
    shard: Shard,
) -> Arrays:
    """The token ids of a part, in batches of `budget`, by the shared :class:`Tokenizers`."""
    part, workspace = part_name(shard.part), run.workspace
    songs = workspace.read_part("ingest", "songs", part, ["song_id", "track_id"])
    there = workspace.exists("ingest", TEXTS, part)
    texts = with_words(workspace.read_part("ingest", TEXTS, part)) if there else None
    words, read = _tokenizers(shared)
    prepared = prepare(
        songs,
        workspace.read_part("ingest", "lyrics", part),
        words,
        weights,
        scheme=settings.tfidf,
        words=settings.words,
        token_budget=budget,
        texts=texts,
        read=read,
    )
    tokens = prepared.batches.tokens
    told = {
        "texts": 0 if texts is None else texts.num_rows,
        "as_text": prepared.as_text,
        "longer": prepared.longer,
    }
    return {
        "song_id": songs["song_id"].combine_chunks(),
        "row": pa.array(prepared.rows, pa.int32()),
        "token": pa.array(tokens.ids),
        "length": pa.array(tokens.lengths, pa.int32()),
        "cut": pa.array(prepared.batches.cuts, pa.int32()),
        "told": pa.array([json.dumps(told)]),
    }


def device_of(gpus: float) -> str:
    """The type of the device of an encoder with so many GPUs, which this process becomes."""
    import torch

    torch.set_num_threads(1)
    return "cuda" if gpus and torch.cuda.is_available() else "cpu"


@contextmanager
def encoder_folder(run: StageRun, settings: LyricsConfig) -> Iterator[str]:
    """The encoder's name, or a folder that holds the workspace's own for a while."""
    if settings.encoder != PRETRAIN:
        yield settings.encoder
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield _download_encoder(run.workspace, Path(scratch))


def _download_encoder(workspace: Workspace, folder: Path) -> str:
    from pyarrow import fs as pafs

    selector = pafs.FileSelector(workspace.path("pretrain", "model"))
    for info in workspace.fs.get_file_info(selector):
        content = workspace.read_bytes("pretrain", "model", info.base_name)
        (folder / info.base_name).write_bytes(content)
    return str(folder)
