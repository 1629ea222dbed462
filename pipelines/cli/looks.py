"""A look at the tables of a catalogue: their columns, about how many rows, what is in the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from fusionrec.errors import ConfigError, SourceError
from fusionrec.formats import files, tables
from fusionrec.formats.tables import arrays
from fusionrec.formats.tables.places import form_of
from fusionrec.formats.tables.spec import COLUMNS, REQUIRED, Kind, TableSpec
from fusionrec.formats.tables.values import is_list
from pipelines.cli.guesses import LISTS, Column, Values, guess, separator_of

_HEAD = 1000  # rows
_FILES = 20
"""As many files of a table are tried for a row."""
_BLOCK = 8 << 20
"""Bytes of text in which lines are counted; of more they are reckoned from these."""

_COMPRESSED = (".gz", ".bz2", ".zst")


@dataclass(frozen=True)
class Look:
    """One table.

    Attributes
    ----------
    spec
        What readers are to be given; paths as they were named.
    columns
        The file's column of each of `COLUMNS` that is used, and why. Of arrays none.
    unused
        Its other columns.
    values
        The first ones of all its columns.
    rows
        About how many it has; None where only reading would tell.
    """

    spec: TableSpec
    columns: Mapping[str, Column]
    unused: tuple[str, ...]
    values: Values
    rows: int | None

    @property
    def kind(self) -> Kind:
        """What its rows tell of."""
        return self.spec.kind

    def has(self, *names: str) -> bool:
        """Whether it has one of these columns, with some value among the first."""
        return any(any(self.first(name)) for name in names)

    def first(self, name: str) -> Sequence[str]:
        """The first values of a column, by its name in `COLUMNS`; none if it is not there."""
        return self.values.get(self.columns[name].name, ()) if name in self.columns else ()


def nothing(kind: Kind) -> Look:
    """Of a table that there is none of."""
    return Look(TableSpec(kind, ()), {}, (), {}, None)


def look(spec: TableSpec, given: Mapping[str, str], songs: frozenset[str] = frozenset()) -> Look:
    """Look at the first file of a table.

    Parameters
    ----------
    spec
        Its paths; of what else it says nothing is changed.
    given
        The file's names of columns that were named: they are not guessed.
    songs
        Ids of songs that are known by now.

    Raises
    ------
    SourceError
        There is no such file, it is no table, or a column that is needed cannot be told.
    ConfigError
        A column is named that there is not, or of an array the ids are not.
    """
    paths = tables.table_files(spec)
    path = paths[0]
    form = form_of(path)
    if form in ("npy", "npz"):
        if spec.kind != "features":
            raise SourceError(
                f"{path}: is of vectors, not a table of {spec.kind}; name it in --features"
            )
        if spec.ids is None and form == "npy":
            raise ConfigError(
                f"{path}: of which song is each row? Name the file of their ids, one a line: "
                f"--features NAME={path}:IDS"
            )
        tables.read_head(path, spec, 1)  # which finds out whether there are as many ids
        return Look(spec, {}, (), {}, sum(arrays.shape(each, spec)[0] for each in paths))
    path, head = _head_of_first(paths, spec)
    values = _values(head)
    for wanted, name in given.items():
        if wanted not in COLUMNS[spec.kind]:
            raise ConfigError(
                f"--column {spec.kind}.{wanted}: there is no such column; use one of "
                f"{', '.join(COLUMNS[spec.kind])}"
            )
        if name not in values:
            raise ConfigError(
                f"{path}: has no column {name} (--column {spec.kind}.{wanted}); it has "
                f"{', '.join(values)}"
            )
    found = {name: Column(column, "as it was named") for name, column in given.items()}
    others = {name: column for name, column in values.items() if name not in given.values()}
    for wanted, column in guess(spec.kind, others, songs).items():
        found.setdefault(wanted, column)
    _require(path, spec.kind, found, [*values])
    named = {name: column.name for name, column in found.items() if column.name != name}
    known = replace(spec, columns={**spec.columns, **named})
    lists = [found[name].name for name in LISTS if name in found]
    written = {of.name for of in head.schema if not is_list(of.type)}
    if lists:
        texts = [text for name in lists if name in written for text in values[name]]
        known = replace(known, separator=separator_of(texts))
    # What the readers will take: they have the last word.
    taken = tables.columns_of(path, known)
    columns = {name: found.get(name, Column(of, "by its name")) for name, of in taken.items()}
    used = {column.name for column in columns.values()}
    unused = tuple(name for name in values if name not in used and "*" not in used)
    return Look(known, columns, unused, values, _rows(paths, spec, head))


def _head_of_first(paths: Sequence[str], spec: TableSpec) -> tuple[str, pa.Table]:
    """The first file that has rows, and these: Parquet of many parts has some without."""
    for path in paths[:_FILES]:
        head = tables.read_head(path, spec, _HEAD)
        if head.num_rows:
            return path, head
    what = "has no rows"
    if form_of(paths[0]) == "text":
        names = len(tables.read_head(paths[0], spec, 1).column_names)
        what = f"names {names} columns, and no row in its beginning has as many fields"
    raise SourceError(f"{paths[0]}: {what}; give a table of {spec.kind} with rows")


def look_as_named(spec: TableSpec) -> Look:
    """The same where a layout says which column is which.

    Raises
    ------
    SourceError
        There is no such file, or it is not in this layout.
    """
    paths = tables.table_files(spec)
    head = tables.read_head(paths[0], spec, _HEAD)
    values = _values(head)
    taken = tables.columns_of(paths[0], spec)
    columns = {name: Column(of, "by the layout") for name, of in taken.items()}
    unused = tuple(name for name in values if name not in taken.values())
    return Look(spec, columns, unused, values, _rows(paths, spec, head))


def _require(path: str, kind: Kind, found: Mapping[str, Column], names: list[str]) -> None:
    for wanted in REQUIRED[kind]:
        if wanted in found or wanted == "vector":  # which may be in columns of numbers
            continue
        if len(names) < 2:
            raise SourceError(
                f"{path}: is no table of {kind}: its first line is one field, {names[0][:40]!r}; "
                "give Parquet, CSV, TSV or JSON lines, with a line of column names in CSV and TSV"
            )
        what = f"{path}: which column is the {wanted}? None of {', '.join(names)} is called so"
        if any(map(_looks_like_data, names)):
            raise SourceError(f"{what}; if this is data, put a line of column names above it")
        raise SourceError(f"{what}; say it with --column {kind}.{wanted}=NAME")


def _looks_like_data(name: str) -> bool:
    return not name or name.lstrip("+-").replace(".", "", 1).isdigit() or len(name) > 30


def _values(head: pa.Table) -> Values:
    """Of columns that share a name the first one's: no reader takes any of them."""
    found: dict[str, list[str]] = {}
    for name, column in zip(head.column_names, head.columns, strict=True):
        if name not in found:
            found[name] = _texts(column)
    return found


def _texts(column: pa.ChunkedArray) -> list[str]:
    def text(value: object) -> str:
        if isinstance(value, list):
            return "|".join("" if item is None else str(item) for item in value[:20])
        return "" if value is None else str(value).strip()

    return [text(value) for value in column.to_pylist()]


def _rows(paths: Sequence[str], spec: TableSpec, head: pa.Table) -> int | None:
    """About how many rows the files have: of text by their sizes and the first one's beginning."""
    if head.num_rows < _HEAD // 10 and len(paths) == 1 and files.size(paths[0]) < 1 << 14:
        return int(head.num_rows)  # it was read to its end
    total, per_byte = 0, None
    for path in paths:
        form = form_of(path)
        if form == "parquet":
            total += max(
                (stop for _, stop in tables.ranges(path, spec, rows=1 << 40, bytes_=1)), default=0
            )
        elif spec.layout is not None or path.lower().endswith(_COMPRESSED):
            return None
        else:
            if per_byte is None:
                per_byte = _lines_a_byte(path)
            header = form == "text" and spec.header is None
            total += round(per_byte * files.size(path)) - header
    return max(total, 0)


def _lines_a_byte(path: str) -> float:
    with files.open_binary(path) as file:
        block = file.read(_BLOCK)
    return block.count(b"\n") / max(len(block), 1)
