"""What the paper reports (Öman & Choi, sections 5.3 and 5.4), and measured figures beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fusionrec.report.text import markdown_table, number


@dataclass(frozen=True)
class PublishedRun:
    """A row of the paper's Table 1; accuracies in [0, 1]."""

    k: int
    eta: float
    p: float
    epochs: int
    train_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class MeasuredRun:
    """The same as measured, accuracies in [0, 1]; None and NaN for what is not known."""

    k: int
    eta: float
    p: float
    epochs: int | None
    train_accuracy: float | None
    test_accuracy: float | None
    majority_share: float | None


TABLE_1 = (
    PublishedRun(6, 0.0002, 0.2, 2000, 0.655, 0.526),
    PublishedRun(6, 0.001, 0.5, 2000, 0.654, 0.567),
    PublishedRun(4, 0.001, 0.5, 2000, 0.764, 0.668),
    PublishedRun(3, 0.001, 0.5, 2000, 0.866, 0.779),
)
"""Table 1: the configurations the paper trained, and its accuracies."""

MULTIHOT_K, WORD2VEC_K = 50, 13
"""The numbers of clusters whose sizes figures 6 and 7 show."""


def published(k: int, eta: float, p: float) -> PublishedRun | None:
    """The paper's row of these hyperparameters."""
    return next((row for row in TABLE_1 if (row.k, row.eta, row.p) == (k, eta, p)), None)


def table_1(measured: Sequence[MeasuredRun]) -> str:
    """Measured accuracies beside the paper's, as Markdown; a dash for what is not known."""
    header = [
        *("k", "eta", "p", "epochs", "train, measured", "train, paper"),
        *("test, measured", "test, paper", "majority class"),
    ]
    rows = []
    for row in measured:
        paper = published(row.k, row.eta, row.p)
        accuracies = (
            row.train_accuracy,
            paper.train_accuracy if paper else None,
            row.test_accuracy,
            paper.test_accuracy if paper else None,
            row.majority_share,
        )
        settings = (number(row.k, "d"), number(row.eta, "g"), number(row.p, "g"))
        shown = (number(accuracy, ".1%") for accuracy in accuracies)
        rows.append([*settings, number(row.epochs, ","), *shown])
    return markdown_table(header, rows, left=0) + "\n"
