"""Which songs are ranked for everybody, and what of them the lists depend on beside vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from os.path import expanduser
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.errors import ConfigError
from fusionrec.formats import files
from pipelines.config import Config
from pipelines.config.lists import NAMED, PARTS
from pipelines.opened.ranked import listeners as count_listeners
from pipelines.recommend.vectors import Catalogue, read_catalogue
from pipelines.runtime.workspace import Workspace

NAMES_SHOWN = 5
"""Unknown ids of a file that are named."""


@dataclass(frozen=True)
class Offered:
    """Songs for everybody.

    Attributes
    ----------
    catalogue
        All songs, with these as its candidates.
    listeners
        Users who played each song of the catalogue, int64 (S,).
    artists
        A number for the artist of each candidate, int64 (N,); a song of no known artist has one of
        its own.
    counts
        What became of the songs, for the manifest.
    """

    catalogue: Catalogue
    listeners: np.ndarray
    artists: np.ndarray
    counts: dict[str, Any]

    @property
    def candidates(self) -> np.ndarray:
        """Their codes, int32, ascending."""
        return self.catalogue.candidates


def of_file(config: Config) -> str | None:
    """The file of `lists.candidates`, a path or URI; None if it is a name."""
    chosen = config.lists.candidates
    if chosen in NAMED:
        return None
    return chosen if files.is_uri(chosen) else expanduser(chosen)


def read_file(path: str) -> bytes:
    """The content of a file of song ids.

    Raises
    ------
    ConfigError
        It is missing, cannot be read, or has no line.
    """
    try:
        with files.open_binary(path) as file:
            content = file.read()
    except FileNotFoundError:
        raise ConfigError(
            f"lists.candidates: {path}: there is no such file; name one of song ids, one a line, "
            f"or set it to {', '.join(NAMED[:-1])} or {NAMED[-1]}"
        ) from None
    except OSError as error:
        raise ConfigError(f"lists.candidates: {path}: cannot be read ({error})") from None
    if not content.split():
        raise ConfigError(f"lists.candidates: {path}: is empty; write song ids into it, one a line")
    return content


def source(config: Config) -> dict[str, str]:
    """What the lists depend on outside of the workspace: the ids of a file."""
    path = of_file(config)
    if path is None:
        return {}
    return {"candidates": blake2b(read_file(path), digest_size=16).hexdigest()}


def ids_of(content: bytes) -> pa.Array:
    """The ids of a file, each once, in its order."""
    lines = (line.strip() for line in content.decode("utf-8-sig", "replace").splitlines())
    return pa.array(dict.fromkeys(line for line in lines if line), pa.string())


def read_offered(config: Config, workspace: Workspace, ids: pa.Array | None) -> Offered:
    """Choose the candidates.

    Parameters
    ----------
    ids
        Of a file, if they are of one.

    Raises
    ------
    ConfigError
        There are fewer than `lists.least`.
    """
    asked = config.lists
    catalogue = read_catalogue(config.recommend.model, workspace)
    listeners = count_listeners(workspace, len(catalogue.part))
    chosen, counts = _chosen(asked.candidates, catalogue, listeners, ids)
    counts |= {"songs": int(chosen.sum())}
    kept = chosen & catalogue.has_vector
    counts |= {"without_vector": int(chosen.sum() - kept.sum())}
    if asked.years is not None or asked.tags is not None:
        of_them = kept & filtered(workspace, asked.years, asked.tags)
        counts |= {"filtered_out": int(kept.sum() - of_them.sum())}
        kept = of_them
    candidates = np.flatnonzero(kept).astype(np.int32)
    if len(candidates) < asked.least:
        raise ConfigError(_too_few(config, len(candidates), counts))
    return Offered(
        replace(catalogue, candidates=candidates),
        listeners,
        artists_of(workspace.read("ingest", "songs", ["artist_id"])["artist_id"])[candidates],
        counts,
    )


def _chosen(
    name: str, catalogue: Catalogue, listeners: np.ndarray, ids: pa.Array | None
) -> tuple[np.ndarray, dict[str, Any]]:
    """The songs that `lists.candidates` names, bool (S,), and what is to be counted of them."""
    if ids is not None:
        rows = pc.index_in(ids, value_set=catalogue.song_ids)
        chosen = np.zeros(len(listeners), bool)
        chosen[rows.drop_null().to_numpy()] = True
        unknown = ids.filter(pc.is_null(rows))
        first = unknown.slice(0, NAMES_SHOWN).to_pylist()
        return chosen, {"unknown_ids": len(unknown), "first_unknown_ids": first}
    if name == "new":
        return listeners == 0, {}
    if name in PARTS:
        return catalogue.part == name, {}
    return np.ones(len(listeners), bool), {}


def _too_few(config: Config, found: int, counts: dict[str, Any]) -> str:
    asked = config.lists
    filters = [f"lists.{name}" for name in ("years", "tags") if getattr(asked, name) is not None]
    left = ", ".join(
        f"{counts[name]:,} {what}"
        for name, what in (
            ("unknown_ids", "ids are in no catalogue"),
            ("without_vector", "have no vector"),
            ("filtered_out", f"left out by {' and '.join(filters)}"),
        )
        if counts.get(name)
    )
    widen = " or ".join(["lists.candidates", *filters])
    return (
        f"{found:,} songs are left of lists.candidates: {asked.candidates}"
        f"{f' ({left})' if left else ''}, and lists.least is {asked.least:,}: widen {widen}"
        f"{', or lower lists.least' if found else ''}"
    )


def filtered(
    workspace: Workspace,
    years: tuple[int, int] | None,
    tags: tuple[str, ...] | None,
    stage: str = "ingest",
    artifact: str = "songs",
) -> np.ndarray:
    """Songs of these years with one of these tags, bool (S,)."""
    wanted = None if tags is None else pc.utf8_lower(pa.array(tags, pa.string()))
    parts = [np.zeros(0, bool)]
    for name in workspace.parts(stage, artifact):
        table = workspace.read_part(stage, artifact, name, ["year", "terms", "mbtags"])
        kept = np.ones(table.num_rows, bool)
        if years is not None:
            year = table["year"].fill_null(years[0] - 1).to_numpy()
            kept &= (year >= years[0]) & (year <= years[1])
        if wanted is not None:
            tagged = np.zeros(table.num_rows, bool)
            for column in ("terms", "mbtags"):
                lists = table[column].combine_chunks()
                has = pc.is_in(pc.utf8_lower(pc.list_flatten(lists)), value_set=wanted)
                tagged[pc.list_parent_indices(lists).filter(has).to_numpy()] = True
            kept &= tagged
        parts.append(kept)
    return np.concatenate(parts)


def artists_of(column: pa.ChunkedArray) -> np.ndarray:
    """A number for the artist of each song by their ids, int64 (S,); of no known one its own."""
    ids = column.combine_chunks()
    ids = pc.if_else(pc.equal(ids, ""), None, ids)
    known = ids.dictionary_encode().indices
    own = np.arange(len(ids)) + len(ids)
    numbers: np.ndarray = np.where(pc.is_null(ids), own, known.fill_null(0).to_numpy())
    return np.unique(numbers, return_inverse=True)[1]
