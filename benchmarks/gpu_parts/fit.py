"""What else is fitted by PyTorch: pre-training an encoder, the convolutional baseline.

Both are loops of small steps, in which a GPU may wait for Python; the CPU of the same machine,
all of its cores, is the peer.
"""

from __future__ import annotations

import os
import time

import numpy as np
import torch

from fusionrec.baselines.cnn import fit_cnn
from fusionrec.features.pretraining.loop import pretrain
from fusionrec.features.pretraining.settings import MlmSettings
from fusionrec.features.pretraining.tokenizer import build_tokenizer
from gpu_parts.report import Options, Report, synchronise

WARM_UP = 5
"""Steps."""


class EnoughError(Exception):
    """The measurement is over."""


def run(report: Report, options: Options) -> None:
    """On the device and, where that is a GPU, on the CPU."""
    devices = [options.device, "cpu"] if options.on_gpu else ["cpu"]
    for name, measure in {"pre-training": pre_training, "convolutional network": cnn}.items():
        rates: list[float] = []
        with report.step(name):
            for device in devices:
                torch.set_num_threads(len(os.sched_getaffinity(0)) if options.on_gpu else 1)
                rates.append(measure(device, options))
                report.figure(f"{name}, {device}", rates[-1], "songs/s")
            if len(rates) == 2:
                report.figure(f"{name}: over the CPU", rates[0] / rates[1], "x")
    report.memory(options.device)


def pre_training(device: str, options: Options) -> float:
    """Songs per second of masked-word steps in the config's default size."""
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(5_000)]
    texts = [
        " ".join(f"w{word}:{1 + word % 5}" for word in rng.integers(0, 5_000, 60))
        for _ in range(20_000 if options.on_gpu else 600)
    ]
    settings = MlmSettings(epochs=1) if options.on_gpu else MlmSettings(64, 1, 2, 64, epochs=1)
    tokenizer = build_tokenizer(words, model_max_length=settings.max_tokens)
    begun, rate, limit = 0.0, 0.0, options.seconds(6)

    def progress(step: int, total: int) -> None:
        nonlocal begun, rate
        if step == WARM_UP:
            synchronise(device)
            begun = time.perf_counter()
        elif step > WARM_UP and (time.perf_counter() - begun > limit or step == total):
            synchronise(device)
            rate = (step - WARM_UP) * settings.batch_size / (time.perf_counter() - begun)
            raise EnoughError

    try:
        pretrain(texts, tokenizer, settings, seed=0, device=device, progress=progress)
    except EnoughError:
        return rate
    raise RuntimeError(f"there were fewer than {WARM_UP + 2} steps")


def cnn(device: str, options: Options) -> float:
    """Songs per second of epochs of the baseline on 24 numbers a segment."""
    songs = 2_000 if options.on_gpu else 60
    rng = np.random.default_rng(0)
    lengths = rng.integers(200, 900, songs)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    frames = rng.standard_normal((int(offsets[-1]), 24), np.float32)
    targets = rng.standard_normal((songs, 50)).astype(np.float32)
    seconds = 0.0
    for epochs in (1, 5 if device == "cuda" else 2):  # the first warms up
        synchronise(device)
        started = time.perf_counter()
        fit_cnn(
            *(offsets, frames, targets),
            loss="mse",
            validation_rows=np.arange(0),
            epochs=epochs,
            device=device,
        )
        synchronise(device)
        seconds = (time.perf_counter() - started) / epochs
    return songs / seconds
