"""The run that an update stands on, and the files that came after it.

It is the run that the workspace's lists for everyone are of. A file that it read must be as it was;
what the source has beside is new, whether the config's folders and globs find it or paths that were
added to `source.tables`. Nothing else of the config may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from fusionrec.errors import ConfigError, SourceError, WorkspaceError
from fusionrec.formats import files
from fusionrec.formats.tables import settled, table_files
from fusionrec.formats.tables.places import form_of
from fusionrec.formats.tables.spec import TableSpec
from pipelines import lists
from pipelines.config import Config, replaced
from pipelines.ingest.listing import named_sources
from pipelines.ingest.tables import Specs, is_tables, table_specs
from pipelines.runtime import differences
from pipelines.runtime.stage import Plan, Plans, Stage
from pipelines.runtime.workspace import Workspace

_RUN = "`fusionrec run`, and then `fusionrec recommend --for everyone`"
_ONLY = "only `all` and `repeat`, `years`, `tags`, `top` and `formats` can be brought up to date"


def standing(config: Config) -> Workspace:
    """The workspace with its lists for everyone, and each result that they were made from.

    Raises
    ------
    WorkspaceError
        There are none, or they are not of what is current.
    """
    workspace = Workspace(config.workspace)
    manifest = workspace.manifest("lists")
    if manifest is None:
        raise WorkspaceError(
            f"{workspace.root}/lists: there are no lists for everyone to bring up to date; make "
            f"them by {_RUN}"
        )
    current = workspace.current()
    others = [name for name, key in manifest["lineage"].items() if current.get(name) != key]
    if others:
        raise WorkspaceError(
            f"{workspace.root}/lists: these lists are of another {', '.join(others)} than the "
            f"current one; make them anew by {_RUN}"
        )
    return workspace.of("lists")


@dataclass(frozen=True)
class AsItIs(Stage):
    """A stage whose result is the current one, whatever the config asks for."""

    def plan(
        self,
        config: Config,
        workspace: Workspace,
        *,
        look: bool = False,
        known: Plans | None = None,
    ) -> Plan:
        """The result that is there."""
        manifest = standing(config).require(self.name)
        lineage, content = manifest["lineage"], manifest["content"]
        return Plan(self, manifest["key"], content, lineage, (), manifest)


LISTS = AsItIs(**{field.name: getattr(lists.STAGE, field.name) for field in fields(Stage)})
"""The lists that are brought up to date."""


def check(config: Config) -> None:
    """Raise an error where these lists cannot be brought up to date, or by this config.

    Raises
    ------
    ConfigError
        Something else of the config differs than paths of tables, or a key of `lists` asks for what
        new songs and plays would change in other ways than by being added.
    WorkspaceError
        There are no lists to bring up to date.
    """
    if not is_tables(config):
        raise ConfigError(
            "source.format: msd has no new songs: the Million Song Dataset is closed; update is "
            "for tables (source.format: tables, or a layout)"
        )
    asked = config.lists
    if asked.candidates != "all":
        raise ConfigError(
            f"lists.candidates: {asked.candidates}: these lists cannot be brought up to date, as "
            f"new plays or songs change which songs there are to choose from ({_ONLY}); make them "
            f"anew by {_RUN}"
        )
    if asked.per_artist is not None:
        raise ConfigError(
            "lists.per_artist: lists with so many songs of an artist at most cannot be brought up "
            f"to date ({_ONLY}); make them anew by {_RUN}"
        )
    workspace = standing(config)
    found = differing(config, workspace)
    if found:
        raise ConfigError(
            f"update: the config differs from that of the lists by {', '.join(found)}; only "
            f"source.tables.*.paths may differ: set it as it was, or start anew by {_RUN}"
        )


def differing(config: Config, workspace: Workspace) -> list[str]:
    """What else differs than paths of tables, for people."""
    before = as_before(config, workspace)
    plan = lists.STAGE.plan(before, workspace)
    found: list[str] = []
    _differing(plan, workspace, found, set())
    if plan.key != workspace.keys["lists"] and not found:
        found.append("what was decided on the way by the machine")
    return found


def _differing(plan: Plan, workspace: Workspace, found: list[str], seen: set[str]) -> None:
    """Of this result and of those that it is made from, first what comes first."""
    name = plan.stage.name
    if name in seen or workspace.keys.get(name) == plan.key:
        return
    seen.add(name)
    for each in plan.inputs:
        _differing(each, workspace, found, seen)
    manifest = workspace.manifest(name)
    if manifest is None:
        found.append(f"stage {name}, which it did not have")
        return
    of = differences.of_contents(manifest["content"], plan.content)
    told = [each for each in of if not each.startswith("of another result of ")]
    found += [f"{name}: {each}" for each in told]


def as_before(config: Config, workspace: Workspace) -> Config:
    """The config with the paths of tables that the lists' ingest was given."""
    source = workspace.require("ingest")["content"]["settings"]["source"]
    tables: Mapping[str, Any] = source.get("tables", {})
    values: dict[str, Any] = {}
    for kind in ("songs", "plays", "lyrics"):
        if kind in tables:
            values[f"source.tables.{kind}.paths"] = tables[kind]["paths"]
    for name in config.source.tables.features:
        if name in tables.get("features", {}):
            paths = tables["features"][name]["paths"]
            values[f"source.tables.features.{name}.paths"] = paths
    return replaced(config, values)


def state(config: Config) -> list[list[Any]]:
    """A row for each new file: its path, size and time.

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
    before = {row[0]: row[1:] for row in workspace.require("ingest")["content"]["source"]}
    found, now = [], set()
    for key, path in named_sources(config):
        try:
            here = list(files.state(path))
        except OSError:
            raise SourceError(f"{path}: does not exist; see {key}") from None
        now.add(path)
        if path not in before:
            found.append([path, *here])
        elif here != before[path]:
            raise SourceError(
                f"{path}: has changed since it was read; put what is new into a file of its own, "
                f"or read it again by {_RUN}"
            )
    for path in before:
        if path not in now:
            raise SourceError(
                f"{path}: was read, and is no longer among the files of source.tables; put it "
                f"back, or start anew by {_RUN}"
            )
    return found


@dataclass(frozen=True)
class NewTables:
    """The new files of each table; None where there are none.

    Attributes
    ----------
    tables
        `songs`, `plays`, `lyrics`, and vectors as `features.NAME`. Each is read by what
        the tables' earlier files have decided (:func:`fusionrec.formats.tables.settled`).
    whole
        All tables, with the files that were read.
    """

    tables: Mapping[str, TableSpec]
    whole: Specs

    @staticmethod
    def of(config: Config, workspace: Workspace) -> NewTables:
        """Of a source.

        Raises
        ------
        ConfigError, SourceError
            A table has new files that cannot be read beside the earlier ones.
        """
        new = {row[0] for row in new_state(config, workspace)}
        whole, found = table_specs(config), {}
        named = {"songs": whole.songs, "plays": whole.plays, "lyrics": whole.lyrics}
        named |= {f"features.{name}": spec for name, spec in whole.features.items()}
        for name, spec in named.items():
            if spec is None:
                continue
            _check_beside(name, spec, new)
            paths = table_files(spec)
            chosen = tuple(path for path in paths if path in new)
            if not chosen:
                continue
            earlier = tuple(path for path in paths if path not in new)
            if not earlier:
                raise ConfigError(
                    f"source.tables.{name}: {chosen[0]}: the last run had no such table, so that "
                    f"no model has learned of it; start anew by {_RUN}"
                )
            known = settled(replace(spec, paths=earlier))
            found[name] = replace(known, paths=chosen, ids=None)
        return NewTables(found, whole)


def _check_beside(name: str, spec: TableSpec, new: set[str]) -> None:
    """Raise an error for what stands beside a table and is one file by its nature."""
    beside = [path for of in spec.beside for path in table_files(of.spec) if path in new]
    if beside:
        raise SourceError(
            f"{beside[0]}: is new, but songs of the last run would be described by it, too: start "
            f"anew by {_RUN}"
        )
    arrays = [path for path in table_files(spec) if path in new and form_of(path) == "npy"]
    if arrays and name.startswith("features."):
        raise SourceError(
            f"{arrays[0]}: source.tables.{name}.ids has the ids of one .npy file; give the vectors "
            "of new songs as .npz, Parquet, CSV or JSON lines"
        )
