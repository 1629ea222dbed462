"""The files that came after the run that an update stands on.

A file that the run read must be as it was; what the source has beside is new, whether the config's
folders and globs find it or paths that were added to `source.tables`. A file is one of a table: in
another table it is new.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fusionrec.errors import ConfigError, SourceError
from fusionrec.formats import files
from fusionrec.formats.tables import settled, table_files
from fusionrec.formats.tables.places import form_of
from fusionrec.formats.tables.spec import TableSpec
from pipelines.config import Config
from pipelines.ingest.listing import named_sources
from pipelines.ingest.tables import Specs, table_specs
from pipelines.runtime.workspace import Workspace
from pipelines.update.base import RUN, as_before, standing


def state(config: Config) -> list[list[Any]]:
    """A row for each new file of a table: what :func:`_named` says of it, its size and time.

    Raises
    ------
    SourceError
        A file that was read is another one now or is gone, or no file is new.
    """
    found = new_state(config, standing(config))
    if not found:
        raise SourceError("update: nothing is new: the source has no file that was not read")
    return found


def new_state(config: Config, workspace: Workspace) -> list[list[Any]]:
    """The same, with no row where nothing is new."""
    read = _read_before(config, workspace)
    found, now = [], set()
    for key, path in named_sources(config):
        now.add((key, path))
        if (key, path) not in read:
            try:
                found.append([_named(key, path), *files.state(path)])
            except OSError:
                raise SourceError(f"{path}: does not exist; see {key}") from None
    for key, path in sorted(read):
        if (key, path) not in now:
            raise SourceError(
                f"{path}: was read as {key}, and is no longer among its files; put it back, or "
                f"start anew by {RUN}"
            )
    _check_unchanged(workspace)
    return found


def same_state(config: Config, rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """The state now of the files that `rows` are of, whatever files came since.

    Those that are gone have no row.

    Raises
    ------
    SourceError
        A file that the run read is another one now.
    """
    _check_unchanged(standing(config))
    found = []
    for name, *_ in rows:
        with contextlib.suppress(OSError):
            found.append([name, *files.state(name.partition(_IS)[2])])
    return found


_IS = ": "


def _named(key: str, path: str) -> str:
    """A file as one of a table: the same file is another input in another table."""
    return f"{key}{_IS}{path}"


def _read_before(config: Config, workspace: Workspace) -> set[tuple[str, str]]:
    """What the lists' ingest read: files by the key of the table that each was read as."""
    states = {row[0] for row in workspace.require("ingest")["content"]["source"]}
    named = named_sources(as_before(config, workspace))
    return {(key, path) for key, path in named if path in states}


def _check_unchanged(workspace: Workspace) -> None:
    """Raise a SourceError where a file that the lists' ingest read is another one now."""
    for path, *before in workspace.require("ingest")["content"]["source"]:
        try:
            here = list(files.state(path))
        except OSError:
            raise SourceError(
                f"{path}: was read, and is gone; put it back, or start anew by {RUN}"
            ) from None
        if here != before:
            raise SourceError(
                f"{path}: has changed since it was read; put what is new into a file of its own, "
                f"or read it again by {RUN}"
            )


@dataclass(frozen=True)
class NewTables:
    """The new files of each table; None where there are none.

    Attributes
    ----------
    tables
        `songs`, `plays`, `lyrics`, and vectors as `features.NAME`. Each is read by what
        the tables' earlier files have decided (:func:`fusionrec.formats.tables.settled`).
    whole
        All tables, with the files that were read and those that are new.
    """

    tables: Mapping[str, TableSpec]
    whole: Specs

    @staticmethod
    def of(config: Config, workspace: Workspace, rows: Sequence[Sequence[Any]]) -> NewTables:
        """Of a source, of which those files are new that `rows` are of, as :func:`state` has them.

        Raises
        ------
        ConfigError, SourceError
            A table has new files that cannot be read beside the earlier ones.
        """
        new, before = {row[0] for row in rows}, _read_before(config, workspace)
        specs, found = table_specs(config), {}
        named = {"songs": specs.songs, "plays": specs.plays, "lyrics": specs.lyrics}
        named |= {f"features.{name}": spec for name, spec in specs.features.items()}
        whole: dict[str, TableSpec] = {}
        for name, spec in named.items():
            if spec is None:
                continue
            key = f"source.tables.{name}"
            _check_beside(key, spec, new)
            # Neither: what came after it was looked which files are new.
            paths = table_files(spec)
            chosen = tuple(path for path in paths if _named(key, path) in new)
            earlier = tuple(path for path in paths if (key, path) in before)
            whole[name] = replace(spec, paths=(*earlier, *chosen))
            if not chosen:
                continue
            if not earlier:
                raise ConfigError(
                    f"{key}: {chosen[0]}: the last run had no such table, so that no model has "
                    f"learned of it; start anew by {RUN}"
                )
            known = settled(replace(spec, paths=earlier))
            found[name] = replace(known, paths=chosen, ids=None)
        features = {name: whole[f"features.{name}"] for name in specs.features}
        every = Specs(whole["plays"], whole.get("songs"), whole.get("lyrics"), features)
        return NewTables(found, every)


def _check_beside(key: str, spec: TableSpec, new: set[str]) -> None:
    """Raise an error for what stands beside a table and is one file by its nature."""
    named = (path for of in spec.beside for path in table_files(of.spec))
    beside = [path for path in named if _named(key, path) in new]
    if beside:
        raise SourceError(
            f"{beside[0]}: is new, but songs of the last run would be described by it, too: start "
            f"anew by {RUN}"
        )
    chosen = (path for path in table_files(spec) if _named(key, path) in new)
    arrays = [path for path in chosen if form_of(path) == "npy"]
    if arrays and spec.kind == "features":
        raise SourceError(
            f"{arrays[0]}: {key}.ids has the ids of one .npy file; give the vectors "
            "of new songs as .npz, Parquet, CSV or JSON lines"
        )
