"""What a blend says of a user, or of one song taken for a history, from what its stage wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fusionrec.tables import matrix
from pipelines.opened import updates
from pipelines.opened.catalogue import Catalogue, played_by
from pipelines.opened.reasons import Reason
from pipelines.runtime.rows import matrix_blocks, read_arrays
from pipelines.runtime.workspace import Workspace, part_name

if TYPE_CHECKING:
    from fusionrec.signals.explain import Layout

_ODDS = "how many times as likely as the first of the list, by the blend's softmax"


@dataclass(frozen=True)
class _Known:
    """What is known of a user, or of one song taken for a history.

    Attributes
    ----------
    songs, plays
        The history: rows of the songs, shape (songs,), and plays of them.
    told
        Of a user what no history gives; None of a song.
    v
        What a user's list is ranked by, shape (d,), where it is stored: else it is made of these.
    """

    songs: np.ndarray
    plays: np.ndarray
    told: np.ndarray | None = None
    v: np.ndarray | None = None


@dataclass(frozen=True)
class Blended:
    """A blend, and the history of a user, or of one song taken for a user's.

    Attributes
    ----------
    read
        Reads what is known: only for who asks for scores or reasons, as a list has its own.
    of_a_user
        Else of a song.
    """

    workspace: Workspace
    read: Callable[[], _Known] = field(repr=False)
    of_a_user: bool = True

    @staticmethod
    def of_user(workspace: Workspace, code: int) -> Blended:
        """As the blend knows a user."""
        return Blended(workspace, lambda: _of_user(workspace, code))

    @staticmethod
    def of_everyone(workspace: Workspace, code: int) -> Blended:
        """As the blend knows a user by all plays, and what no history gives as lists have that."""
        return Blended(workspace, lambda: _of_everyone(workspace, code))

    @staticmethod
    def of_song(workspace: Workspace, song_id: str) -> Blended | None:
        """As the blend knows a user who played that song once, and no other.

        Popularity has no say, nor have signals whose users are no sums over histories.
        """
        known = _Known(Catalogue(workspace).rows([song_id]), np.ones(1, np.float32))
        found = Blended(workspace, lambda: known, of_a_user=False)
        return found if found._user.any() else None

    @staticmethod
    def of_plays(
        workspace: Workspace, songs: np.ndarray, plays: np.ndarray, told: np.ndarray, v: np.ndarray
    ) -> Blended:
        """As the blend knows somebody who is no user, by a history; see :class:`_Known`."""
        known = _Known(songs, plays, told, v)
        return Blended(workspace, lambda: known)

    @cached_property
    def v(self) -> np.ndarray | None:
        """What a user's list is ranked by, shape (d,); None of a song."""
        if not self.of_a_user or self._known.v is not None:
            return self._known.v
        arrays = read_arrays(self.workspace, "blend", "rotation", "arrays.safetensors")
        found: np.ndarray = self._user @ arrays["rotation"]
        return found

    @cached_property
    def _about(self) -> Mapping[str, Any]:
        """The blend's description."""
        return _about(self.workspace)

    @cached_property
    def _known(self) -> _Known:
        return self.read()

    @cached_property
    def _layout(self) -> Layout:
        from fusionrec.signals.explain import Layout

        return Layout.of_json(self._about)

    @cached_property
    def _atoms(self) -> np.ndarray:
        return updates.blend_rows(self.workspace, "history", self._known.songs)

    @cached_property
    def _user(self) -> np.ndarray:
        """The vector by all signals, (D,)."""
        return self._layout.user(self._atoms, self._known.plays, self._known.told)

    @property
    def history(self) -> tuple[np.ndarray, np.ndarray]:
        """The songs played, (songs,), those outside the catalogue behind its own, and plays."""
        return self._known.songs, self._known.plays

    def scores_of(self, rows: Sequence[int]) -> list[float]:
        """The scores of some songs, by number, by all signals: those of a list like one song."""
        features = updates.blend_rows(self.workspace, "features", np.asarray(rows, np.int64))
        found: list[float] = (features @ self._user).tolist()
        return found

    def match(self, scores: list[float]) -> tuple[list[float], str]:
        """Odds against the first of the list."""
        return [float(np.exp(min(score - scores[0], 0.0))) for score in scores], _ODDS

    def scores(self) -> tuple[pa.Array, np.ndarray]:
        """Of all songs, a part of the catalogue after the other; of a song's, by all signals."""
        workspace = self.workspace
        songs = workspace.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()
        if self.v is not None:
            table = workspace.read("blend", "songs", ["vector"])
            ids, F = updates.appended(workspace, songs, matrix(table["vector"]))
            return ids, F @ self.v
        blocks = matrix_blocks(workspace, "blend", "features", len(songs))
        scores = np.concatenate([block @ self._user for block in blocks])
        if not updates.has(workspace):
            return songs, scores
        new = updates.Added.read(workspace)
        added = [block @ self._user for block in updates.blend_added(workspace, "features")]
        ids = new.ids.filter(pa.array(new.present))
        of_new = np.concatenate([scores[:0], *added])[new.present]
        return pa.concat_arrays([songs, ids]), np.concatenate([scores, of_new])

    def reasons(self, ids: list[str], scores: list[float]) -> list[Reason]:
        """By signal; exact but for the rounding of float32."""
        from fusionrec.signals.explain import explain

        catalogue = Catalogue(self.workspace)
        features = updates.blend_rows(self.workspace, "features", catalogue.rows(ids))
        whys = [
            explain(self._layout, score, self._user, song, self._atoms, self._known.plays)
            for score, song in zip(scores, features, strict=True)
        ]
        modalities, kinds = self._about["modalities"], self._about["kinds"]
        places = np.array([place for why in whys for place, _ in why.songs], np.int64)
        heard = iter(catalogue.ids(self._known.songs[places]) if self.of_a_user else [])
        return [
            Reason(
                why.signals,
                why.by(modalities),
                why.by(kinds),
                [(next(heard), part) for _, part in why.songs] if self.of_a_user else [],
            )
            for why in whys
        ]


def _about(workspace: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = workspace.read_json("blend", "blend.json")
    return found


def _of_user(workspace: Workspace, code: int) -> _Known:
    name = part_name(code // _about(workspace)["users_a_part"])
    row = workspace.read_user("blend", "users", name, code)
    songs, plays, told = (
        row[column].combine_chunks().flatten().to_numpy() for column in ("songs", "plays", "told")
    )
    return _Known(songs, plays, told, matrix(row["vector"])[0])


def _of_everyone(workspace: Workspace, code: int) -> _Known:
    songs, plays = played_by(workspace, code)
    if workspace.require("blend")["content"]["settings"]["blend"]["other_plays"]:
        others, more = played_by(workspace, code, "other_plays")
        songs = np.concatenate([songs, others + _about(workspace)["own"]])
        plays = np.concatenate([plays, more])
    return _Known(songs, plays, _told(workspace, code, songs, plays))


def _told(workspace: Workspace, code: int, songs: np.ndarray, plays: np.ndarray) -> np.ndarray:
    """What no history gives of a user, who may be new, as the lists for everyone have it."""
    from fusionrec.signals.explain import Layout
    from fusionrec.signals.histories import Histories
    from pipelines.opened.strangers import StoredStrangers

    def history() -> Histories:
        return Histories.of(np.zeros(len(songs), int), songs, plays, (1, songs.max(initial=0) + 1))

    nobody = read_arrays(workspace, "blend", "rotation", "arrays.safetensors")["nobody"]
    stored = nobody = nobody[Layout.of_json(_about(workspace)).told]
    if code < workspace.require("ingest")["counts"]["users"]:
        told = _of_user(workspace, code).told
        assert told is not None
        stored = told
    found: np.ndarray = StoredStrangers(workspace, nobody).told(history, stored[None])[0]
    return found
