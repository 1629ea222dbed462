"""What another table knows of songs."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.formats import files
from fusionrec.formats.batch import Rejects
from fusionrec.formats.tables import values
from fusionrec.formats.tables.places import form_of, table_files
from fusionrec.formats.tables.reading import columns_of, rows_of
from fusionrec.formats.tables.spec import Beside


@dataclass(frozen=True)
class Lookup:
    """A table in memory, whose rows are found by an id.

    Attributes
    ----------
    columns
        The files' names of its columns but the id.
    by
        The column that has the ids in a table which these columns are added to.
    """

    columns: dict[str, str]
    by: str
    _ids: pa.Array
    _table: pa.Table

    @staticmethod
    def of(beside: Beside) -> Lookup:
        """Read all of it. Damaged rows are passed over, of an id's rows the first one counts."""
        columns: dict[str, str] = {}
        tables = []
        for path in table_files(beside.spec):
            columns = columns_of(path, beside.spec)
            stop = files.size(path) if form_of(path) in ("text", "json") else 2**62
            read = rows_of(path, beside.spec, columns, 0, stop, Rejects())
            tables += [rows.table for rows in read]
        if not tables:
            tables.append(pa.table({name: pa.nulls(0) for name in columns}))
        table = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
        ids, _ = values.ids(table["song_id"], of_floats=True)
        return Lookup(
            {name: of for name, of in columns.items() if name != "song_id"},
            beside.by,
            ids,
            table.drop_columns(["song_id"]),
        )

    def added_to(self, table: pa.Table) -> pa.Table:
        """`table` with the columns that it has not, null where its row is of no id here."""
        if self.by not in table.column_names:
            return table
        ids, _ = values.ids(table[self.by], of_floats=True)
        found = pc.index_in(ids, value_set=self._ids, skip_nulls=True)
        for name in self._table.column_names:
            if name not in table.column_names:
                table = table.append_column(name, self._table[name].take(found))
        return table
