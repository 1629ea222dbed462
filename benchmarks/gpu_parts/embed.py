"""Lyrics through a roberta-base-shaped model: the forward pass alone, then all around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import roberta_shape
import torch
import transformers

from fusionrec.features.lyrics.hub import quiet_transformers
from fusionrec.features.lyrics.packed import PackedEncoder
from gpu_parts import lyrics
from gpu_parts.peak import peak, product
from gpu_parts.report import Clock, Options, Report


@dataclass(frozen=True)
class Size:
    """Of the model and of what it encodes.

    Attributes
    ----------
    songs, shards
        Songs in a shard of the stage, of which three in four have lyrics, and shards.
    distinct
        Different bags among them.
    """

    hidden: int
    layers: int
    dtype: str
    vocabulary: int
    songs: int
    shards: int
    distinct: int


ON_GPU = Size(768, 12, "bfloat16", 8_000, 8_192, -(-lyrics.LYRICS // 6_144), 4_000)
ON_CPU = Size(128, 2, "float32", 2_000, 60, 3, 120)


def run(report: Report, options: Options) -> None:
    """All of it; the forward pass first, since it needs the least."""
    torch.set_num_threads(1)
    size = ON_GPU if options.on_gpu else ON_CPU
    limit = peak(size.dtype, options)
    note = "a large square matrix product"
    report.figure(f"peak, {size.dtype}", limit / 1e12, "TFLOP/s", note)
    with report.step("forward pass"):
        forward(report, options, size, limit)
        report.memory(options.device, "forward pass")
    with report.step("stage"):
        # What it imports may be missing where the forward pass can be measured.
        from gpu_parts import stage

        stage.run(report, options, size, limit)


def forward(report: Report, options: Options, size: Size, limit: float) -> None:
    """The packed pass alone, on token ids that lie on the device already."""
    with quiet_transformers(), torch.device(options.device):
        torch.manual_seed(0)
        model = transformers.RobertaModel(roberta_shape.config(size.hidden, size.layers))
    encoder = PackedEncoder(model.eval().to(getattr(torch, size.dtype)))
    budgets = (65_536, 16_384, 262_144) if options.on_gpu else (2_048,)
    rows = lyrics.token_ids(8_192 if options.on_gpu else 64, vocabulary=50_000)
    rows.sort(key=len, reverse=True)
    for budget in budgets:
        batches, start = [], 0
        while start < len(rows):
            stop = start + max(1, budget // len(rows[start]))
            batches.append(rows[start:stop])
            start = stop
        # Every so many, so that long and short texts are both among those that are timed.
        some = batches[:: max(1, len(batches) // 16)]
        packed = [encoder.pack(batch) for batch in some]
        counted = np.array([len(row) for batch in some for row in batch])
        for batch in packed[:2]:
            encoder.forward(batch, "cls")
        clock = Clock(options.seconds(6 if budget == budgets[0] else 2), options.device, rounds=2)
        for _ in clock:
            for batch in packed:
                encoder.forward(batch, "cls")
        a_second = clock.count / clock.seconds
        rate = roberta_shape.work(counted, size.hidden, size.layers) * a_second
        named = f"forward pass, {budget:,} tokens a batch"
        report.figure(named, len(counted) * a_second, "lyrics/s", f"{counted.mean():.0f} tokens")
        report.figure(f"{named}: share of peak", rate / limit, note=f"{rate / 1e12:.3g} TFLOP/s")
        del packed
    shapes = {
        "wide": (size.hidden, 4 * size.hidden),
        "narrow": (4 * size.hidden, size.hidden),
    }
    for name, (inner, columns) in shapes.items():
        found = product(budgets[0], inner, columns, size.dtype, options)
        report.figure(f"{name} layer's product alone: share of peak", found / limit)
