"""What all songs are called, in memory, by number."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec.errors import WorkspaceError
from fusionrec.schemas import SONG_NAMES
from pipelines.opened import updates
from pipelines.runtime.workspace import Workspace

_NAMES = ("song_id", "artist", "title", "release")


class Names:
    """Songs of the catalogue, and what an update has added, by the numbers that lists have.

    Parameters
    ----------
    workspace
        With the results that belong together.

    Attributes
    ----------
    songs
        How many have names: those of the catalogue and the new ones.
    catalogue
        How many of them the run has.

    Raises
    ------
    WorkspaceError
        There are none.
    """

    def __init__(self, workspace: Workspace) -> None:
        table = workspace.read("ingest", "songs", list(SONG_NAMES)).select(list(SONG_NAMES))
        self.catalogue: int = table.num_rows
        self.songs: int = table.num_rows
        if not table.num_rows:
            raise WorkspaceError(f"{workspace.uri}: its catalogue has no songs")
        if updates.has(workspace):
            new = updates.songs_added(workspace, SONG_NAMES).select(list(SONG_NAMES))
            between = updates.other_ids(workspace)  # which have numbers, and no names
            empty = pa.array([""] * len(between), pa.string())
            columns = [between, *[empty] * (len(SONG_NAMES) - 1)]
            self.songs += new.num_rows
            table = pa.concat_tables([table, pa.table(columns, schema=table.schema), new])
        columns = [table[name].combine_chunks().fill_null("") for name in SONG_NAMES]
        self._texts = dict(zip(_NAMES, columns, strict=True))

    @property
    def searched(self) -> dict[str, pa.Array]:
        """Artists and titles by number, "" of a song without."""
        return {name: self._texts[name] for name in ("artist", "title")}

    @cached_property
    def _shown(self) -> pa.Table:
        """As :class:`pipelines.opened.catalogue.Named` has it."""
        ids, artist, title, release = self._texts.values()
        artist = pc.if_else(pc.equal(artist, ""), "(no artist)", artist)
        unnamed = pc.binary_join_element_wise("(", ids, ")", "")
        title = pc.if_else(pc.equal(title, ""), unnamed, title)
        return pa.table(dict(zip(_NAMES, (ids, artist, title, release), strict=True)))

    def of(self, rows: NDArray[np.integer[Any]] | Iterable[int]) -> list[dict[str, Any]]:
        """By number: `song_id`, `artist`, `title` and `release`."""
        taken = self._shown.take(pa.array(np.asarray(rows, np.int64)))
        found: list[dict[str, Any]] = taken.to_pylist()
        return found
