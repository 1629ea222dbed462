"""Catalogues of one's own: songs, plays, lyrics and vectors in tables, Arrow out.

`spec` says where a table lies and what its columns are called; readers turn a range of it into a
:class:`fusionrec.formats.batch.Batch`, with each row or cell that is of no use among the rejects.

- `places`, `reading`: which files there are, how they are cut into ranges, their rows as they stand
- `names`: which column is which
- `text_files` (lines by `delimited`), `parquet_files`: the kinds of files
- `values`, `lists`: what stands in a column, as ids, texts, numbers, times
- `songs`, `plays`: what becomes of the rows
"""

from fusionrec.formats.tables.places import table_files
from fusionrec.formats.tables.plays import read_plays
from fusionrec.formats.tables.reading import columns_of, ranges, read_head
from fusionrec.formats.tables.songs import read_songs
from fusionrec.formats.tables.spec import TableSpec

__all__ = [
    "TableSpec",
    "columns_of",
    "ranges",
    "read_head",
    "read_plays",
    "read_songs",
    "table_files",
]
