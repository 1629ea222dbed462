"""What cluster/CAPACITY.md's arithmetic says of data of any size, stage by stage.

CPU seconds are what :func:`scale.steps` computes for the full data, at these sizes, and beyond
CAPACITY.md, which has one fixed part for a whole run, that of each stage by the line through its
measured sizes; the blend is on the lines of its parts. Where CAPACITY.md says nothing of a figure,
there is none. The rates are those of the machine
that `capacity.json` was measured on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from blend_scale import UNITS, extrapolated
from scale import steps, summary

FIGURES = ("wall_seconds", "cpu_seconds", "driver_mb", "worker_mb", "disk_mb")
"""What is predicted of a stage, where it is."""

LISTING_MB = 50.0
"""The driver's list of a million files."""

_RANKING = "ranking_seconds_per_user_and_song"
_LYRICS = "embed: lyrics, roberta-base"


@dataclass(frozen=True)
class Size:
    """What a run's costs depend on.

    Attributes
    ----------
    songs, lyrics, users, plays
        Of the corpus, as it was read.
    labelled, epochs
        Training songs, and how often they are seen.
    candidates
        Songs that each list is chosen from.
    components
        Of a song's fused features.
    base
        Whether lyrics are encoded by a model of roberta-base's shape; else by a tiny one.
    blend
        Whether the blend is ranked by; else class probabilities.
    """

    songs: int
    lyrics: int
    users: int
    plays: int
    labelled: int
    epochs: int
    candidates: int
    components: int
    base: bool
    blend: bool


def predictions(recorded: dict[str, Any], size: Size, cores: int) -> dict[str, dict[str, float]]:
    """Each stage's :data:`FIGURES`, as far as CAPACITY.md goes: seconds, and MB of 2^20 bytes."""
    data = {"songs": size.songs, "lyrics": size.lyrics, "users": size.users, "plays": size.plays}
    fits = summary(recorded["measured"])
    growing: dict[str, float] = defaultdict(float)
    ranking = f"{_RANKING}_of_the_blend" if size.blend else _RANKING
    for name, (seconds, _) in steps(recorded, data, size.candidates, ranking).items():
        # The rate of what else is embedded was measured with a tiny encoder.
        if name != _LYRICS or size.base:
            growing[name.partition(":")[0]] += seconds
    found = {}
    for stage, seconds in growing.items():
        fixed = fits[stage]["fixed"]
        found[stage] = {"wall_seconds": fixed + seconds / cores, "cpu_seconds": fixed + seconds}
    rate = recorded["rates"]["training_songs_per_worker_second"]
    training = fits["train"]["fixed"] + size.epochs * size.labelled / rate
    found["train"] = {"wall_seconds": training, "cpu_seconds": training}  # of one worker
    if size.blend:
        found["blend"] = _blend(recorded["blend"]["measured"], data)
    driver = recorded["measured"][-1]["driver_mb"] + LISTING_MB * size.songs / 1e6
    for each in found.values():
        each["driver_mb"] = driver
    found["fuse"]["disk_mb"] = 4 * size.components * size.songs / 2**20
    return found


def _blend(measured: list[dict[str, Any]], data: dict[str, int]) -> dict[str, float]:
    seconds = sum(
        _on_the_line(
            measured, unit, [each["parts"][part]["cpu_seconds"] for each in measured], data
        )
        for part in measured[0]["parts"]
        for unit in (UNITS.get(part, "songs"),)
    )
    peaks = [max(part["mb"] for part in each["parts"].values()) for each in measured]
    memory = _on_the_line(measured, "songs", peaks, data)
    return {"wall_seconds": seconds, "cpu_seconds": seconds, "worker_mb": memory}


def _on_the_line(
    measured: list[dict[str, Any]], unit: str, costs: list[float], data: dict[str, int]
) -> float:
    """A cost at this size: between those measured, or as CAPACITY.md says of a larger one."""
    sizes, size = [float(each[unit]) for each in measured], float(data[unit])
    if size <= sizes[-1]:
        return float(np.interp(size, sizes, costs))
    return extrapolated(sizes, costs, size)
