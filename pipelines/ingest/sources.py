"""What the three parts of ingest share: where the source lies, reports and their totals."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.errors import TooManyRejectsError
from fusionrec.formats import files
from fusionrec.formats.batch import Batch
from pipelines.config import Config

Shard = dict[str, Any]
Report = dict[str, Any]


def source_path(config: Config, path: str) -> str:
    """A source path of the config, below `source.root`: a local path or a URI."""
    return files.join(config.source.root, path)


def report(batch: Batch, **more: int) -> Report:
    """The counts of one shard, with `more` of its own."""
    dropped = pc.equal(batch.rejects["action"], "dropped")
    reasons = pc.value_counts(batch.rejects["reason"].combine_chunks())
    return {
        "read": batch.read,
        "rows": batch.table.num_rows,
        "dropped": pc.sum(dropped).as_py() or 0,
        "damaged_text": batch.damaged_text,
        "direct": batch.direct,
        "reasons": {row["values"]: row["counts"] for row in reasons.to_pylist()},
        **more,
    }


def totals(reports: list[Report], limit: float, what: str, source: str) -> dict[str, Any]:
    """Counts added up over shards.

    Raises
    ------
    TooManyRejectsError
        If more than the share `limit` of what was read had to be dropped.
    """
    total: dict[str, Any] = {"read": 0, "rows": 0, "dropped": 0, "damaged_text": 0, "reasons": {}}
    for shard in reports:
        for name, value in shard.items():
            if name == "reasons":
                for reason, count in value.items():
                    total[name][reason] = total[name].get(reason, 0) + count
            else:
                total[name] = total.get(name, 0) + value
    if total["dropped"] > limit * max(1, total["read"]):
        listed = ", ".join(f"{count:,} x {reason}" for reason, count in total["reasons"].items())
        raise TooManyRejectsError(
            f"{source}: {total['dropped']:,} of {total['read']:,} {what} rejected, more than "
            f"ingest.max_reject_share {limit:g} allows ({listed}); "
            "mend the file, or raise the share if this is expected"
        )
    return total


def non_empty(lists: pa.ChunkedArray) -> int:
    """Lists that hold something."""
    return int(pc.sum(pc.greater(pc.list_value_length(lists), 0)).as_py() or 0)
