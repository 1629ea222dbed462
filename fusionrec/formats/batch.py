"""What every reader returns: a table of what could be read, and a table of what could not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusionrec.formats.files import shown
from fusionrec.schemas import REJECT_ACTIONS, REJECTS


@dataclass
class Rejects:
    """A growing list of rejections, turned into one Arrow table at the end."""

    rows: list[tuple[str, str, str, str, str]] = field(default_factory=list)

    def add(
        self, source: str, item: str, reason: str, detail: str = "", action: str = "dropped"
    ) -> None:
        """Note one rejection; see :data:`fusionrec.schemas.REJECT_ACTIONS` for `action`."""
        if action not in REJECT_ACTIONS:
            raise ValueError(f"unknown reject action {action!r}")
        # Names of files may hold bytes that no text can: Arrow would refuse them.
        self.rows.append((shown(source), shown(item), reason, shown(detail), action))

    def to_table(self) -> pa.Table:
        """All rejections, schema :data:`fusionrec.schemas.REJECTS`."""
        columns: Iterable[tuple[str, ...]] = zip(*self.rows, strict=True) if self.rows else [()] * 5
        return pa.Table.from_arrays([pa.array(c, pa.string()) for c in columns], schema=REJECTS)


@dataclass(frozen=True)
class Batch:
    """One shard of a source as read.

    Attributes
    ----------
    table
        The rows that could be read, in the schema of their artifact.
    rejects
        The rows and fields that could not, schema :data:`fusionrec.schemas.REJECTS`.
    segments
        Segment arrays of the same tracks (HDF5 sources, when asked for), else None.
    read
        Items (files, lines, rows) looked at, readable or not.
    damaged_text
        Strings in which invalid UTF-8 was replaced by U+FFFD, or, in ids of tables, escaped.
    direct
        Files that were read without libhdf5 (:mod:`fusionrec.formats.hdf5.direct`).
    places
        Of tables: where in the range each row of `table` begins, int64, shape (rows,), ascending
        from 0: lines of text, rows of other files.
    lines
        Of tables: how many of these the range has, used or not. A row's number in the file is its
        place, 1, and the lines of the ranges before.
    """

    table: pa.Table
    rejects: pa.Table
    segments: pa.Table | None = None
    read: int = 0
    damaged_text: int = 0
    direct: int = 0
    places: npt.NDArray[np.int64] | None = None
    lines: int = 0
