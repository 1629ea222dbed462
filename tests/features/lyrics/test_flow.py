"""Batches through a device that is given some before the first one's vectors are there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from fusionrec.features.lyrics.flow import Arrived, through
from fusionrec.features.lyrics.tokens import Tokens, cut


class Device:
    """Sums up each text's ids; takes a batch of more than one text as two."""

    def __init__(self) -> None:
        self.at_work: list[int] = []
        self.most = 0
        self.given = 0

    def begin(self, rows: Tokens) -> Iterator[tuple[int, Arrived]]:
        middle = len(rows) // 2
        for start, stop in ((0, middle), (middle, len(rows))):
            if start < stop:
                yield start, self._given(rows.span(start, stop))

    def _given(self, rows: Tokens) -> Arrived:
        number = self.given
        self.given += 1
        self.at_work.append(number)
        self.most = max(self.most, len(self.at_work))

        def arrived() -> NDArray[np.float32]:
            assert self.at_work.pop(0) == number  # first in, first out
            return np.array([[row.sum()] for row in rows], np.float32)

        return arrived


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_vectors_come_whole_and_in_order(ahead) -> None:
    device = Device()
    many = [
        cut(Tokens.of([[n, k] * (k + 1) for k in range(n)]), budget=6)[1]
        for n in (0, 3, 0, 0, 5, 1, 0)
    ]
    for vectors, batches in zip(through(many, device.begin, 1, ahead), many, strict=True):
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(batches.tokens), 1)
        assert vectors.ravel().tolist() == [row.sum() for row in batches.tokens]
    assert device.given == 9
    assert device.most == ahead + 1
    assert not device.at_work
