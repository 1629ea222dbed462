"""What the parts of ingest share: where the source lies, reports and their totals."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.errors import TooManyRejectsError
from fusionrec.formats import files
from fusionrec.formats.batch import Batch
from pipelines.config import Config
from pipelines.runtime.shards import Shard


@dataclass(frozen=True)
class FileShard(Shard):
    """A range of a file: bytes of a text file, rows of a database or an aggregate file."""

    path: str
    start: int
    stop: int

    @property
    def source(self) -> str:
        """The file's name in rejects."""
        return os.path.basename(self.path)


@dataclass(frozen=True)
class ReadReport:
    """What was read of a shard; `reasons` are those of its rejects, with their numbers.

    `lines` are those that a table's range has, used or not: lines of text, rows of others.
    `first` is what was dropped first, as an example; empty where nothing was.
    """

    read: int
    rows: int
    dropped: int
    damaged_text: int
    direct: int
    reasons: dict[str, int]
    lines: int
    first: str


@dataclass(frozen=True)
class Origin:
    """Where a shard's rows come from: the file's name in rejects, and its lines before the range.

    The row that begins on a line of the range, counted from 0, is the file's of the number
    `before` + line + 1.
    """

    source: str
    before: int

    def number(self, line: int) -> int:
        """The number in the file of the row that begins on a line of the range."""
        return self.before + line + 1


def origins(shards: Sequence[FileShard], reports: Sequence[ReadReport]) -> list[Origin]:
    """Of the shards of one table, whose ranges of a file come in their order."""
    found, before = [], Counter[str]()
    for shard, read in zip(shards, reports, strict=True):
        found.append(Origin(shard.source, before[shard.path]))
        before[shard.path] += read.lines
    return found


def kept_row(origin: Origin, line: int) -> str:
    """What is said of the row that stays, beside one that repeats it."""
    return f"row {origin.number(line)} of {origin.source} is kept"


LINE = "line"
"""The column of a row's line in its range, beside the rows of a table as they were read."""


def with_lines(batch: Batch, table: pa.Table) -> pa.Table:
    """The rows of a batch with :data:`LINE`."""
    return table.append_column(LINE, pa.array(batch.places, pa.int64()))


def source_path(config: Config, path: str) -> str:
    """A source path of the config, below `source.root`: a local path or a URI."""
    return files.join(config.source.root, path)


def path_in_source(config: Config, path: str) -> str:
    """The path of a file below `source.root`, without options of a filesystem; else as it is."""
    root = config.source.root
    if files.is_uri(path):
        root, path = root.partition("?")[0], path.partition("?")[0]
    elif root and not files.is_uri(root):
        root = os.path.expanduser(root)
    before = f"{root.rstrip('/')}/"
    return path.removeprefix(before) if root else path


def artist_databases(config: Config) -> tuple[str | None, str | None]:
    """Where ``artist_term.db`` and ``artist_similarity.db`` lie, if anywhere."""
    named = (config.source.artist_terms, config.source.artist_similarity)
    terms, similarity = (source_path(config, name) if name else None for name in named)
    return terms, similarity


def report(batch: Batch) -> ReadReport:
    """The counts of one shard."""
    dropped = pc.equal(batch.rejects["action"], "dropped")
    reasons = pc.value_counts(batch.rejects["reason"].combine_chunks())
    return ReadReport(
        batch.read,
        batch.table.num_rows,
        pc.sum(dropped).as_py() or 0,
        batch.damaged_text,
        batch.direct,
        {row["values"]: row["counts"] for row in reasons.to_pylist()},
        batch.lines,
        _example(batch.rejects.filter(dropped).slice(0, 1)),
    )


def _example(reject: pa.Table) -> str:
    """What one reject says; empty of none."""
    for row in reject.to_pylist():
        detail = f", {row['detail']!r}" if row["detail"] else ""
        return f"{row['source']} {row['item']}: {row['reason']}{detail}"
    return ""


def summed(reports: Iterable[ReadReport]) -> ReadReport:
    """Counts added up."""
    each = list(reports)
    reasons: Counter[str] = Counter()
    for found in each:
        reasons.update(found.reasons)
    return ReadReport(
        sum(found.read for found in each),
        sum(found.rows for found in each),
        sum(found.dropped for found in each),
        sum(found.damaged_text for found in each),
        sum(found.direct for found in each),
        dict(reasons),
        sum(found.lines for found in each),
        next((found.first for found in each if found.first), ""),
    )


def totals(reports: Iterable[ReadReport], limit: float, what: str, source: str) -> ReadReport:
    """Counts added up over shards.

    Raises
    ------
    TooManyRejectsError
        If more than the share `limit` of what was read had to be dropped.
    """
    total = summed(reports)
    if total.dropped > limit * max(1, total.read):
        listed = ", ".join(f"{count:,} x {reason}" for reason, count in total.reasons.items())
        raise TooManyRejectsError(
            f"{source}: {total.dropped:,} of {total.read:,} {what} rejected, more than "
            f"ingest.max_reject_share {limit:g} allows ({listed}; the "
            f"first is {total.first}); mend the file, or raise the share if this is expected"
        )
    return total


def non_empty(lists: pa.ChunkedArray) -> int:
    """Lists that hold something."""
    return int(pc.sum(pc.greater(pc.list_value_length(lists), 0)).as_py() or 0)
