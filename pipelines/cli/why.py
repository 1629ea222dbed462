"""What a score is made of, as JSON has it and as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.opened.catalogue import Named
from pipelines.opened.reasons import Reason

_SIGNALS = 5
"""Signals that a person is told of; JSON has all."""


@dataclass(frozen=True)
class Heard:
    """A song of the history, and what it adds to a score."""

    artist: str
    title: str
    song_id: str
    share: float


@dataclass(frozen=True)
class Why:
    """Parts of a score in its own unit: each of the three adds up to it.

    `songs` are those of the history that add most.
    """

    signals: dict[str, float]
    modalities: dict[str, float]
    kinds: dict[str, float]
    songs: list[Heard]


def named(reason: Reason, names: Mapping[str, Named]) -> Why:
    """A reason with its songs by name."""
    songs = [
        Heard(names[song].artist, names[song].title, song, share) for song, share in reason.songs
    ]
    return Why(reason.signals, reason.modalities, reason.kinds, songs)


def lines_of(why: Why) -> list[str]:
    """The same for people, the largest parts first."""
    lines = [
        f"   {name}: {_parts(parts)}"
        for name, parts in (
            ("by kind", why.kinds),
            ("by modality", why.modalities),
            ("by signal", why.signals),
        )
    ]
    if why.songs:
        heard = "; ".join(f"{s.artist} - {s.title} {s.share:+.3f}" for s in why.songs)
        lines.append(f"   for having heard: {heard}")
    return lines


def _parts(parts: Mapping[str, float]) -> str:
    ordered = sorted(parts.items(), key=lambda part: -abs(part[1]))
    shown = [f"{name} {part:+.3f}" for name, part in ordered[:_SIGNALS]]
    rest = sum(part for _, part in ordered[_SIGNALS:])
    if len(ordered) > _SIGNALS:
        shown.append(f"{len(ordered) - _SIGNALS} more {rest:+.3f}")
    return ", ".join(shown)
