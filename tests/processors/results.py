"""What the parts that depend on the processor compute here, as arrays.

    python -m tests.processors.results FOLDER OUT.npz

ranks, reads HDF5 files and encodes texts, all of them in FOLDER; :func:`write_inputs` makes them.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import numpy as np

from fusionrec.features.lyrics import products
from fusionrec.features.lyrics.encoder import load_encoder
from fusionrec.formats import hdf5
from fusionrec.formats.hdf5 import direct
from fusionrec.formats.sample.corpus import write_sample
from fusionrec.ranking.on_cpu import compiled_code
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from tests.features.lyrics.small_encoder import TEXTS, write_encoder


def write_inputs(folder: Path) -> None:
    """Make a small corpus and an encoder."""
    write_sample(folder / "corpus", songs=50, users=5, seed=3)
    write_encoder(folder / "encoder", hidden_size=256)


def results(folder: Path) -> dict[str, np.ndarray]:
    """Results by name; texts are JSON."""
    found: dict[str, np.ndarray] = {}
    generator = np.random.default_rng(0)
    V, F = (generator.normal(size=(n, 12)).astype(np.float32) for n in (60, 4000))
    F[1::2] = F[::2]  # ties
    drawn = np.sort(generator.permuted(np.tile(np.arange(4000), (60, 1)), axis=1)[:, :40])
    exclude, relevant = (
        SongLists(np.arange(61) * 20, part.ravel().astype(np.int32), np.ones(1200, np.int64))
        for part in (drawn[:, ::2], drawn[:, 1::2])
    )
    lists = rank_users(V, F, 200, exclude=exclude, relevant=relevant)
    found |= {f"ranking {name}": value for name, value in vars(lists).items()}

    # As in a new process, where libhdf5 reads the first file of each layout.
    direct._known_layouts.cache_clear()
    paths = sorted(str(path) for path in (folder / "corpus" / "MillionSong").rglob("*.h5"))
    batch = hdf5.read_tracks(paths, segments=True)
    assert batch.segments is not None
    for name, table in (("songs", batch.table), ("segments", batch.segments)):
        found[f"reader {name}"] = np.array(json.dumps(table.to_pylist()))
    found["read directly"] = np.array(batch.direct)

    for dtype in ("float32", "bfloat16"):
        encoder = load_encoder(str(folder / "encoder"), dtype=dtype)
        for pooling in ("cls", "mean"):
            found[f"{dtype} {pooling}"] = encoder.encode(TEXTS * 3, pooling=pooling)
    tried = {
        "ranking": compiled_code(),
        "prepacked": products.prepacks(),
        "bfloat16": products.bfloat16_pays("cpu"),
    }
    found["works"] = np.array(json.dumps({name: trial.works for name, trial in tried.items()}))
    return found


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    np.savez(sys.argv[2], **results(Path(sys.argv[1])))
