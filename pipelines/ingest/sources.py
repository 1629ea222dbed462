"""What the parts of ingest share: where the source lies, reports and their totals."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
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
    """What was read of a shard; `reasons` are those of its rejects, with their numbers."""

    read: int
    rows: int
    dropped: int
    damaged_text: int
    direct: int
    reasons: dict[str, int]


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
    )


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
            f"ingest.max_reject_share {limit:g} allows ({listed}); "
            "mend the file, or raise the share if this is expected"
        )
    return total


def non_empty(lists: pa.ChunkedArray) -> int:
    """Lists that hold something."""
    return int(pc.sum(pc.greater(pc.list_value_length(lists), 0)).as_py() or 0)
