"""What a blend is made from: all songs, the plays that may be learned from, and what is cold.

The same under every protocol: a play of a test song is seen by no signal. Under `heldout` and
`paper`, whose profiles H_u are test songs, a blend knows a user by the plays outside the test part
alone, and H_u only says which candidates are left out: the hidden half R_u, and for that matter the
visible one, change nothing. Validation songs are learned from like training songs, since the blend
cuts folds of its own for whatever it chooses.

"Other songs" are those that have plays but are not in the catalogue: they are never candidates, but
tell what users like. Where the split keeps artists (albums) apart, those by an artist (of an album)
of the test part are hidden, and those of which nobody knows the artist. Under a split by time,
which keeps no songs together, the plays of both kinds before the cut are learned from; inner folds
are random ones of the songs that are not new at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from fusionrec import schemas
from fusionrec.ranking.split import By
from fusionrec.signals.histories import Histories
from fusionrec.signals.inner import kept_with
from fusionrec.signals.songs import COLUMNS, Songs
from fusionrec.tables import matrix
from pipelines.known_plays import Division, known_other_plays, known_plays
from pipelines.runtime.workspace import Workspace


def vectors_of(modalities: Sequence[str]) -> tuple[str, ...]:
    """Of embedded modalities those whose vectors signals read: all but metadata.

    Those of metadata have the artist's hotttnesss among them.
    """
    return tuple(name for name in modalities if name != "metadata")


@dataclass(frozen=True)
class Inputs:
    """What :func:`fusionrec.signals.blend.fit_blend` is given.

    Attributes
    ----------
    songs
        The catalogue's songs, in its order, then the other songs.
    histories
        Plays of users by those songs; none of a hidden song.
    hidden
        Bool, a song each: no play of it may be seen.
    """

    songs: Songs
    histories: Histories
    hidden: np.ndarray


def read_inputs(
    workspace: Workspace, modalities: Sequence[str], by: By, *, other_plays: bool
) -> Inputs:
    """Read them from the results of `ingest`, `split` and `embed`.

    Parameters
    ----------
    modalities
        Of :func:`vectors_of`.
    by
        What the split keeps together.
    other_plays
        Whether songs outside the catalogue take part.
    """
    artifacts = ["songs", "other_songs"] if other_plays else ["songs"]
    own, *others = (workspace.read("ingest", artifact, COLUMNS) for artifact in artifacts)
    table = pa.concat_tables([own, *others])
    songs = Songs(
        table=table,
        own=own.num_rows,
        lyrics=_lyrics(workspace, artifacts, table.num_rows),
        vectors={name: _vectors(workspace, name, own, table.num_rows) for name in modalities},
    )
    division = Division.read(workspace)
    hidden = hidden_songs(division.part, songs, by)
    counts = _counts(workspace, division, hidden, own.num_rows, other_plays)
    return Inputs(songs, Histories(counts), hidden)


def _lyrics(workspace: Workspace, artifacts: Sequence[str], songs: int) -> csr_array | None:
    """Word counts of all songs, those of `artifacts` in turn; None where no song has lyrics."""
    if not workspace.parts("ingest", "vocabulary"):
        return None  # no source of lyrics
    words = workspace.read("ingest", "vocabulary").num_rows
    tracks = pa.concat_arrays(
        [
            chunk
            for artifact in artifacts
            for chunk in workspace.read("ingest", artifact, ["track_id"])["track_id"].chunks
        ]
    )
    # Of tracks in the catalogue, and of those that only have lyrics.
    bags = pa.concat_tables(
        workspace.read("ingest", artifact, ["track_id", "words", "counts"])
        for artifact in ("lyrics", "other_lyrics")
    ).combine_chunks()
    rows = pc.index_in(bags["track_id"], value_set=tracks).combine_chunks()
    known = pc.is_valid(rows)
    bags, rows = bags.filter(known), rows.filter(known).to_numpy()
    if not bags.num_rows:
        return None
    lengths = pc.list_value_length(bags["words"]).to_numpy()
    counts = pc.list_flatten(bags["counts"]).to_numpy().astype(np.float32)
    places = (np.repeat(rows, lengths), pc.list_flatten(bags["words"]).to_numpy())
    return csr_array((counts, places), shape=(songs, words))


def _vectors(workspace: Workspace, modality: str, own: pa.Table, songs: int) -> np.ndarray:
    """Float32 (songs, d); zeros for a song without the modality."""
    table = workspace.read("embed", modality)
    found = matrix(table["vector"])
    present = table["present"].to_numpy(zero_copy_only=False).astype(bool)
    rows = pc.index_in(table["song_id"], value_set=own["song_id"].combine_chunks()).to_numpy()
    vectors = np.zeros((songs, found.shape[1]), np.float32)
    vectors[rows[present]] = found[present]
    return vectors


def hidden_songs(part: np.ndarray, songs: Songs, by: By) -> np.ndarray:
    """Songs of which no play may be seen, bool (songs,).

    Parameters
    ----------
    part
        Of the catalogue's songs, object. What is in no part of the split is hidden, too.
    """
    tested, outside = np.zeros(len(songs), bool), np.zeros(len(songs), bool)
    tested[: songs.own] = part == "test"
    outside[: songs.own] = ~np.isin(part, ("train", "validation"))
    return kept_with(songs, tested, by) | outside


def _counts(
    workspace: Workspace, division: Division, hidden: np.ndarray, own: int, other_plays: bool
) -> csr_array:
    """Play counts, float32 (users, songs), without those of hidden songs."""
    users = workspace.require("ingest")["counts"]["users"]
    plays = [(known_plays(workspace, division), 0)]
    if other_plays:
        plays.append((known_other_plays(workspace, division), own))
    columns = {name: [] for name in schemas.PLAYS.names}  # type: dict[str, list[np.ndarray]]
    for table, first in plays:
        rows = ~hidden[first + table["song"].to_numpy()]
        for name, offset in (("user", 0), ("song", first), ("plays", 0)):
            columns[name].append(table[name].to_numpy()[rows] + offset)
    user, song, count = (np.concatenate(columns[name]) for name in ("user", "song", "plays"))
    return csr_array((count.astype(np.float32), (user, song)), shape=(users, len(hidden)))
