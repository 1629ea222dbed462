"""Lists of a few users from bounds of all scores: a quarter of the bytes is read.

Of few users a list costs what it costs to read the songs' vectors. Here they are read as one byte
a number (:class:`Codes`), which tells of every score between which two numbers it lies; only songs
that may be on the list are scored, by the float32 sum of :mod:`fusionrec.ranking.kernel`. What
comes of it is the same list to the last bit.

The bounds. A song x has codes q and a scale s, a user u codes p and a scale t. By
Cauchy-Schwarz,

    |u.x - (t p).(s q)| <= |u| |x - s q| + |u - t p| |s q|,

the float32 score of u and x is within ((1 + e)^d - 1) |u| |x| of u.x (d fused multiply-adds, each
rounded by 1 + e at most, e = 2^-24), and p.q is an exact integer, whose product with the scales is
rounded three times. As |u - t p| <= r |u|, where r follows from d alone, all of it is |u| times a
number of the song, its slack. What is so small that it may underflow is below :data:`TINY`.

The list. Of each panel the largest lower bound is looked at: the (k + excluded)-th largest of
these is a score T that k candidates reach. So every song of the list, ties included, has an upper
bound of at least T.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.compiled import compiled
from fusionrec.ranking.kernel import dot_products, kth_largest, ordered, write_list
from fusionrec.ranking.vector_code import (
    BOUNDED,
    BOUNDED_USERS,
    bound_panel,
    bound_panel_of_some,
    largest_of_panel,
)

Array = NDArray[Any]

TINY = 2.0**-90
"""More than all underflows of a score and of its bounds together."""

HUGE = 2.0**60
"""Norms of users and of songs beyond it are not bounded: their products might leave float32."""

_MOST_USERS, _MOST_LISTED = 128, 6400
"""Users, and songs on all their lists together, up to which a scan of the codes is quicker."""

_MOST_SHARE = 16
"""A user of whom the bounds leave more than one in so many songs is ranked by all scores."""

_SONG_CODE = 127
"""The largest code of a song."""

_E = 2.0**-24
"""By how much a float32 is rounded at most."""

_UP = 1 + 2.0**-16
"""More than what rounding takes from a sum in float64, and from a product in float32."""


def user_code(d: int) -> int:
    """The largest code of a user: so that no sum of products leaves int32."""
    return min(32_767, (2**31 - 1) // (_SONG_CODE * (d + d % 2)))


@dataclass(frozen=True)
class Codes:
    """Song vectors as one byte a number.

    Attributes
    ----------
    codes
        Shape (panels, pairs of dimensions, BOUNDED, 2), int8; zeros beyond the last of each.
    factors
        Shape (panels, 2, BOUNDED), float32: scale and slack of each song. Beyond the last song the
        slack is infinite.
    """

    codes: NDArray[np.int8]
    factors: NDArray[np.float32]

    @staticmethod
    def of(rows: NDArray[np.float32]) -> Codes | None:
        """Codes of finite vectors, (N, d), or None: some are too large for them.

        It takes less time than :func:`fusionrec.ranking.packing.panels_of` does.
        """
        songs, d = rows.shape
        panels = -(-songs // BOUNDED)
        codes = np.zeros((panels, (d + 1) // 2, BOUNDED, 2), np.int8)
        factors = np.zeros((panels, 2, BOUNDED), np.float32)
        factors[:, 1] = np.inf
        # |u - t p| over |u|: a number is off by t / 2 at most, and t is the largest of them over
        # its code.
        off = _UP * np.sqrt(d) / (2 * user_code(d))
        rounding = np.expm1(d * np.log1p(_E))
        return Codes(codes, factors) if _encode(rows, off, rounding, codes, factors) else None

    def quicker_for(self, users: int, k: int) -> bool:
        """Whether lists so long of so many users are sooner found by the codes, as measured."""
        return users <= _MOST_USERS and users * k <= _MOST_LISTED


@compiled
def _encode(rows: Array, off: float, rounding: float, codes: Array, factors: Array) -> bool:
    """Fill `codes` and `factors`; False where a norm is beyond HUGE."""
    songs, d = rows.shape
    part = np.empty(d, np.float32)
    for song in range(songs):
        row = rows[song]
        panel, at = song // BOUNDED, song % BOUNDED
        largest = np.float32(0)
        for j in range(d):
            largest = max(largest, abs(row[j]))
        scale = np.float32(largest / np.float32(_SONG_CODE))
        inverse = np.float32(0)
        if scale > np.float32(TINY):  # else all of it is slack
            inverse = np.float32(1) / scale
        for j in range(d):
            part[j] = np.float32(np.rint(row[j] * inverse))
        missed = norm = coded = 0.0
        for j in range(d):
            code = min(max(part[j], np.float32(-_SONG_CODE)), np.float32(_SONG_CODE))
            stood = np.float64(scale) * np.float64(code)
            left = np.float64(row[j]) - stood
            missed += left * left
            coded += stood * stood
            norm += np.float64(row[j]) * np.float64(row[j])
            codes[panel, j // 2, at, j % 2] = np.int8(code)
        missed, coded, norm = np.sqrt(missed), np.sqrt(coded), np.sqrt(norm)
        if not norm < HUGE:
            return False
        slack = missed + (off + 8 * _E * (1 + off)) * coded + rounding * norm
        factors[panel, 0, at] = scale
        factors[panel, 1, at] = np.float32(slack * _UP)
    return True


def encoded(
    V: NDArray[np.float32],
) -> tuple[NDArray[np.int16], NDArray[np.float32], NDArray[np.bool_]]:
    """Codes of users, (U, even d), their scales and norms, (U, 2), and who has some, (U,)."""
    users, d = V.shape
    code = user_code(d)
    done = np.zeros(users, bool)
    user_codes = np.zeros((users, d + d % 2), np.int16)
    of_users = np.ones((users, 2), np.float32)
    for user, v in enumerate(V):
        norm = float(np.linalg.norm(v.astype(np.float64)))
        scale = np.float32(np.abs(v).max() / np.float32(code))
        if scale > TINY and norm < HUGE:
            done[user] = True
            user_codes[user, :d] = np.rint(v.astype(np.float64) / scale).clip(-code, code)
            of_users[user] = scale, norm * _UP
    return user_codes, of_users, done


def rank_bounded(
    V: NDArray[np.float32],
    rows: NDArray[np.float32],
    codes: Codes,
    exclude_indptr: NDArray[np.int64],
    exclude_songs: NDArray[np.int32],
    indices: NDArray[np.int32],
    listed: NDArray[np.float32],
    counts: NDArray[np.int32],
    candidates: NDArray[np.int32],
) -> NDArray[np.bool_]:
    """Fill the lists of users of whom the bounds leave few enough songs; say of whom, (U,).

    Parameters
    ----------
    V, rows
        Vectors of the users, (U, d), and of the songs, (N, d).
    indices, listed, counts, candidates
        Results, as in `RankedLists`.
    """
    user_codes, of_users, done = encoded(V)
    # A panel tells of one score: of fewer panels than that there is no bar.
    done &= indices.shape[1] + np.diff(exclude_indptr) <= len(codes.codes)
    if not done.any():
        return done
    _rank(
        V, rows, codes.codes, codes.factors, user_codes, of_users, exclude_indptr, exclude_songs,
        done, indices, listed, counts, candidates,
    )  # fmt: skip
    return done


@compiled
def _rank(
    V: Array,
    rows: Array,
    codes: Array,
    factors: Array,
    user_codes: Array,
    of_users: Array,
    exclude_indptr: Array,
    exclude_songs: Array,
    done: Array,
    indices: Array,
    listed: Array,
    counts: Array,
    candidates: Array,
) -> None:
    users, k = indices.shape
    songs, d = rows.shape
    panels, pairs = codes.shape[0], codes.shape[1]
    bounds = np.empty((users, 2, BOUNDED), np.float32)
    low, high = np.empty((users, panels), np.float32), np.empty((users, panels), np.float32)
    together = users // BOUNDED_USERS * BOUNDED_USERS
    to, step = bounds.ctypes.data, bounds.strides[0]
    of_panel, of_factors = codes.strides[0], factors.strides[0]
    of_user, of_scales = user_codes.strides[0], of_users.strides[0]
    first_panel, first_factors = codes.ctypes.data, factors.ctypes.data
    first_user, first_scales = user_codes.ctypes.data, of_users.ctypes.data
    for p in range(panels):
        these, those = first_panel + p * of_panel, first_factors + p * of_factors
        for u in range(0, together, BOUNDED_USERS):
            own, scales = first_user + u * of_user, first_scales + u * of_scales
            bound_panel_of_some(own, these, pairs, those, scales, to + u * step)
        for u in range(together, users):
            own, scales = first_user + u * of_user, first_scales + u * of_scales
            bound_panel(own, these, pairs, those, scales, to + u * step)
        for u in range(users):
            low[u, p] = largest_of_panel(to + u * step)
            high[u, p] = largest_of_panel(to + u * step + step // 2)
    most = songs // _MOST_SHARE
    columns = np.empty(most + BOUNDED, np.int32)
    kept = np.empty(most + BOUNDED, np.float32)
    spare = np.empty((2, most + BOUNDED), np.uint64)
    vector = np.empty((d, 1), np.float32)
    key = np.empty(1, np.int32)
    for u in range(users):
        if not done[u]:
            continue
        excluded = exclude_indptr[u + 1] - exclude_indptr[u]
        keys = low[u].view(np.int32)
        for p in range(panels):
            keys[p] = ordered(keys[p])
        key[0] = ordered(kth_largest(keys, k + excluded, 0))
        # Twice TINY, for this bound and for the other one, and what rounding takes from it here.
        bar = np.float64(key.view(np.float32)[0]) - 4 * TINY
        reach = np.float32(bar - abs(bar) * 2 * _E)
        found = 0
        out, last = exclude_indptr[u], exclude_indptr[u + 1]
        for p in range(panels):
            if high[u, p] < reach:
                continue
            bound_panel(
                user_codes[u].ctypes.data,
                codes[p].ctypes.data,
                pairs,
                factors[p].ctypes.data,
                of_users[u].ctypes.data,
                bounds.ctypes.data,
            )
            for at in range(min(BOUNDED, songs - p * BOUNDED)):
                song = p * BOUNDED + at
                if bounds[0, 1, at] < reach:
                    continue
                while out < last and exclude_songs[out] < song:
                    out += 1
                if out == last or exclude_songs[out] != song:
                    columns[found] = song
                    found += 1
            if found > most:
                break
        if found > most:
            done[u] = False
            continue
        for j in range(d):
            vector[j, 0] = V[u, j]
        dot_products(vector, 0, rows, columns[:found], kept[:found])
        candidates[u] = songs - excluded
        counts[u] = k
        write_list(kept[:found], columns[:found], spare, indices[u], listed[u], k)
