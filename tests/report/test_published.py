"""The figures that were published, and beside what they stand."""

from __future__ import annotations

from typing import Any, cast

import pytest

from fusionrec.report.comparison import published
from fusionrec.report.summary import Row

OF_THE_PAPER = {
    "method": "fusion",
    "k": 6,
    "modalities": ["metadata", "lyrics"],
    "operator": "concatenate",
}


def row(**changes: object) -> Row:
    return cast(Row, {**OF_THE_PAPER, **changes})


def test_the_papers_network_has_the_papers_figure() -> None:
    known = published(row())
    assert known is not None
    assert known[0] == 0.04152


@pytest.mark.parametrize(
    "other", [{"operator": "gated"}, {"k": 5}, {"modalities": ["lyrics"]}, {"method": "classes"}]
)
def test_another_network_has_none(other: dict[str, Any]) -> None:
    assert published(row(**other)) is None
