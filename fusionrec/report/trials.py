"""The trials of a search, and the rows that their files and tables have of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Value = int | float | str
Row = Mapping[str, Value | None]

MEASURES = ("validation_map", "validation_accuracy", "train_accuracy")


@dataclass(frozen=True)
class Trial:
    """A trial and how it ended.

    Attributes
    ----------
    values
        What was searched, by dotted names of the config.
    measures
        :data:`MEASURES` by name; None where they were not taken, or the trial failed.
    epoch, epochs
        The last epoch, and the last one of a trial that is not stopped early.
    error
        Why it failed, else None.
    """

    number: int
    values: dict[str, Value]
    measures: dict[str, float | None]
    epoch: int
    epochs: int
    seconds: float
    error: str | None

    def measured(self, name: str) -> float:
        """A measure of a trial that has it."""
        value = self.measures[name]
        assert value is not None
        return value

    @staticmethod
    def of(row: Mapping[str, Any]) -> Trial:
        """The inverse of :meth:`row`."""
        own = ("trial", *MEASURES, "epoch", "epochs", "seconds", "error")
        return Trial(
            row["trial"],
            {name: value for name, value in row.items() if name not in own},
            {name: row[name] for name in MEASURES},
            row["epoch"],
            row["epochs"],
            row["seconds"],
            row["error"],
        )

    def row(self) -> dict[str, Value | None]:
        """All of it by name, as in ``trials.json``."""
        return {
            "trial": self.number,
            **self.values,
            **self.measures,
            "epoch": self.epoch,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "error": self.error,
        }
