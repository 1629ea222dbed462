"""What is known of songs, a row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusionrec.formats.batch import Batch
from fusionrec.formats.song_rows import FLOATS, ID_LISTS, IDS, INTEGERS, TAGS, TEXTS, YEARS
from fusionrec.formats.tables import lists, values
from fusionrec.formats.tables.lookup import Lookup
from fusionrec.formats.tables.names import plain_name
from fusionrec.formats.tables.reading import columns_of, read_head, read_range
from fusionrec.formats.tables.rows import Rows
from fusionrec.formats.tables.spec import TableSpec
from fusionrec.formats.trouble import patient
from fusionrec.schemas import SONGS

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_INT32 = 2**31


@patient
def read_songs(path: str, spec: TableSpec, start: int = 0, stop: int | None = None) -> Batch:
    """Read the songs of a range that :func:`ranges` gave.

    What is unusable is emptied, as :func:`fusionrec.formats.song_rows.clean_songs` does; columns
    that the file lacks are null (lists empty). A duration whose column's name ends with `ms` is
    in milliseconds, others are in seconds; a year may be a date. See
    :data:`fusionrec.formats.tables.spec.COLUMNS` for `tags` and `popularity`.

    Returns
    -------
    Batch
        `table` in schema :data:`fusionrec.schemas.SONGS`. Rows without an id are rejects, action
        `dropped`, unusable fields action `nulled`.

    Raises
    ------
    SourceError
        The file is unreadable, lacks `song_id`, or has a column of an unusable type.
    """
    columns = columns_of(path, spec)
    head = read_head(path, spec)
    beside = [Lookup.of(each) for each in spec.beside]
    cleaner = _Cleaner(
        spec.separator,
        {n: values.head_is_of_floats(head[columns[n]]) for n in IDS if n in columns},
        {each: name for lookup in beside for each, name in lookup.columns.items()} | columns,
        beside,
    )
    if not spec.repeats:
        return read_range(path, spec, columns, start, stop, cleaner.clean, SONGS)
    batch = read_range(path, spec, columns, start, stop, cleaner.clean, SONGS, _first_of_each)
    kept = _first_of_each(batch.table)
    assert batch.places is not None
    return replace(batch, table=batch.table.take(kept), places=batch.places[kept.to_numpy()])


def _first_of_each(table: pa.Table) -> pa.Array:
    """Positions of the first row of each song, ascending."""
    codes = values.plain(table["song_id"]).dictionary_encode().indices.to_numpy()
    return pa.array(np.sort(np.unique(codes, return_index=True)[1]))


class _Cleaner:
    def __init__(
        self,
        separator: str,
        of_floats: dict[str, bool],
        columns: dict[str, str],
        beside: list[Lookup],
    ) -> None:
        self.separator, self.of_floats, self.beside = separator, of_floats, beside
        self.of_ms = plain_name(columns.get("duration", "")).endswith("ms")

    def clean(self, rows: Rows) -> tuple[pa.Table, int]:
        for lookup in self.beside:
            rows.table = lookup.added_to(rows.table)
        return _Rows(self, rows).cleaned()


class _Rows:
    """The state of cleaning some rows."""

    def __init__(self, how: _Cleaner, rows: Rows) -> None:
        self.how, self.rows = how, rows
        self.count = len(rows.table)
        self.alive = rows.alive
        self.damaged = 0

    def cleaned(self) -> tuple[pa.Table, int]:
        arrays: dict[str, pa.Array] = {}
        for name in ("song_id", "track_id"):
            if name == "track_id" and not self._has(name):
                arrays[name] = arrays["song_id"]
                continue
            column = self.rows.table[name]
            arrays[name], damaged = values.of_column(
                name, values.ids, column, self.how.of_floats[name]
            )
            self.damaged += damaged
            missing = np.asarray(arrays[name].is_null())
            self.rows.drop(missing, f"empty {name}", column)
        for name in TEXTS:
            arrays[name] = self._texts(name)
        for name in (*FLOATS, "song_hotttnesss"):
            arrays[name] = self._floats(name)
        for name in INTEGERS:
            arrays[name] = self._integers(name)
        arrays["year"] = self._years()
        for name, companion in TAGS.items():
            arrays[name], arrays[companion] = self._tags(name, companion)
        for name in ID_LISTS:
            arrays[name] = self._id_lists(name)
        table = pa.Table.from_arrays([arrays[field.name] for field in SONGS], schema=SONGS)
        return (table if self.alive.all() else table.filter(pa.array(self.alive))), self.damaged

    def _has(self, name: str) -> bool:
        return name in self.rows.table.column_names

    def _null(self, where: npt.NDArray[np.bool_], reason: str, name: str) -> None:
        self.rows.note(self.alive & where, reason, self.rows.table[name], "nulled")

    def _nulls(self, name: str) -> pa.Array:
        return pa.nulls(self.count, SONGS.field(name).type)

    def _texts(self, name: str) -> pa.Array:
        if not self._has(name):
            return self._nulls(name)
        read: Callable[..., tuple[pa.Array, int]] = (
            values.ids if name == "artist_id" else values.texts
        )
        found, damaged = values.of_column(name, read, self.rows.table[name])
        self.damaged += damaged
        self._null(np.asarray(found.is_null()), f"{name} is empty", name)
        return found

    def _floats(self, name: str) -> pa.Array:
        column = name
        if name == "song_hotttnesss" and not self._has(name):
            column = "popularity"
        if not self._has(column):
            return self._nulls(name)
        found, empty, wrong = values.of_column(column, values.numbers, self.rows.table[column])
        wrong |= np.abs(found) > _FLOAT32_MAX
        if name != "song_hotttnesss":  # which most songs lack
            self._null(empty, f"{column} is empty", column)
        self._null(wrong, f"{column} is not a number", column)
        usable = ~empty & ~wrong
        if name == "duration":
            self._null(usable & (found <= 0), "duration is not positive", column)
            usable &= found > 0
            found = found / 1000 if self.how.of_ms else found
        return pa.array(np.where(usable, found, 0).astype(np.float32), mask=~usable)

    def _integers(self, name: str) -> pa.Array:
        if not self._has(name):
            return self._nulls(name)
        found, _, _ = values.of_column(name, values.numbers, self.rows.table[name])
        usable = (found == np.floor(found)) & (found >= -_INT32) & (found < _INT32)
        self._null(~usable, f"{name} is not an integer", name)
        return pa.array(np.where(usable, found, 0).astype(np.int32), mask=~usable)

    def _years(self) -> pa.Array:
        if not self._has("year"):
            return self._nulls("year")
        found = values.of_column("year", values.years, self.rows.table["year"])
        usable = (found == np.floor(found)) & (found >= YEARS[0]) & (found <= YEARS[1])
        self._null(~usable, "year unknown", "year")
        return pa.array(np.where(usable, found, 0).astype(np.int32), mask=~usable)

    def _tags(self, name: str, companion: str) -> tuple[pa.Array, pa.Array]:
        """Tags and the numbers beside them, which are null where there are none or too few."""
        given = name if self._has(name) else "tags"
        beside = companion if self._has(companion) else "tag_counts"
        type_ = SONGS.field(companion).type
        if not self._has(given):
            return lists.empty(self.count, pa.string()), lists.empty(self.count, type_.value_type)
        tags, damaged = values.of_column(
            given, lists.texts, self.rows.table[given], self.how.separator
        )
        self.damaged += damaged if name == given or name == "mbtags" else 0
        first = name == given or name == "mbtags" or self._has("mbtags")
        numbers = None
        if self._has(beside):
            numbers = values.of_column(
                beside, lists.numbers, self.rows.table[beside], self.how.separator
            )
            differ = np.asarray(lists.lengths(numbers) != lists.lengths(tags))
            if first:
                self._null(differ, f"{beside} do not match {given}", beside)
            numbers = lists.nulled(numbers, differ)
        tags, numbers, holes = lists.without_empty(tags, numbers)
        if first:
            self._null(holes, f"empty tag in {given}", given)
        if numbers is None:
            none = lists.empty(self.count, type_.value_type)
            return tags, lists.nulled(none, lists.lengths(tags) > 0)
        return tags, lists.cast_numbers(numbers, type_)

    def _id_lists(self, name: str) -> pa.Array:
        if not self._has(name):
            return lists.empty(self.count, pa.string())
        found, damaged = values.of_column(
            name, lists.texts, self.rows.table[name], self.how.separator
        )
        self.damaged += damaged
        found, _, holes = lists.without_empty(found, None)
        self._null(holes, f"empty id in {name}", name)
        return found
