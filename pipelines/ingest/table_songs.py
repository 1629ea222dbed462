"""Ingest of tables: songs, or, where no table has them, the songs that are played.

Those are known by id alone. Their ids fall into pieces by their order, as those of other songs do
(:mod:`pipelines.ingest.song_codes`); a piece has each once, and shards of the pieces' ids become
the parts of the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.errors import SourceError
from fusionrec.formats.tables import read_songs
from fusionrec.formats.tables.spec import TableSpec
from pipelines.config import Config
from pipelines.ingest.catalogue import Catalogued, catalogue
from pipelines.ingest.plays import RawPlays
from pipelines.ingest.reading import Tables, read_shards
from pipelines.ingest.song_codes import IDS_A_PIECE, bounds_of, slice_of_pieces, split_by_bounds
from pipelines.ingest.songs import SongsReport, counts_of_tags
from pipelines.ingest.sources import Origin, origins, report, totals, with_lines
from pipelines.ingest.tables import TableShard, table_shards
from pipelines.runtime import metrics, tasks
from pipelines.runtime.exchange import gather, scatter
from pipelines.runtime.shards import RowsShard, Shard, Written, shards_of_rows
from pipelines.runtime.stage import Counts, resumable
from pipelines.runtime.workspace import StageRun, part_name

STAGING = ("ids_played", "songs_played")


def read_table_songs(
    config: Config,
    run: StageRun,
    limit: float,
    spec: TableSpec,
    shards: Sequence[TableShard] | None = None,
) -> tuple[Counts, Catalogued, list[Origin]]:
    """Songs to `songs`, the first row of each, in the order of the files. Also how they lie.

    Last, where the rows of each part of `raw_songs` come from.

    The table is cut here, if its shards are not given.
    """
    shards = shards or table_shards(config, run, spec, "source.tables.songs")[0]
    reports, stream = read_shards(
        run,
        "songs",
        _read_shard,
        shards,
        ["raw_songs", "song_rejects"],
        SongsReport,
        description="reading songs",
    )
    total = totals(reports, limit, "songs", ", ".join(spec.paths))
    if total.rows == 0:
        raise SourceError(
            f"{', '.join(spec.paths)}: no readable song among {total.read:,} rows; mend "
            "source.tables.songs"
        )
    places = origins(shards, reports)
    excluded, songs = catalogue(
        run,
        [shard.rows for shard in reports],
        None,
        "song_id",
        repeats=spec.repeats,
        origins=places,
    )
    counts: Counts = {
        "tracks": total.rows,
        **counts_of_tags(reports),
        "tracks_rejected": total.dropped,
        "song_files_or_rows": total.read,
        **excluded,
        "songs_repeated": 0 if spec.repeats else total.rows - sum(songs.sizes),
        "songs": sum(songs.sizes),
        "songs_damaged_text": total.damaged_text,
        "song_rejects": total.reasons,
        "stream": stream,
    }
    return counts, songs, places


def _read_shard(shard: TableShard) -> tuple[Tables, SongsReport]:
    batch = read_songs(shard.path, shard.spec, shard.start, shard.stop)
    metrics.count("fusionrec_songs_ingested", batch.table.num_rows)
    found = {"raw_songs": with_lines(batch, batch.table), "song_rejects": shard.rejects(batch)}
    return found, SongsReport.of(report(batch), batch.table, {})


def songs_played(config: Config, run: StageRun, plays: RawPlays) -> tuple[Counts, Catalogued]:
    """The songs of all plays to `songs`, in the order of their ids. Also how they lie."""
    shards = plays.shards
    pieces = max(1, -(-sum(found.songs for found in plays.reports) // IDS_A_PIECE))
    bounds = bounds_of([found.samples for found in plays.reports], pieces)

    def mapped(name: str, function: partial[Written], over: Sequence[Shard]) -> list[Written]:
        work = resumable(run, name, function, Written)
        return tasks.map_tasks(run, work, over, description="songs that are played")

    mapped("ids_played", partial(_send, run, bounds), shards)
    each = [Shard(piece) for piece in range(len(bounds) + 1)]
    found = mapped("songs_played", partial(_distinct, run, len(shards)), each)
    firsts = np.concatenate([[0], np.cumsum([piece.rows for piece in found])]).astype(np.int64)
    parts = shards_of_rows(int(firsts[-1]), config.ingest.rows_per_shard)
    written = mapped("raw_songs", partial(_write, run, firsts), parts)
    excluded, songs = catalogue(run, [part.rows for part in written], None, "song_id")
    counts: Counts = {
        "tracks": int(firsts[-1]),
        **excluded,
        "songs": sum(songs.sizes),
        "songs_known_by_id_alone": sum(songs.sizes),
    }
    return counts, songs


def _send(run: StageRun, bounds: Sequence[str], shard: Shard) -> Written:
    table = run.workspace.read_part(run.stage, "raw_played", part_name(shard.part), ["song_id"])
    pieces = split_by_bounds(table["song_id"].combine_chunks(), bounds)
    scatter(run, table, pieces, len(bounds) + 1, "ids_played", shard.part)
    return Written(table.num_rows)


def _distinct(run: StageRun, shards: int, piece: Shard) -> Written:
    sent = pa.concat_tables(gather(run, "ids_played", piece.part, range(shards)))
    ids = pc.unique(sent["song_id"])
    run.write(pa.table({"song_id": ids.take(pc.sort_indices(ids))}), "songs_played", piece.part)
    return Written(len(ids))


def _write(run: StageRun, firsts: np.ndarray, shard: RowsShard) -> Written:
    """Songs of which nothing is known but the id, which stands for their track, too."""
    ids = slice_of_pieces(run, "songs_played", firsts, shard)["song_id"].combine_chunks()
    rows = len(ids)
    columns = {"song_id": ids, "track_id": ids}
    arrays = [
        columns[field.name] if field.name in columns else _nothing(field.type, rows)
        for field in schemas.SONGS
    ]
    run.write(pa.Table.from_arrays(arrays, schema=schemas.SONGS), "raw_songs", shard.part)
    return Written(rows)


def _nothing(kind: pa.DataType, rows: int) -> pa.Array:
    """Nulls, and lists of nothing, as songs have them of which a source says nothing."""
    if not pa.types.is_list(kind):
        return pa.nulls(rows, kind)
    return pa.ListArray.from_arrays(
        pa.array([0] * (rows + 1), pa.int32()), pa.nulls(0, kind.value_type)
    )
