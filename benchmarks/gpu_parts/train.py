"""Training the fusion network, against the loop one would write first on the same device.

On a GPU steps are recorded and replayed (:mod:`fusionrec.models.recorded`); the same steps launched
one by one are beside them.
"""

from __future__ import annotations

import torch
from plain_loop import PlainLoop, random_songs

from fusionrec.models.examples import InMemory, TrainingSet
from fusionrec.models.settings import Settings
from fusionrec.models.training import Training
from gpu_parts.report import Clock, Options, Report

SONGS = 93_000
"""Training songs of the paper's 116,479."""

COLUMNS = 300
"""Features of a song."""

EPOCHS = 2_000
"""The paper's."""

BATCH, NORM_GROUP = 256, 64
"""The config's own, `train.batch_size` and `train.norm_group`; a test compares them."""

AIM_MIN = 3.0
"""Minutes of the paper's training on one H100."""


def songs(options: Options) -> TrainingSet:
    """The songs to train on."""
    return random_songs(SONGS if options.on_gpu else 600, COLUMNS if options.on_gpu else 20)


def training(data: TrainingSet, device: str, batch: int, norm_group: int | None) -> Training:
    """fusionrec's own, as its stage makes it."""
    settings = Settings(epochs=EPOCHS, batch_size=batch, norm_group=norm_group)
    feed = InMemory(data, batch_size=batch, seed=0, norm_group=norm_group, device=device)
    return Training(feed, settings, device=device)


def run(report: Report, options: Options) -> None:
    """Songs a second, by size of batch, in turns with the plain loop."""
    torch.set_num_threads(1)
    data = songs(options)
    count = len(data.train.y)
    for batch, group in ((BATCH, NORM_GROUP), (BATCH, None), (1_024, NORM_GROUP), (4_096, 64)):
        with report.step(f"batches of {batch}, groups of {group}"):
            ours = training(data, options.device, batch, group)
            single = training(data, options.device, batch, group)
            single._recorded = None
            plain = PlainLoop(data.train, batch, options.device)
            epochs = {
                "fusionrec": ours._train_epoch,
                "one by one": single._train_epoch,
                "plain": plain.epoch,
            }
            rates = dict.fromkeys(epochs, 0.0)
            for turn in range(3):
                for name, epoch in epochs.items():
                    # The first turn warms up.
                    clock = Clock(options.seconds(3.5, 0.1) if turn else 0.0, options.device)
                    for _ in clock:
                        epoch()
                    rates[name] = max(rates[name], count * clock.count / clock.seconds)
            named = f"batches of {batch}, normalised over {group or 'the whole batch'}"
            note = f"plain loop: {rates['plain']:,.0f}"
            report.figure(named, rates["fusionrec"], "songs/s", note)
            report.figure(f"{named}: over the plain loop", rates["fusionrec"] / rates["plain"], "x")
            recorded = ours._recorded
            if options.on_gpu and (recorded is None or recorded.graph is None):
                report.fail(f"{named}: recording a step", "steps are taken one by one")
            note = "recorded steps over such as Python launches" if options.on_gpu else "a CPU"
            ratio = rates["fusionrec"] / rates["one by one"]
            report.figure(f"{named}: over steps one by one", ratio, "x", note)
            minutes = EPOCHS * SONGS / rates["fusionrec"] / 60
            note = f"{EPOCHS:,} epochs of {SONGS:,} songs at that rate; the aim is {AIM_MIN:g}"
            report.figure(f"{named}: the paper's training", minutes, "min", note)
    with report.step("evaluation and checkpoint"):
        ours = training(data, options.device, BATCH, NORM_GROUP)
        ours._train_epoch()
        clock = Clock(options.seconds(1), options.device)
        for _ in clock:
            ours.accuracy("train")
        report.figure("evaluating", count * clock.count / clock.seconds, "songs/s")
        clock = Clock(options.seconds(1), options.device)
        for _ in clock:
            content = ours.save()
        size = f"{len(content) / 2**20:.0f} MiB"
        report.figure("a checkpoint", clock.seconds / clock.count, "s", size)
    report.memory(options.device)
