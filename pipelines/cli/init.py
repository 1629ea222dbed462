"""`fusionrec init`: a configuration for tables of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from fusionrec.errors import ConfigError
from pipelines import config
from pipelines.cli.named_tables import Named, absolute, below, columns_of, features_of
from pipelines.cli.options import AsJson, console, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusionrec.formats.tables.spec import Kind
    from pipelines.cli.drafts import Catalogue, Plan
    from pipelines.cli.looks import Look


def init(
    songs: Annotated[
        str | None, typer.Option("--songs", help="Table of songs: a file, folder, glob or URI.")
    ] = None,
    plays: Annotated[
        str | None, typer.Option("--plays", help="Table of who played what, how often, when.")
    ] = None,
    lyrics: Annotated[
        str | None, typer.Option("--lyrics", help="Table of songs' words, as text or counted.")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--features",
            help="Vectors of songs, NAME=PATH, or NAME=PATH:IDS where .npy needs a file of ids. "
            "May be repeated.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            help="Which column is which, where it cannot be told: plays.user_id=uid. May be "
            "repeated.",
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option("--format", help="A published layout in the folder --root, as recbole."),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option("--root", help="Folder or URI of the layout; tables' paths are below it."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The configuration to write.")
    ] = Path("config.yaml"),
    workspace: Annotated[
        str, typer.Option("--workspace", "-w", help="Folder or URI of the runs' artifacts.")
    ] = "workspace",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the configuration.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at tables of songs and plays, and write a commented configuration for them."""
    from pipelines.cli.drafts import plan, to_yaml

    if output.exists() and not force:
        raise ConfigError(f"{output}: is there already; overwrite it with --force, or see --output")
    if layout is None and (songs is None or plays is None):
        raise ConfigError("give --songs and --plays, the two tables that it takes at least")
    if layout is not None and (root is None or songs or plays or columns):
        raise ConfigError(
            f"--format {layout} knows its songs and plays: give --root, the folder that they are "
            "in, and none of --songs, --plays, --column"
        )
    given = columns_of(columns or ())
    tables = {"songs": songs, "plays": plays, "lyrics": lyrics}
    named = {name: Named(path) for name, path in tables.items() if path is not None}
    vectors = features_of(features or ())
    named |= {f"features.{name}": table for name, table in vectors.items()}
    place, named = below(root, named)
    found = _looked_at(place, named, given, {} if layout is None else _of_layout(layout, place))
    chosen = plan(found)
    source = {"format": layout or "tables", "root": place}
    text = to_yaml(source, named, found, chosen, absolute(workspace))
    config.from_dict(yaml.safe_load(text), source=str(output))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written ({error}); see --output") from None
    if as_json:
        print(json.dumps(_report(output, found, chosen)))
    else:
        _print(output, found, chosen)


def _looked_at(
    place: str,
    named: Mapping[str, Named],
    given: Mapping[str, Mapping[str, str]],
    known: Mapping[Kind, Look],
) -> Catalogue:
    """All tables: those of a layout, which are `known`, and those that were named."""
    from fusionrec.formats import files
    from fusionrec.formats.tables.spec import TableSpec
    from pipelines.cli.drafts import Catalogue
    from pipelines.cli.looks import look, nothing

    def looked(key: str, kind: Kind, songs: frozenset[str] = frozenset()) -> Look:
        ids = named[key].ids
        paths = (files.join(place, named[key].path),)
        spec = TableSpec(kind, paths, ids=files.join(place, ids) if ids else None)
        return look(spec, given.get(kind, {}), songs)

    songs = looked("songs", "songs") if "songs" in named else known.get("songs", nothing("songs"))
    ids = frozenset(songs.first("song_id"))
    return Catalogue(
        songs,
        looked("plays", "plays", ids) if "plays" in named else known["plays"],
        looked("lyrics", "lyrics", ids) if "lyrics" in named else known.get("lyrics"),
        {
            key.removeprefix("features."): looked(key, "features", ids)
            for key in named
            if key.startswith("features.")
        },
    )


def _of_layout(layout: str, place: str) -> dict[Kind, Look]:
    from fusionrec.formats.tables import LAYOUTS
    from pipelines.cli.looks import look_as_named

    if layout not in LAYOUTS:
        raise ConfigError(f"--format {layout}: use one of {', '.join(LAYOUTS)}")
    return {kind: look_as_named(spec) for kind, spec in LAYOUTS[layout].tables(place).items()}


def _report(output: Path, found: Catalogue, chosen: Plan) -> dict[str, Any]:
    return {
        "config": str(output),
        "tables": {
            key: {
                "paths": list(look.spec.paths),
                "rows": look.rows,
                "columns": {name: column.name for name, column in look.columns.items()},
                "unused": list(look.unused),
            }
            for key, look in found.looks.items()
        },
        "settings": {choice.key: choice.value for choice in chosen.choices},
        "remarks": list(chosen.remarks),
    }


def _print(output: Path, found: Catalogue, chosen: Plan) -> None:
    out = console()
    for key, look in found.looks.items():
        if not look.spec.paths:
            out.print(f"{key}: none", highlight=False)
            continue
        rows = "" if look.rows is None else f", about {shown(look.rows)} rows"
        out.print(f"{key}: {', '.join(look.spec.paths)}{rows}", soft_wrap=True, highlight=False)
        for name, column in look.columns.items():
            why = "" if column.why == "by its name" else f"  ({column.why})"
            out.print(f"  {name} <- {column.name}{why}", soft_wrap=True, highlight=False)
        if look.unused:
            unused = ", ".join(name or "a column without a name" for name in look.unused)
            out.print(f"  not used: {unused}", soft_wrap=True, highlight=False)
    for remark in chosen.remarks:
        out.print(f"Remark: {remark}", highlight=False)
    out.print(f"Written: {output}. See what it says, then", soft_wrap=True, highlight=False)
    out.print(f"  fusionrec run --config {output}", soft_wrap=True, highlight=False)
