"""The maps of all signals of a blend made one, which keeps what it compares songs with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fusionrec.signals.explain import Layout
from fusionrec.signals.songs import Songs
from fusionrec.signals.unseen.encoder import Placed, UnseenSongs
from fusionrec.signals.unseen.fitted import Features, by_landmarks, readers_of
from fusionrec.signals.unseen.maps import Part, SongMap, SongMaps
from fusionrec.signals.unseen.parts import Attention, ByGroup, ByLandmarks, ByNumbers, MeansByTerms
from fusionrec.signals.unseen.read import Catalogued

Columns = NDArray[np.int64]


def joined(
    songs: Songs,
    maps: Mapping[str, SongMaps],
    layout: Layout,
    mean: NDArray[np.float32],
    rotation: NDArray[np.float32],
) -> UnseenSongs:
    """What makes rows of unseen songs.

    Songs are compared once with what several signals have in common.

    Parameters
    ----------
    songs
        Those that the blend is fitted on.
    maps
        By signal, into the dimensions that the layout has for it.
    mean, rotation
        Of :class:`UnseenSongs`.
    """
    constant, placed = np.zeros(2 * layout.width), []
    bases: dict[int, list[tuple[Features, Columns]]] = {}
    means: dict[int, Placed] = {}
    for columns, some in _places(maps, layout):
        constant[columns] += some.constant
        for part in some.parts:
            if isinstance(part, Features):
                bases.setdefault(id(part.basis), []).append((part, columns))
            elif isinstance(part, MeansByTerms):
                before = means.get(id(part.references))
                means[id(part.references)] = _beside(before, part, columns)
            else:
                placed.append(Placed(cast(Part, part), columns))
    placed = [*(_shortened(each) for each in placed), *means.values()]
    for shared in bases.values():
        matrix = np.concatenate([part.matrix for part, _ in shared], axis=1)
        columns = np.concatenate([columns for _, columns in shared])
        parts = by_landmarks(songs, shared[0][0].basis, matrix)
        placed.extend(_shortened(Placed(part, columns)) for part in parts)
    names = {name for each in placed for name in _read_by(each.part)}
    return UnseenSongs(
        readers_of(songs, names), Catalogued.of(songs), tuple(placed), constant, mean, rotation
    )


def _shortened(placed: Placed) -> Placed:
    """In float32 what grows with the artists, now that nothing is made of it any more."""
    if not isinstance(placed.part, ByGroup):
        return placed
    values = placed.part.values.astype(np.float32)
    return replace(placed, part=replace(placed.part, values=values))


def _beside(before: Placed | None, part: MeansByTerms, columns: Columns) -> Placed:
    if before is None:
        return Placed(part, columns)
    assert isinstance(before.part, MeansByTerms)
    return Placed(before.part.beside(part), np.concatenate([before.columns, columns]))


def _places(maps: Mapping[str, SongMaps], layout: Layout) -> list[tuple[Columns, SongMap]]:
    """Columns of features and of atoms, and the maps into them."""
    found = []
    for name, place in layout.slices.items():
        columns = np.arange(place.start, place.stop)
        found.append((columns, maps[name].F))
        atoms = maps[name].atoms
        if atoms is not None:
            found.append((columns + layout.width, atoms))
    return found


def _read_by(part: Any) -> list[str]:
    """Kernels whose rows a part asks for."""
    if isinstance(part, ByLandmarks):
        return list(part.landmarks)
    if isinstance(part, Attention):
        return list(part.songs)
    if isinstance(part, ByNumbers):
        return [part.kernel]
    return ["terms"] if isinstance(part, MeansByTerms) else []
