"""Rows that change hands by pieces: each comes where it belongs, in the order of the shards."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.runtime.exchange import gather, scatter
from tests.pipelines.conftest import ingest_run


@pytest.mark.parametrize("count", [1, 3, 40])
def test_a_piece_has_its_rows_of_all_shards_in_order(tmp_path, count) -> None:
    run = ingest_run(tmp_path)
    rng = np.random.default_rng(0)
    sent = []
    for part in (0, 1, 2):
        rows = [(part, row) for row in range((30, 0, 12)[part])]
        table = pa.table(
            {"shard": [s for s, _ in rows], "row": [r for _, r in rows]},
            schema=pa.schema([("shard", pa.int32()), ("row", pa.int64())]),
        )
        pieces = rng.integers(0, count, len(rows))
        scatter(run, table, pieces, count, "sent", part)
        sent += [(piece, *row) for piece, row in zip(pieces.tolist(), rows, strict=True)]
    for piece in range(count):
        tables = gather(run, "sent", piece, (0, 1, 2))
        found = pa.concat_tables(tables).to_pylist()
        assert [tuple(row.values()) for row in found] == [
            row[1:] for row in sent if row[0] == piece
        ]
    assert gather(run, "sent", 0, [2])[0].equals(gather(run, "sent", 0, (0, 1, 2))[2])
