"""What a blend says of a user, or of one song taken for a history, from what its stage wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fusionrec.tables import matrix
from pipelines.opened.catalogue import Catalogue, played_by
from pipelines.opened.reasons import Reason
from pipelines.runtime.rows import matrix_blocks, read_arrays, read_matrix
from pipelines.runtime.workspace import Workspace, part_name

if TYPE_CHECKING:
    from fusionrec.signals.explain import Layout

_ODDS = "how many times as likely as the first of the list, by the blend's softmax"


@dataclass(frozen=True)
class Blended:
    """A blend, and the history of a user, or a song taken for one.

    Attributes
    ----------
    history, plays
        Rows of the songs, shape (songs,), and plays of them.
    about
        The blend's description.
    v, told
        Of a user what lists are ranked by, shape (d,), and what no history gives; None of a song.
    """

    workspace: Workspace
    history: np.ndarray
    plays: np.ndarray
    about: Mapping[str, Any] = field(repr=False)
    v: np.ndarray | None = None
    told: np.ndarray | None = None

    @staticmethod
    def of_user(workspace: Workspace, code: int) -> Blended:
        """As the blend knows a user."""
        about = workspace.read_json("blend", "blend.json")
        name = part_name(code // about["users_a_part"])
        row = workspace.read_part("blend", "users", name, filters=[("user", "=", code)])
        history, plays = (row[column].combine_chunks().flatten() for column in ("songs", "plays"))
        v, told = matrix(row["vector"])[0], row["told"].combine_chunks().flatten().to_numpy()
        return Blended(workspace, history.to_numpy(), plays.to_numpy(), about, v, told)

    @staticmethod
    def of_everyone(workspace: Workspace, code: int) -> Blended:
        """As the blend knows a user by all plays, and what no history gives as it has that."""
        stored = Blended.of_user(workspace, code)
        history, plays = played_by(workspace, code)
        if workspace.require("blend")["content"]["settings"]["blend"]["other_plays"]:
            songs, more = played_by(workspace, code, "other_plays")
            history = np.concatenate([history, songs + stored.about["own"]])
            plays = np.concatenate([plays, more])
        found = replace(stored, history=history, plays=plays)
        arrays = read_arrays(workspace, "blend", "rotation", "arrays.safetensors")
        return replace(found, v=found._user @ arrays["rotation"])

    @staticmethod
    def of_song(workspace: Workspace, song_id: str) -> Blended | None:
        """As the blend knows a user who played that song once, and no other.

        Popularity has no say, nor have signals whose users are no sums over histories.
        """
        about = workspace.read_json("blend", "blend.json")
        found = Blended(workspace, np.zeros(1, np.int64), np.ones(1, np.float32), about)
        found = replace(found, history=Catalogue(workspace).rows([song_id]))
        return found if found._user.any() else None

    @cached_property
    def _layout(self) -> Layout:
        from fusionrec.signals.explain import Layout

        return Layout.of_json(self.about)

    @cached_property
    def _atoms(self) -> np.ndarray:
        return read_matrix(self.workspace, "blend", "history", self.history)

    @cached_property
    def _user(self) -> np.ndarray:
        """The vector by all signals, (D,)."""
        return self._layout.user(self._atoms, self.plays, self.told)

    def match(self, scores: list[float]) -> tuple[list[float], str]:
        """Odds against the first of the list."""
        return [float(np.exp(min(score - scores[0], 0.0))) for score in scores], _ODDS

    def scores(self) -> tuple[pa.Array, np.ndarray]:
        """Of all songs, a part of the catalogue after the other; of a song's, by all signals."""
        workspace = self.workspace
        songs = workspace.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()
        if self.v is not None:
            table = workspace.read("blend", "songs", ["vector"])
            return songs, matrix(table["vector"]) @ self.v
        blocks = matrix_blocks(workspace, "blend", "features", len(songs))
        return songs, np.concatenate([block @ self._user for block in blocks])

    def reasons(self, ids: list[str], scores: list[float]) -> list[Reason]:
        """By signal; exact but for the rounding of float32."""
        from fusionrec.signals.explain import explain

        catalogue = Catalogue(self.workspace)
        features = read_matrix(self.workspace, "blend", "features", catalogue.rows(ids))
        whys = [
            explain(self._layout, score, self._user, song, self._atoms, self.plays)
            for score, song in zip(scores, features, strict=True)
        ]
        modalities, kinds = self.about["modalities"], self.about["kinds"]
        places = np.array([place for why in whys for place, _ in why.songs], np.int64)
        heard = iter(catalogue.ids(self.history[places]) if self.v is not None else [])
        return [
            Reason(
                why.signals,
                why.by(modalities),
                why.by(kinds),
                [(next(heard), part) for _, part in why.songs] if self.v is not None else [],
            )
            for why in whys
        ]
