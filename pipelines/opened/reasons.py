"""What a score is made of."""

from __future__ import annotations

from dataclasses import dataclass

SONGS = 3
"""Songs of a history that a reason has."""


@dataclass(frozen=True)
class Reason:
    """Parts of a score.

    Attributes
    ----------
    signals, modalities, kinds
        By name; each adds up to the score.
    songs
        Ids of the songs of the history that add most, and what; none where one song stands for
        a history.
    """

    signals: dict[str, float]
    modalities: dict[str, float]
    kinds: dict[str, float]
    songs: list[tuple[str, float]]

    @property
    def score(self) -> float:
        """What the parts add up to."""
        return sum(self.kinds.values())
