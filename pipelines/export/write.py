"""The export of a workspace, file by file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from fusionrec import __version__
from fusionrec.errors import ConfigError, DataError
from pipelines.export import plays, use
from pipelines.export.folder import FORMAT, MANIFEST, refused, replacing
from pipelines.export.index import FILES, SAMPLED, faiss_module, write_index
from pipelines.export.network import NETWORK, require_onnx, write_network
from pipelines.export.vectors import SONGS, USERS, write_songs, write_users
from pipelines.opened.ranked import Ranked

FORMAT_VERSION = 1
"""Raised when what is in the files changes."""

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows a step of so many parts, and yields what is told of those that are done."""

_LIBRARIES = ("pyarrow", "faiss-cpu", "torch", "onnx", "onnxscript")

_SPACES = {"genre": "probabilities", "network": "vector"}
"""By model, the output of a network that is the vector of a song, as it is ranked by."""


@dataclass(frozen=True)
class Asked:
    """What is to be exported.

    Attributes
    ----------
    out
        The folder to write; it may be there if it is empty.
    index
        `faiss` (exact), `hnsw` (a graph) or `none`.
    onnx
        Also the network.
    force
        Replace an earlier export.
    """

    out: Path
    index: Literal["faiss", "hnsw", "none"] = "none"
    onnx: bool = False
    force: bool = False


@contextmanager
def _unseen(description: str, total: int) -> Any:
    yield lambda done: None


def export(ranked: Ranked, asked: Asked, progress: Progress = _unseen) -> dict[str, Any]:
    """Write what a workspace ranks by to a folder, which appears when all of it is there.

    Parameters
    ----------
    ranked
        The workspace by one of its models.
    progress
        Shows how far it is.

    Returns
    -------
    dict
        The manifest, as it is written.

    Raises
    ------
    ConfigError
        The folder cannot be written or has something already, or a package is missing.
    DataError
        No song has a vector.
    WorkspaceError
        Something is not finished in the workspace.
    """
    if asked.index not in (*FILES, "none"):
        raise ConfigError(f"--index {asked.index}: must be one of {', '.join(FILES)}, none")
    if asked.index != "none":
        faiss_module()
    workspace = ranked.workspace
    if asked.onnx:
        require_onnx()
        workspace.require("train")
    with replacing(asked.out, asked.force) as folder:
        manifest = _written(ranked, asked, folder, progress)
        with refused(folder):
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def _written(ranked: Ranked, asked: Asked, folder: Path, progress: Progress) -> dict[str, Any]:
    """All but the manifest, which is returned."""
    if not ranked.songs.known.any():
        raise DataError(
            f"{ranked.workspace.uri}: no song has a vector of the model {ranked.model!r}: see "
            "`fusionrec status` for what the songs lack"
        )
    network = None
    if asked.onnx:  # first: it may turn out to be none, and takes the least time
        with progress(f"writing {NETWORK}", 1) as advance:
            network = write_network(ranked.workspace, folder / NETWORK)
            advance(1)
    F, songs_without = write_songs(ranked, folder / SONGS)
    with progress("exporting users", plays.count(ranked.workspace)) as advance:
        users = write_users(ranked, folder / USERS, SAMPLED, advance)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "workspace": ranked.workspace.uri,
        "results": dict(ranked.workspace.keys),
        "model": ranked.model,
        "weighting": ranked.weighting if ranked.model == "genre" else None,
        "dimension": F.shape[1],
        "dtype": "float32",
        "metric": "inner product",
        "songs": {"file": SONGS, "rows": len(F), "without_vector": songs_without},
        "users": {"file": USERS, "rows": users.rows, "without_vector": users.without},
        "vector_of_others": None if users.nobody is None else users.nobody.tolist(),
        "index": None,
        "network": None,
        "use": {"vectors": use.VECTORS},
        "libraries": {"fusionrec": __version__, **{name: _version(name) for name in _LIBRARIES}},
    }
    if asked.index != "none":
        file = FILES[asked.index]
        with progress(f"building {file}", 1) as advance:
            about = write_index(asked.index, F, users.sample, folder / file)
            advance(1)
        manifest["index"] = {"file": file, "row": "that of the songs", **about}
        manifest["use"]["index"] = use.of_index(file)
    if network is not None:
        space = _SPACES.get(ranked.model)
        manifest["network"] = {"file": NETWORK, **network, "song_vector": space}
        fused = ranked.workspace.path("fuse", "fused")
        manifest["use"]["network"] = use.of_network(
            NETWORK, network["inputs"], network["outputs"], fused
        )
    return manifest


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
