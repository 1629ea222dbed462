"""The results of an ingest of tables, made of those of the sample corpus without reading any."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fusionrec import schemas
from fusionrec.tables import vectors
from pipelines import ingest
from pipelines.config import Config
from pipelines.runtime.stage import Counts
from pipelines.runtime.workspace import StageRun, Workspace, part_number

TABLES = {
    "source__format": "tables",
    "source__tables": "{songs: s.csv, plays: p.csv, features: {clap: c.npy, covers: d.npy}}",
}


def stand_in(monkeypatch: pytest.MonkeyPatch, finished: Path) -> None:
    """Let ingest give what it gave in a finished workspace, and what tables have beside it."""

    def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
        before = Workspace(str(finished))
        target = Path(run.workspace.path("ingest"))
        shutil.copytree(before.path("ingest"), target, dirs_exist_ok=True)
        (target / "manifest.json").unlink()
        vocabulary = np.array(before.read("ingest", "vocabulary")["word"].to_pylist())
        for part in before.parts("ingest", "songs"):
            songs = before.read_part("ingest", "songs", part)
            for name, make in (("clap", clap), ("covers", covers)):
                rows, present = make(songs)
                columns = [songs["song_id"].combine_chunks(), vectors(rows), pa.array(present)]
                table = pa.Table.from_arrays(columns, schema=schemas.features(rows.shape[1]))
                run.write(table, f"vectors_{name}", part_number(part))
            texts = texts_of(before.read_part("ingest", "lyrics", part), vocabulary)
            run.write(texts, "lyrics_text", part_number(part))
        return before.require("ingest")["counts"]

    changed: dict[str, Callable[..., object]] = {"work": work, "source": lambda config: "tables"}
    for name, function in changed.items():
        monkeypatch.setitem(vars(ingest.STAGE), name, function)


def clap(songs: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Vectors that tell the first of a song's terms; one song in five has none."""
    known = sorted({terms[0] for terms in songs["terms"].to_pylist() if terms})
    generator = np.random.default_rng(len(known))
    rows = generator.normal(size=(songs.num_rows, 12)).astype(np.float32)
    present = np.ones(songs.num_rows, bool)
    for row, (song, terms) in enumerate(
        zip(songs["song_id"].to_pylist(), songs["terms"].to_pylist(), strict=True)
    ):
        if terms:
            rows[row, sum(terms[0].encode()) % 12] += 4
        present[row] = sum(song.encode()) % 5 != 0
    rows[~present] = 0
    return rows, present


def covers(songs: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Noise, of every song."""
    rows = np.random.default_rng(songs.num_rows).normal(size=(songs.num_rows, 3))
    return rows.astype(np.float32), np.ones(songs.num_rows, bool)


def texts_of(bags: pa.Table, vocabulary: np.ndarray) -> pa.Table:
    """Every other bag's words as lines, of every third a few; the others have bags alone."""
    some = bags.take(pa.array(np.arange(0, bags.num_rows, 2)))
    texts = [
        ",\n".join(
            " ".join([vocabulary[word].capitalize()] + [vocabulary[word]] * (count - 1))
            for word, count in list(zip(words, counts, strict=True))[: 2 if row % 3 == 0 else None]
        )
        for row, (words, counts) in enumerate(
            zip(some["words"].to_pylist(), some["counts"].to_pylist(), strict=True)
        )
    ]
    return pa.table([some["track_id"], texts], schema=schemas.LYRICS_TEXT)
