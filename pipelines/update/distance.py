"""How far new songs lie from what the models saw, beside the songs that the run held out.

A blend's songs lie where its own vectors of them are, the others among the fused rows that the
network is fed with. A blend has a vector of each song that it was fitted on, whatever it knows of
it, so that how many of the held-out songs it knows nothing of is not told.

The songs outside of the training part were not seen either (of a blend, which learns from those of
the validation part, the test part's), and the evaluation is of them. So a
measure of new songs is no cause for alarm where groups of held-out songs are often like it: the
limit of a measure is what all but a small share of such groups show. They are drawn by artist, as
new songs come by albums, until there are about as many songs as are new, though never more than
were measured: however many are new, the limit is as wide as what is known of the held-out ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fusionrec import schemas
from fusionrec.features import metadata
from fusionrec.features.words import FieldWord2Vec, tokenize
from fusionrec.tables import matrix
from pipelines.runtime.workspace import Workspace

SONGS = 2_000
"""Training songs, and as many that were held out, that are measured; a part of them all."""

DRAWS = 2_000
_CENTRAL = 0.99
"""Songs farther than this share of the training songs lie far."""

Arrays = NDArray[np.float64]


@dataclass(frozen=True)
class Centre:
    """Where training songs lie.

    Attributes
    ----------
    mean, scale
        Of each component, shape (P,); a scale of 0 is of one that does not vary, and says nothing.
    limit
        The distance within which :data:`_CENTRAL` of them lie.
    """

    mean: Arrays
    scale: Arrays
    limit: float

    @staticmethod
    def of(rows: NDArray[np.float32]) -> Centre:
        """Of some training songs' rows, (n, P), n at least 1."""
        wide = rows.astype(np.float64)
        found = Centre(wide.mean(axis=0), wide.std(axis=0), np.inf)
        limit = float(np.quantile(found.distances(rows), _CENTRAL))
        return Centre(found.mean, found.scale, limit)

    def distances(self, rows: NDArray[np.float32]) -> Arrays:
        """Mahalanobis distances, (n,), as if components were uncorrelated.

        Those of a PCA are, and a blend's are over the songs that it takes for cold.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            each = (rows.astype(np.float64) - self.mean) / self.scale
        each[:, self.scale == 0] = 0
        return np.asarray(np.sqrt((each**2).sum(axis=1)))


@dataclass(frozen=True)
class Measured:
    """Measures of songs, each a share: of each song what counts, and of how much.

    Attributes
    ----------
    artists
        A number for the artist of each song, (n,); one of no known artist has its own.
    shares
        By measure, two arrays (n,), float64: what there is of it in a song, and of what.
    """

    artists: NDArray[np.int64]
    shares: Mapping[str, tuple[Arrays, Arrays]]

    def table(self) -> pa.Table:
        """A row a song: columns `artist`, and two by measure."""
        columns: dict[str, Any] = {"artist": self.artists}
        for name, (some, whole) in self.shares.items():
            columns |= {f"{name} some": some, f"{name} whole": whole}
        return pa.table(columns)


def measure(
    songs: pa.Table,
    fields: Mapping[str, FieldWord2Vec] | None,
    x: NDArray[np.float32],
    usable: NDArray[np.bool_] | None,
    present: Mapping[str, NDArray[np.bool_]],
    centre: Centre,
) -> Measured:
    """Measure songs.

    Parameters
    ----------
    songs
        Of :data:`fusionrec.schemas.SONGS` the artists' ids and the texts at least, n of them.
    fields
        The words of titles, releases and names that have vectors, where metadata is a modality.
    x, present
        As of :class:`pipelines.opened.new_songs.FusedSongs`; of a blend its vectors.
    usable
        Songs that x says something of, bool (n,); None where it is not told.
    """
    ones = np.ones(len(songs))
    told = ones if usable is not None else np.zeros(len(songs))
    usable = np.ones(len(songs), bool) if usable is None else usable
    shares = {"songs without a vector": ((~usable).astype(np.float64), told)}
    for name, has in present.items():
        shares[f"songs without {name}"] = ((~has).astype(np.float64), ones)
    if fields is not None:
        shares["unknown words of metadata"] = _unknown_words(songs, fields)
    far = usable & (centre.distances(x) > centre.limit)
    shares["songs far from all"] = (far.astype(np.float64), usable.astype(np.float64))
    return Measured(_artists(songs), shares)


def _artists(songs: pa.Table) -> NDArray[np.int64]:
    ids = songs["artist_id"].combine_chunks().dictionary_encode()
    own = np.arange(len(songs)) + len(ids.dictionary)
    numbers = ids.indices.fill_null(-1).to_numpy().astype(np.int64)
    return np.where(numbers < 0, own, numbers)


def _unknown_words(songs: pa.Table, fields: Mapping[str, FieldWord2Vec]) -> tuple[Arrays, Arrays]:
    some, whole = np.zeros(len(songs)), np.zeros(len(songs))
    for name in metadata.TEXT_FIELDS:
        known = set(fields[name].words)
        for row, text in enumerate(songs[name].to_pylist()):
            words = tokenize(text)
            whole[row] += len(words)
            some[row] += sum(word not in known for word in words)
    return some, whole


# --- the run's own songs ---------------------------------------------------------------------


TRAINED = ("train",)


def by_blend(workspace: Workspace) -> bool:
    """Whether the lists of a workspace are by a blend."""
    return "blend" in workspace.keys


def held_out(workspace: Workspace) -> tuple[str, ...]:
    """The parts of the split that the models did not see."""
    return ("test",) if by_blend(workspace) else ("validation", "test")


def modalities(workspace: Workspace) -> Sequence[str]:
    """Those of the network; of a blend, all that are embedded."""
    if by_blend(workspace):
        settings = workspace.require("embed")["content"]["settings"]["embed"]
    else:
        settings = workspace.require("fuse")["content"]["settings"]
    found: Sequence[str] = settings["modalities"]
    return found


def chosen(parts: NDArray[np.object_], of: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of at most :data:`SONGS` songs, evenly among those of some parts of the split.

    Parameters
    ----------
    parts
        Of all songs, as the split has them.
    """
    rows = np.flatnonzero(np.isin(parts, of))
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(SONGS, len(rows))).astype(np.int64))]


_COLUMNS = ["artist_id", *metadata.TEXT_FIELDS]
"""Of songs, what measures read."""


@dataclass(frozen=True)
class OfRun:
    """Some songs of the run: as the network was fed with them, or a blend has them."""

    songs: pa.Table
    x: NDArray[np.float32]
    usable: NDArray[np.bool_] | None
    present: dict[str, NDArray[np.bool_]]

    @staticmethod
    def read(workspace: Workspace, rows: NDArray[np.int64]) -> OfRun:
        """By number, ascending: the parts of the catalogue that have them, one after the other."""
        names, blend, start = modalities(workspace), by_blend(workspace), 0
        stage, artifact = ("blend", "songs") if blend else ("fuse", "fused")
        songs, x, usable = [schemas.SONGS.empty_table().select(_COLUMNS)], [], []
        present: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in names}
        for part in workspace.parts("ingest", "songs"):
            table = workspace.read_part("ingest", "songs", part, _COLUMNS)
            here = rows[(rows >= start) & (rows < start + len(table))] - start
            start += len(table)
            if not len(here):
                continue
            some = pa.array(here)
            songs.append(table.take(some))
            rows_of = workspace.read_part(stage, artifact, part).take(some)
            x.append(matrix(rows_of["vector"]))
            if not blend:
                usable.append(_flags(rows_of))
            for name in names:
                found = workspace.read_part("embed", name, part, ["present"])
                present[name].append(_flags(found.take(some)))
        if not x:
            width = workspace.require(stage)["counts"]["dimensions" if blend else "components"]
            none = np.zeros(0, bool)
            empty = np.zeros((0, width), np.float32)
            return OfRun(songs[0], empty, None if blend else none, dict.fromkeys(names, none))
        return OfRun(
            pa.concat_tables(songs),
            np.concatenate(x),
            None if blend else np.concatenate(usable),
            {name: np.concatenate(found) for name, found in present.items()},
        )


def _flags(table: pa.Table) -> NDArray[np.bool_]:
    return np.asarray(table["present"].to_numpy(zero_copy_only=False), bool)


# --- shares and their limits -----------------------------------------------------------------


def share(of: tuple[Arrays, Arrays]) -> float | None:
    """A measure of songs; None where there is nothing that it is a share of."""
    some, whole = float(of[0].sum()), float(of[1].sum())
    return some / whole if whole else None


def limit(
    held_out: Measured, name: str, songs: int, chance: float, rng: np.random.Generator
) -> float | None:
    """What all but a share of `chance` of groups of held-out songs show of a measure.

    Parameters
    ----------
    songs
        In a group, about: as many artists are drawn as have so many on average, with replacement,
        at most as many as there are.

    Returns
    -------
    float or None
        None where no song was held out, or none has anything of what this is a share of.
    """
    artists, at = np.unique(held_out.artists, return_inverse=True)
    some, whole = (np.bincount(at, each, len(artists)) for each in held_out.shares[name])
    if not whole.sum() or not songs:
        return None
    count = min(len(artists), max(1, round(songs * len(artists) / len(at))))
    found = np.empty(DRAWS)
    for draw in range(DRAWS):
        drawn = rng.integers(0, len(artists), count)
        total = whole[drawn].sum()
        found[draw] = some[drawn].sum() / total if total else 0.0
    return float(np.quantile(found, 1 - chance))
