"""The run that an update stands on: the one that the workspace's lists for everyone are of.

Of the config nothing may differ but paths of tables (:mod:`pipelines.update.sources`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from fusionrec.errors import ConfigError, WorkspaceError
from pipelines import lists
from pipelines.config import Config, replaced
from pipelines.ingest.tables import is_tables
from pipelines.runtime import differences
from pipelines.runtime.stage import Plan, Plans, Stage
from pipelines.runtime.workspace import Workspace

RUN = "`fusionrec run`, and then `fusionrec recommend --for everyone`"
_ONLY = "only `all` can be brought up to date, with whatever other keys of `lists`"


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
            f"them by {RUN}"
        )
    current = workspace.current()
    others = [name for name, key in manifest["lineage"].items() if current.get(name) != key]
    if others:
        raise WorkspaceError(
            f"{workspace.root}/lists: these lists are of another {', '.join(others)} than the "
            f"current one; make them anew by {RUN}"
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
            f"anew by {RUN}"
        )
    workspace = standing(config)
    found = differing(config, workspace)
    if found:
        raise ConfigError(
            f"update: the config differs from that of the lists by {', '.join(found)}; only "
            f"source.tables.*.paths may differ: set it as it was, or start anew by {RUN}"
        )


def differing(config: Config, workspace: Workspace) -> list[str]:
    """What else differs than paths of tables, for people."""
    before = as_before(config, workspace)
    plan = lists.STAGE.plan(before, workspace)
    found: list[str] = []
    missing: list[str] = []
    _differing(plan, workspace, found, missing, set())
    found = list(dict.fromkeys(found)) or missing  # a stage more follows from what is asked for
    if plan.key != workspace.keys["lists"] and not found:
        found.append("what was decided on the way by the machine")
    return found


def _differing(
    plan: Plan, workspace: Workspace, found: list[str], missing: list[str], seen: set[str]
) -> None:
    """Of this result and of those that it is made from, first what comes first.

    What differs is in `found`, and in `missing` which stages there were none of.
    """
    name = plan.stage.name
    if name in seen or workspace.keys.get(name) == plan.key:
        return
    seen.add(name)
    for each in plan.inputs:
        _differing(each, workspace, found, missing, seen)
    manifest = workspace.manifest(name)
    if manifest is None:
        missing.append(f"stage {name}, which it did not have")
        return
    of = differences.of_contents(manifest["content"], plan.content)
    told = [each for each in of if not each.startswith(_FOLLOWS)]
    if name == "lists" and any(each.startswith("model: ") for each in told):
        told = [each for each in told if not each.startswith("weighting: ")]  # of one model alone
    of_recommend = ("model: ", "weighting: ") if name == "lists" else ()
    found += [
        f"{'recommend.' if each.startswith(of_recommend) else f'{name}: '}{each}" for each in told
    ]


_FOLLOWS = ("of another result of ", "of another state of its source")
"""What differs where something else does: an input, or what was seen for other settings."""


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
