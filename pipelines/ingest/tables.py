"""Ingest of tables: which there are, and how their files are cut into shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pyarrow as pa

from fusionrec import schemas
from fusionrec.errors import ConfigError, SourceError
from fusionrec.formats.batch import Batch
from fusionrec.formats.files import shown
from fusionrec.formats.tables import LAYOUTS, columns_of, ranges, settled, table_files
from fusionrec.formats.tables.spec import Kind, TableSpec
from pipelines.config import Config
from pipelines.config.section import Section
from pipelines.config.tables import TableConfig, TablesConfig
from pipelines.ingest.sources import FileShard, path_in_source, source_path
from pipelines.runtime import tasks
from pipelines.runtime.shards import Shard
from pipelines.runtime.workspace import StageRun


@dataclass(frozen=True)
class TableShard(FileShard):
    """A range of a table's file, in the units of :func:`fusionrec.formats.tables.ranges`.

    Attributes
    ----------
    name
        The file's path below `source.root`: tables of many files have many of one name.
    """

    spec: TableSpec
    name: str

    @property
    def source(self) -> str:
        """The file's name in rejects."""
        return self.name

    def rejects(self, batch: Batch) -> pa.Table:
        """What was rejected of the range, by the file's path."""
        names = pa.array([self.name]).take(pa.array(np.zeros(batch.rejects.num_rows, np.int32)))
        place = schemas.REJECTS.get_field_index("source")
        return batch.rejects.set_column(place, schemas.REJECTS.field(place), names)


@dataclass(frozen=True)
class Specs:
    """The tables of a source, with paths below `source.root`; None where there is none."""

    plays: TableSpec
    songs: TableSpec | None = None
    lyrics: TableSpec | None = None
    features: Mapping[str, TableSpec] = field(default_factory=dict)

    def each(self) -> Iterator[tuple[str, TableSpec]]:
        """Every table by the key that names it, and each that is looked up beside one."""
        named = {"songs": self.songs, "plays": self.plays, "lyrics": self.lyrics}
        named |= {f"features.{name}": spec for name, spec in self.features.items()}
        for name, spec in named.items():
            for each in (spec, *(of.spec for of in spec.beside)) if spec else ():
                yield f"source.tables.{name}", each


def is_tables(config: Config) -> bool:
    """Whether the source is tables, of one's own or by a published layout."""
    return config.source.format != "msd"


def table_specs(config: Config) -> Specs:
    """Where the tables lie: those of the layout, and those that `source.tables` names.

    Vectors that are named without paths are those that the layout calls so.

    Raises
    ------
    ConfigError
        No plays are named, or vectors without a file.
    SourceError
        The folder is not one of the layout.
    """
    source = config.source
    layout = LAYOUTS.get(source.format)
    found = dict(layout.tables(source.root, times=reads_times(config))) if layout else {}
    given = _given(source.tables)
    found |= {kind: _below_root(config, section.spec(kind)) for kind, section in given.items()}
    if "plays" not in found:
        raise ConfigError(
            f"source.tables.plays names no file, which source.format: {source.format} needs; set "
            "source.tables.plays to the table of user_id and song_id"
        )
    features = {}
    for name, section in source.tables.features.items():
        if section.paths:
            features[name] = _below_root(config, section.spec())
    unnamed = [name for name in source.tables.features if name not in features]
    known = layout.features(source.root) if layout and unnamed else {}
    for name in unnamed:
        if name not in known:
            has = f" (the layout has {', '.join(sorted(known))})" if known else ""
            raise ConfigError(
                f"source.tables.features.{name} names no file; set its paths, or leave it out{has}"
            )
    features |= {name: known[name] for name in unnamed}
    ordered = {name: features[name] for name in source.tables.features}
    return Specs(found["plays"], found.get("songs"), found.get("lyrics"), ordered)


def reads_times(config: Config) -> bool:
    """Whether plays that say when they were are wanted, where the source's layout has a choice.

    All folds of a comparison stand on one ingest, whichever of them is asked for: one that has a
    split by time reads times for all.
    """
    source, layout = config.source, LAYOUTS.get(config.source.format)
    if layout is None or not layout.choice or source.tables.plays.paths:
        return False
    return "time" in (config.split.by, *config.compare.splits)


def _given(tables: TablesConfig) -> dict[Kind, TableConfig]:
    """The tables that the config names, but for vectors."""
    return {kind: section for kind, section in _sections(tables).items() if section.paths}


def _sections(tables: TablesConfig) -> dict[Kind, TableConfig]:
    return {"songs": tables.songs, "plays": tables.plays, "lyrics": tables.lyrics}


def check_source(config: Config) -> None:
    """Raise a ConfigError where keys of the source do not fit together."""
    tables = config.source.tables
    if is_tables(config):
        _check_others(config)
        _check_named(config)
        table_specs(config)
        return
    named = [kind for kind, of in _sections(tables).items() if _keys_of(of)]
    named += ["features"] if tables.features else []
    if named:
        raise ConfigError(
            f"source.tables.{named[0]} is given, but source.format is msd, which reads no tables; "
            "set source.format: tables"
        )


_OF_TABLES = ("format", "root", "tables")


def _check_others(config: Config) -> None:
    """Raise a ConfigError where a key is set that the Million Song Dataset's files alone have."""
    source, ingest = config.source, config.ingest
    others = [f"source.{name}" for name in _keys_of(source) if name not in _OF_TABLES]
    others += ["ingest.segments"] if "segments" in _keys_of(ingest) else []
    if others:
        instead = {name: f"source.tables.{name}" for name in ("songs", "plays", "lyrics")}
        table = instead.get(others[0].removeprefix("source."))
        raise ConfigError(
            f"{others[0]} is given, but only source.format: msd reads it, and source.format is "
            f"{source.format}: leave it out{f', or set {table}' if table else ''}"
        )


def _check_named(config: Config) -> None:
    """Raise a ConfigError where something is said of a table that is not named."""
    source = config.source
    named: list[tuple[str, TableConfig]] = [*_sections(source.tables).items()]
    named += [(f"features.{name}", of) for name, of in source.tables.features.items()]
    for name, section in named:
        keys = _keys_of(section)
        if keys and not section.paths:
            key = f"source.tables.{name}"
            of_layout = (
                f"; the tables of source.format: {source.format} are read as they were published"
                if source.format in LAYOUTS
                else ""
            )
            raise ConfigError(
                f"{key}.{keys[0]} is given, but {key}.paths names no file that it is of: set the "
                f"paths, or leave it out{of_layout}"
            )


def _keys_of(section: Section) -> list[str]:
    """The keys that say something."""
    return [
        name
        for name, field in type(section).model_fields.items()
        if getattr(section, name) != field.get_default(call_default_factory=True)
    ]


def _below_root(config: Config, spec: TableSpec) -> TableSpec:
    ids = None if spec.ids is None else source_path(config, spec.ids)
    return replace(spec, paths=tuple(source_path(config, path) for path in spec.paths), ids=ids)


@dataclass(frozen=True)
class Cut:
    """How a file is cut, and which columns it has, by the project's names."""

    ranges: list[tuple[int, int]]
    columns: list[str]


@dataclass(frozen=True)
class _File(Shard):
    path: str


def table_shards(
    config: Config,
    run: StageRun,
    spec: TableSpec,
    key: str,
    *,
    rows: int | None = None,
    first: int = 0,
) -> tuple[list[TableShard], set[str]]:
    """Shards of a table's files, and the columns that any of them has.

    Parameters
    ----------
    key
        Of the config, which names the table.
    rows
        Of a shard at most, if fewer than `ingest.rows_per_shard`.
    first
        The number of the first shard.

    Raises
    ------
    SourceError
        There is no file, or none with a row; or one lacks a column that is needed.
    """
    settings = config.ingest
    paths: Sequence[str] = tasks.run_task(run, table_files, spec)
    spec = tasks.run_task(run, settled, spec)  # what its files must have in common
    size = min(settings.rows_per_shard, rows or settings.rows_per_shard)
    found = tasks.map_tasks(
        run,
        partial(_cut, spec, size, settings.bytes_per_shard),
        [_File(number, path) for number, path in enumerate(paths)],
        description="looking at tables",
    )
    places = [
        (path, *place) for path, cut in zip(paths, found, strict=True) for place in cut.ranges
    ]
    if not places:
        raise SourceError(f"{', '.join(spec.paths)}: holds no rows; mend {key}, or leave it out")
    shards = [
        TableShard(part, path, start, stop, spec, shown(path_in_source(config, path)))
        for part, (path, start, stop) in enumerate(places, first)
    ]
    return shards, {column for cut in found for column in cut.columns}


def _cut(spec: TableSpec, rows: int, bytes_: int, file: _File) -> Cut:
    columns = [] if spec.kind == "features" else list(columns_of(file.path, spec))
    return Cut(ranges(file.path, spec, rows=rows, bytes_=bytes_), columns)
