"""A stage's counts by their kind; a KeyError where they are of a release that counted otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.runtime.stage import Counts


def whole(counts: Counts, name: str) -> int:
    """How many."""
    value = counts[name]
    if not isinstance(value, int):
        raise KeyError(name)
    return value


def real(counts: Counts, name: str) -> float:
    """A measure."""
    value = counts[name]
    if not isinstance(value, int | float):
        raise KeyError(name)
    return value


def share(counts: Counts, name: str) -> float | None:
    """A share in [0, 1], if it is known."""
    return None if counts[name] is None else real(counts, name)


def inner(counts: Counts, name: str) -> Counts:
    """Counts by a name of their own."""
    value = counts[name]
    if not isinstance(value, Mapping):
        raise KeyError(name)
    return value
