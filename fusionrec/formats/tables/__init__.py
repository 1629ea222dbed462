"""Catalogues of one's own: songs, plays, lyrics and vectors in tables, Arrow out.

`spec` says where a table lies and what its columns are called; readers turn a range of it into a
:class:`fusionrec.formats.batch.Batch`, with each row or cell that is of no use among the rejects.

- `places`, `reading`: which files there are, how they are cut into ranges, their rows as they stand
- `names`: which column is which
- `text_files` (lines by `delimited`), `json_lines`, `parquet_files`, `arrays` (as `numpy_files` has
  them): the kinds of files
- `values`, `times`, `lists`: what stands in a column, as ids, texts, numbers, moments, lists
- `layouts/`: data sets in the layouts that they were published in (`playlists`: Spotify's rows)
- `songs` (with `lookup`, what other tables know of them), `plays`, `lyrics`, `vectors`: what the
  rows become
- `once`: what all files of a table must have in common
"""

from fusionrec.formats.tables.layouts import LAYOUTS, Layout
from fusionrec.formats.tables.lyrics import read_lyrics
from fusionrec.formats.tables.once import settled
from fusionrec.formats.tables.places import table_files
from fusionrec.formats.tables.plays import read_plays
from fusionrec.formats.tables.reading import columns_of, ranges, read_head
from fusionrec.formats.tables.songs import read_songs
from fusionrec.formats.tables.spec import TableSpec
from fusionrec.formats.tables.vectors import feature_dimension, read_features

__all__ = [
    "LAYOUTS",
    "Layout",
    "TableSpec",
    "columns_of",
    "feature_dimension",
    "ranges",
    "read_features",
    "read_head",
    "read_lyrics",
    "read_plays",
    "read_songs",
    "settled",
    "table_files",
]
