"""The two or three counts of each stage that matter, in a line that fits beside its state.

Pure functions of the counts that a finished stage has in its manifest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipelines.cli.counts import inner, real, share, whole
from pipelines.cli.options import is_plain, shown

if TYPE_CHECKING:
    from pipelines.runtime.stage import Counts


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
    return ", ".join(f"{name} {whole(inner(counts, name), 'dimension'):,}" for name in counts)


def _train(counts: Counts) -> str:
    if "objective" in counts:
        held = counts["validation_loss"]
        shown = "" if held is None else f", validation {real(counts, 'validation_loss'):.3f}"
        return f"{counts['objective']}: loss {real(counts, 'loss'):.3f}{shown}"
    test, train = share(counts, "test_accuracy"), share(counts, "train_accuracy")
    return f"test accuracy {percent(test)}, train {percent(train)}"


def _tune(counts: Counts) -> str:
    measure = {"validation_map": "mAP", "validation_accuracy": "accuracy"}[str(counts["metric"])]
    return f"{whole(counts, 'trials')} trials, best {measure} {real(counts, 'best'):.4f}"


def _evaluate(counts: Counts) -> str:
    reached, chance = real(counts, "map"), real(counts, "random_map")
    return f"mAP@{whole(counts, 'top')} {reached:.4f}, random {chance:.4f}"


def _numbers(line: str, *names: str) -> Callable[[Counts], str]:
    """A line with these numbers in its places."""
    return lambda counts: line.format(*(real(counts, name) for name in names))


def _lists(counts: Counts) -> str:
    reasons = inner(counts, "fallback")
    others = sum(whole(reasons, reason) for reason in reasons)
    return f"{whole(counts, 'users'):,} lists, {others:,} fallback"


def _update(counts: Counts) -> str:
    songs, plays = whole(counts, "new_songs"), whole(counts, "new_plays")
    if counts["refit_due"]:
        return f"refit due: {songs:,} songs are new"
    return f"{songs:,} songs, {plays:,} plays"


HEADLINES: dict[str, Callable[[Counts], str]] = {
    "ingest": _numbers("{:,} songs, {:,} plays", "songs", "plays"),
    "split": _numbers("{:,} / {:,} / {:,} songs", "train", "validation", "test"),
    "label": _numbers("{} classes, {:,} tagged songs", "classes", "tagged_songs"),
    "pretrain": _numbers("{:,} lyrics, perplexity {:,.0f}", "bags", "heldout_perplexity"),
    "embed": _embed,
    "fuse": _numbers("{:,} songs, {} components", "songs_with_features", "components"),
    "train": _train,
    "recommend": _numbers("{:,} of {:,} users", "ranked", "users"),
    "evaluate": _evaluate,
    "lists": _lists,
    "update": _update,
    "tune": _tune,
    "report": _numbers("{} rows of Table 1", "runs"),
    "blend": _numbers(
        "{} of {} signals, {} columns", "signals_with_weight", "signals", "dimensions"
    ),
    "ladder": _numbers("{} rungs, {} left out", "rungs", "left_out"),
    "compare": _numbers("{} methods, {} folds, {} failed", "methods", "folds", "failed"),
}
