"""`fusionrec export`: a finished workspace's vectors, index and network, for other systems."""

from __future__ import annotations

import json
import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pipelines.cli.options import AsJson, ConfigPath, Overrides, console, loaded, shown
from pipelines.cli.options import Workspace as WorkspaceOption

log = logging.getLogger("fusionrec")


class Index(StrEnum):
    """What searches the songs."""

    none = "none"
    faiss = "faiss"
    hnsw = "hnsw"


class Model(StrEnum):
    """As `recommend.model`."""

    genre = "genre"
    network = "network"
    blend = "blend"


def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    config_path: ConfigPath = None,
    overrides: Overrides = None,
    workspace: WorkspaceOption = None,
    model: Annotated[
        Model | None,
        typer.Option("--model", help="What vectors are of; as the workspace's lists, by default."),
    ] = None,
    index: Annotated[
        Index,
        typer.Option("--index", help="A search index: faiss (exact), hnsw (a graph, by faiss)."),
    ] = Index.none,
    onnx: Annotated[bool, typer.Option("--onnx", help="Also the trained network.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    as_json: AsJson = False,
) -> None:
    """Export a finished workspace: songs' and users' vectors as Parquet, an index, the network.

    The product of a user's vector and a song's is what lists are ranked by. --index and --onnx need
    the packages of the extra `export`.
    """
    from pipelines.export import Asked
    from pipelines.export import export as write
    from pipelines.opened import Recommender
    from pipelines.runtime.progress import progress

    uri = loaded(config_path, overrides, workspace).workspace
    recommender = Recommender.open(uri, None if model is None else model.value)
    asked = Asked(out, index.value, onnx, force)
    manifest = write(recommender.ranked, asked, progress)
    if as_json:
        print(json.dumps(manifest))
        return
    console().print(_table(manifest, out))


def _table(manifest: dict[str, Any], out: Path) -> Table:
    """What was written, a row a file."""
    title = f"{manifest['model']}: vectors of {manifest['dimension']}, in {out}"
    table = Table("file", "", title=title, title_justify="left")
    for name in ("songs", "users"):
        about = manifest[name]
        without = f" ({shown(about['without_vector'])} without a vector)"
        table.add_row(about["file"], f"{shown(about['rows'])} {name}{without}")
    if (about := manifest["index"]) is not None:
        says = "exact"
        if not about["exact"] and about["recall"] is not None:
            says = f"recall@{about['recall_depth']} {about['recall']:.1%} for "
            says += f"{shown(about['recall_users'])} users"
        table.add_row(about["file"], f"faiss {about['kind']}, inner product, {says}")
    if (about := manifest["network"]) is not None:
        outputs = ", ".join(about["outputs"])
        table.add_row(
            about["file"], f"{outputs}; within {about['largest_difference']:.0e} of torch"
        )
    table.add_row("manifest.json", "what these are, of which results, and how to use them")
    return table
