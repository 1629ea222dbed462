"""What the tests of tables write and look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fusionrec.formats.batch import Batch
from fusionrec.formats.tables import TableSpec, ranges
from fusionrec.formats.tables.spec import Kind


def write(folder: Path, name: str, content: bytes | str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def write_parquet(folder: Path, name: str, columns: dict[str, Any], **options: Any) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return str(path)


def spec_of(kind: Kind, path: str, **fields: Any) -> TableSpec:
    return TableSpec(kind, (path,), **fields)


def rejects(batch: Batch) -> list[tuple[str, str, str, str]]:
    """Item, reason, detail and action of each."""
    names = ("item", "reason", "detail", "action")
    return [tuple(row[name] for name in names) for row in batch.rejects.to_pylist()]  # type: ignore[misc]


def rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table.to_pylist()]


def in_ranges(read: Any, path: str, spec: TableSpec, size: int) -> list[Batch]:
    """What is read in ranges of `size` rows or bytes."""
    return [read(path, spec, *each) for each in ranges(path, spec, rows=size, bytes_=size)]
