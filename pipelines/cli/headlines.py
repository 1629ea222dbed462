"""The two or three counts of each stage that matter, in a line that fits beside its state.

Pure functions of the counts that a finished stage has in its manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipelines.cli.options import is_plain, shown

Counts = Mapping[str, Any]


def headline(stage: str, counts: Counts) -> str:
    """What matters of a stage's counts; of a stage without a line of its own, the first three."""
    make = HEADLINES.get(stage)
    if make is not None:
        try:
            return make(counts)
        except KeyError:
            pass  # of another release, which counted otherwise
    plain = [(name, value) for name, value in counts.items() if is_plain(value)]
    return ", ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in plain[:3])


def percent(share: float | None) -> str:
    """A share in [0, 1] for people; a dash where it is not known."""
    return "–" if share is None else f"{share:.1%}"


def _embed(counts: Counts) -> str:
    """Each modality and the columns of its vectors."""
    return ", ".join(f"{name} {each['dimension']:,}" for name, each in counts.items())


def _train(counts: Counts) -> str:
    test, train = percent(counts["test_accuracy"]), percent(counts["train_accuracy"])
    return f"test accuracy {test}, train {train}"


_MEASURES = {"validation_map": "mAP", "validation_accuracy": "accuracy"}

HEADLINES: dict[str, Callable[[Counts], str]] = {
    "ingest": lambda c: f"{c['songs']:,} songs, {c['plays']:,} plays",
    "split": lambda c: f"{c['train']:,} / {c['validation']:,} / {c['test']:,} songs",
    "label": lambda c: f"{c['classes']} classes, {c['tagged_songs']:,} tagged songs",
    "pretrain": lambda c: f"{c['bags']:,} lyrics, perplexity {c['heldout_perplexity']:,.0f}",
    "embed": _embed,
    "fuse": lambda c: f"{c['songs_with_features']:,} songs, {c['components']} components",
    "train": _train,
    "recommend": lambda c: f"{c['ranked']:,} of {c['users']:,} users",
    "evaluate": lambda c: f"mAP@{c['top']} {c['map']:.4f}, random {c['random_map']:.4f}",
    "tune": lambda c: f"{c['trials']} trials, best {_MEASURES[c['metric']]} {c['best']:.4f}",
    "report": lambda c: f"{c['runs']} rows of Table 1",
    "compare": lambda c: f"{c['methods']} methods, {c['folds']} folds, {c['failed']} failed",
}
