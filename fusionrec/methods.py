"""A method of one's own in the comparison: what it is given, and what it gives back.

`compare.methods` may name, beside the built-in ones, `module:Name` or `package.module:Name`: a
function of a :class:`ColdStart` that returns :class:`Vectors`, or a class, which is made without
arguments and then called so. An example, a file `mine.py`::

    import numpy as np

    from fusionrec.methods import ColdStart, Vectors


    class Nearest:
        \"\"\"Songs that sound like what the user has played.\"\"\"

        def __call__(self, given: ColdStart) -> Vectors:
            x = given.fused.x
            x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
            plays = given.plays[given.users]
            return Vectors(V=plays.log1p() @ x, F=x[given.candidates])

It is compared like any other by `--set 'compare.methods=[random, mine:Nearest]'`, and called once
for each fold and each of `compare.seeds` seeds; once a fold if it has the attribute
`seeded = False`, since it draws no random numbers.

It may raise :class:`fusionrec.errors.DataError` where it has nothing to learn from: then it is
listed as not computed, with this reason. Any other exception ends the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fusionrec.errors import DataError, MethodError
from fusionrec.ranking.packing import PackedSongs, check_range


@dataclass(frozen=True)
class Features:
    """Vectors of all songs.

    Attributes
    ----------
    x
        Float32 (songs, d); zeros for a song without.
    present
        Bool (songs,): which songs have one.
    """

    x: NDArray[np.float32]
    present: NDArray[np.bool_]


@dataclass(frozen=True)
class ColdStart:
    """A fold: songs that nobody has played yet are to be ranked for users who played others.

    A song is named by its row of `songs`, a user by its row of `plays`. What was fitted to make
    the features was fitted on training songs.

    Attributes
    ----------
    songs
        The catalogue, test songs too: schema :data:`fusionrec.schemas.SONGS` (ids, titles,
        artists, years, MusicBrainz tags, terms, similar artists) without `song_hotttnesss`, which
        is the song's own popularity.
    features
        By modality (`metadata`, `lyrics`, `audio`, vectors of one's own by their name), as
        `embed.modalities` has them.
    fused
        All of them, scaled and reduced, as `linear-features` is fed with them.
    plays
        Counts, float32 (users of the corpus, songs). No play of a test song is in it, nor of a
        song that is in no part of the split.
    user_ids
        Their ids, Arrow strings.
    train, validation
        Songs whose plays are there, int64, ascending; what they are used for is up to the method.
    candidates
        Songs to be ranked, int64 (C,), ascending: all test songs.
    users
        Users for whom they are ranked, int64 (U,), ascending. All of them have plays.
    seed
        For random numbers.
    """

    songs: pa.Table
    features: Mapping[str, Features]
    fused: Features
    plays: csr_array
    user_ids: pa.ChunkedArray
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    candidates: NDArray[np.int64]
    users: NDArray[np.int64]
    seed: int


@dataclass(frozen=True)
class Vectors:
    """A method's result: score(u, s) = V_u . F(s), the highest first.

    Attributes
    ----------
    V
        Floats (U, d), in the order of :attr:`ColdStart.users`; used as float32.
    F
        Floats (C, d), in the order of :attr:`ColdStart.candidates`; used as float32. A row of
        zeros is counted as a song that the method knows nothing of.
    """

    V: NDArray[np.floating[Any]]
    F: NDArray[np.floating[Any]]


class Method(Protocol):
    """What `compare.methods` may name: a function of this form, or a class of such objects."""

    def __call__(self, given: ColdStart, /) -> Vectors: ...


def called(method: Callable[..., Any], given: ColdStart) -> Vectors:
    """What a method finds: float32, C-contiguous and checked.

    Parameters
    ----------
    method
        A function, or a class that is made without arguments.

    Raises
    ------
    MethodError
        The result is of a wrong kind, shape or type, or has values that are not finite or whose
        scores would not be.
    """
    function = method() if isinstance(method, type) else method
    found = function(given)
    if not isinstance(found, Vectors):
        raise MethodError(
            f"returned {_kind(found)}: return fusionrec.methods.Vectors(V=..., F=...)"
        )
    V = _checked("V", found.V, len(given.users), "user", "users")
    F = _checked("F", found.F, len(given.candidates), "song", "candidates")
    if V.shape[1] != F.shape[1]:
        raise MethodError(
            f"V has {V.shape[1]} columns and F {F.shape[1]}: give both as many, as a score is the "
            "product of two rows"
        )
    try:
        check_range(V, PackedSongs.of(F))
    except DataError as error:
        raise MethodError(str(error)) from None
    return Vectors(V, F)


def _checked(name: str, values: Any, rows: int, of: str, order: str) -> NDArray[np.float32]:
    if not isinstance(values, np.ndarray):
        raise MethodError(f"{name} is {_kind(values)}: make it a NumPy array")
    if values.dtype.kind != "f":
        raise MethodError(f"{name} is of dtype {values.dtype}: make it float32")
    if values.ndim != 2 or len(values) != rows or not values.shape[1]:
        raise MethodError(
            f"{name} is of shape {values.shape}: it must be ({rows}, d), a row a {of} in the order "
            f"of `{order}`"
        )
    with np.errstate(over="ignore"):  # what is beyond float32 is found below
        found = np.ascontiguousarray(values, np.float32)
    wrong = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(wrong):
        raise MethodError(
            f"{name} has NaN or infinite values in float32, in {len(wrong)} of {rows} rows, first "
            f"in row {wrong[0]}: every {of} needs finite ones"
        )
    return found


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
