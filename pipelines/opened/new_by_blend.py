"""Songs that a blend was not fitted on, by what it has kept of its similarities.

Each is compared with the songs that the blend's signals keep for it, and looked up by its artist
and album (:mod:`fusionrec.signals.unseen`); its lyrics and vectors are made as the stages made
those of the corpus. Nothing is fitted again.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import load as load_safetensors

from fusionrec.errors import WorkspaceError
from fusionrec.signals.readers import Vectors, Words
from fusionrec.signals.songs import COLUMNS, Songs
from pipelines.opened.made_songs import MadeSongs
from pipelines.opened.new_songs import NewSongs, as_songs
from pipelines.runtime.workspace import Workspace

if TYPE_CHECKING:
    from fusionrec.signals.unseen.encoder import UnseenSongs

log = logging.getLogger("fusionrec")

ARRAYS = ("unseen", "arrays.safetensors")
DESCRIPTION = ("unseen", "encoder.json")

_LEFT_OUT = {
    "artist": "songs' artists",
    "terms": "terms",
    "mbtags": "tags",
    "names": "words of artists' names",
}


@dataclass(frozen=True)
class NewByBlend:
    """What makes vectors of new songs by a workspace's blend, with what explains them.

    It is read when it is needed.
    """

    workspace: Workspace

    def make(self, songs: Any, segments: pa.Table | None = None) -> MadeSongs:
        """Vectors, atoms and features of new songs, in their order.

        A song of which the blend's signals know nothing (as one that has an id and no more) is not
        present. Of plays the signals know none: what they say of a song by its listeners is
        zero in its atoms, as of a song without plays at the fit.

        Parameters
        ----------
        songs, segments
            As of :meth:`pipelines.opened.recommender.Recommender.song_vectors`.

        Raises
        ------
        DataError
            The songs cannot be read.
        WorkspaceError
            The workspace has no blend, or one of an earlier version, which kept none of this.
        """
        given, table = as_songs(songs, COLUMNS)
        ids, encoder = table["song_id"].combine_chunks(), self._encoder
        D, d = encoder.rotation.shape
        if not len(ids):
            F, wide = np.zeros((0, d), np.float32), np.zeros((0, D), np.float32)
            return MadeSongs(ids, F, np.zeros(0, bool), wide, wide)
        readers = encoder.readers.values()
        new, lyrics = self._new, None
        if any(isinstance(reader, Words) for reader in readers):
            lyrics = new.lyrics.counts(given, table)
        vectors = {}
        for name in sorted({reader.name for reader in readers if isinstance(reader, Vectors)}):
            if name == "lyrics":
                vectors[name], _ = new.lyrics.vectors(given, table, tell=lyrics is None)
            else:
                vectors[name], _ = new.modality(name, given, table, segments)
        unknown: Counter[str] = Counter()
        made = encoder.rows(Songs(table, len(ids), lyrics, vectors), unknown)
        told = [f"{unknown[name]} {what}" for name, what in _LEFT_OUT.items() if unknown[name]]
        if told:
            log.warning("song_vectors: left out, as the blend has no such: %s", ", ".join(told))
        return MadeSongs(ids, made.F, made.present, made.atoms, made.features)

    @cached_property
    def _new(self) -> NewSongs:
        return NewSongs(self.workspace)

    @cached_property
    def _encoder(self) -> UnseenSongs:
        from fusionrec.signals.unseen.stored import of_arrays  # brings linear algebra with it

        require_unseen(self.workspace)
        arrays = load_safetensors(self.workspace.read_bytes("blend", *ARRAYS))
        return of_arrays(self.workspace.read_json("blend", *DESCRIPTION), arrays)


def require_unseen(workspace: Workspace) -> None:
    """Raise a WorkspaceError for a workspace without a blend, or whose blend kept none of this."""
    workspace.require("blend")
    if not workspace.exists("blend", *DESCRIPTION):
        raise WorkspaceError(
            f"{workspace.uri}: its blend is of an earlier version, which kept nothing of "
            "what makes vectors of new songs: run again"
        )
