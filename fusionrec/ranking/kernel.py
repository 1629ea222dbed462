"""Top lists and ranks of a group of users, compiled: what :mod:`fusionrec.ranking.on_cpu` calls.

The scores of a group of users with a block of songs stay in the processor's second cache: they
are computed there, compared and forgotten. A user's list comes from the few scores above a
threshold, which the scores of a sample of the songs give beforehand. Where the threshold lets
too few or too many pass (or none is sought), the user is ranked again alone, without one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.compiled import compiled
from fusionrec.ranking.vector_code import (
    LANES,
    PANEL,
    THRESHOLDS,
    USERS,
    count_above,
    fused_multiply_add,
    keep_above,
    score_tile,
)

FITS, BOTH = 0, 1
"""What :func:`rank_group` returns: no error, or a song that is both relevant and excluded."""

Array = NDArray[Any]


@compiled
def rank_group(
    users: Array,
    panels: Array,
    rows: Array,
    sample: Array,
    sampled: int,
    quantile: int,
    exclude_indptr: Array,
    exclude_songs: Array,
    relevant_indptr: Array,
    relevant_songs: Array,
    relevant_vectors: Array,
    relevant_rows: Array,
    first: int,
    scores: Array,
    kept: Array,
    kept_columns: Array,
    indices: Array,
    listed: Array,
    counts: Array,
    candidates: Array,
    ranks: Array,
    rank_songs: Array,
) -> tuple[int, int, int]:
    """Fill the lists and ranks of users `first`, `first` + 1, ...; one call a group.

    Parameters
    ----------
    users
        The group's vectors, (blocks, d, USERS), zeros where the last block is not full. The
        other arrays' first dimension, if it is of users, is of all users.
    panels, rows
        The songs' vectors, (panels, d, PANEL), zeros beyond the last song, and (N, d).
    sample, sampled, quantile
        A sample of every n-th song, as `panels`; how many they are; which of their scores, from
        the best, is the threshold, or 0 for none.
    relevant_songs
        Ascending for a user. One below 0 or beyond the last song is no candidate here: what is
        counted for it is the songs that come before it.
    relevant_vectors, relevant_rows
        Where each of them has its vector: `relevant_vectors[relevant_rows[i]]`.
    scores, kept, kept_columns
        Working memory: (users of a group, songs of a block), and per user as many survivors of
        the threshold as are looked at.
    indices, listed, counts, candidates, ranks, rank_songs
        Results, as in `RankedLists`.

    Returns
    -------
    error, user, song
    """
    songs, d = rows.shape
    k = indices.shape[1]
    block = scores.shape[1]
    group = min(scores.shape[0], len(counts) - first)
    blocks = (group + USERS - 1) // USERS
    room = kept.shape[1] - block - LANES

    thresholds = np.full(group, -np.inf, np.float32)
    survivors = np.zeros(group, np.int64)
    alone = np.zeros(group, np.bool_)
    cursor = exclude_indptr[first : first + group].copy()
    # The relevant songs of a user, filled up to a multiple of THRESHOLDS.
    bounds = np.zeros(group + 1, np.int64)
    for u in range(group):
        own = relevant_indptr[first + u + 1] - relevant_indptr[first + u]
        bounds[u + 1] = bounds[u] + (own + THRESHOLDS - 1) // THRESHOLDS * THRESHOLDS
    own_scores = np.full(bounds[group], np.inf, np.float32)
    better = np.zeros(bounds[group], np.int32)

    if quantile > 0:
        _find_thresholds(users, sample, sampled, quantile, thresholds)
    for u in range(group):
        user = first + u
        candidates[user] = songs - (exclude_indptr[user + 1] - exclude_indptr[user])
        own = slice(relevant_indptr[user], relevant_indptr[user + 1])
        out = slice(exclude_indptr[user], exclude_indptr[user + 1])
        song = _in_both(relevant_songs[own], exclude_songs[out])
        if song >= 0:
            return BOTH, user, song
        dot_products(
            users[u // USERS],
            u % USERS,
            relevant_vectors,
            relevant_rows[own],
            own_scores[bounds[u] : bounds[u + 1]],
        )
    bars = np.nextafter(own_scores, np.float32(-np.inf))
    for u in range(group):
        for i in range(relevant_indptr[first + u + 1] - relevant_indptr[first + u]):
            if relevant_songs[relevant_indptr[first + u] + i] < 0:
                bars[bounds[u] + i] = own_scores[bounds[u] + i]

    for start in range(0, songs, block):
        stop = min(start + block, songs)
        tiles = (stop - start + PANEL - 1) // PANEL
        for p in range(tiles):
            panel = panels[start // PANEL + p].ctypes.data
            for b in range(blocks):
                to = scores[b * USERS :, p * PANEL :].ctypes.data
                score_tile(users[b].ctypes.data, panel, d, to, block)
        for u in range(group):
            user = first + u
            row = scores[u]
            row[stop - start : tiles * PANEL] = -np.inf
            last = exclude_indptr[user + 1]
            while cursor[u] < last and exclude_songs[cursor[u]] < stop:
                row[exclude_songs[cursor[u]] - start] = -np.inf
                cursor[u] += 1
            if quantile == 0 or survivors[u] > room:
                alone[u] = True
            else:
                at = survivors[u]
                survivors[u] += keep_above(
                    row.ctypes.data,
                    tiles * PANEL,
                    start,
                    thresholds[u],
                    kept[u, at:].ctypes.data,
                    kept_columns[u, at:].ctypes.data,
                )
            if bounds[u] < bounds[u + 1]:
                own = slice(bounds[u], bounds[u + 1])
                _count_ahead(
                    row[: tiles * PANEL],
                    start,
                    stop - start,
                    relevant_songs[relevant_indptr[user] : relevant_indptr[user + 1]],
                    own_scores[own],
                    bars[own],
                    better[own],
                )

    spare = np.empty((2, kept.shape[1]), np.uint64)
    whole = np.empty(0, np.float32)
    for u in range(group):
        user = first + u
        counts[user] = min(k, candidates[user])
        if alone[u] or survivors[u] < counts[user]:
            if len(whole) == 0:
                whole = np.empty(songs, np.float32)
            _score_alone(users[u // USERS], u % USERS, panels, scores, whole)
            for i in range(exclude_indptr[user], exclude_indptr[user + 1]):
                whole[exclude_songs[i]] = -np.inf
            kept_alone, columns_alone = _best_of(whole, counts[user])
            write_list(kept_alone, columns_alone, spare, indices[user], listed[user], counts[user])
        else:
            write_list(
                kept[u, : survivors[u]],
                kept_columns[u, : survivors[u]],
                spare,
                indices[user],
                listed[user],
                counts[user],
            )
        own = slice(relevant_indptr[user], relevant_indptr[user + 1])
        order = np.argsort(better[bounds[u] : bounds[u] + own.stop - own.start])
        for i in range(len(order)):
            ranks[own.start + i] = 1 + better[bounds[u] + order[i]]
            rank_songs[own.start + i] = relevant_songs[own.start + order[i]]
    return FITS, 0, 0


@compiled
def _in_both(a: Array, b: Array) -> int:
    """The first value in both ascending arrays, or -1."""
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            return a[i]
        if a[i] < b[j]:
            i += 1
        else:
            j += 1
    return -1


@compiled
def dot_products(users: Array, u: int, rows: Array, songs: Array, out: Array) -> None:
    """The scores of some songs, summed as a tile's are; four at a time hide the latency."""
    zero = np.float32(0)
    for i in range(0, len(songs), 4):
        last = len(songs) - 1
        a, b = rows[songs[i]], rows[songs[min(i + 1, last)]]
        c, e = rows[songs[min(i + 2, last)]], rows[songs[min(i + 3, last)]]
        s = t = v = w = zero
        for j in range(rows.shape[1]):
            weight = users[j, u]
            s = fused_multiply_add(weight, a[j], s)
            t = fused_multiply_add(weight, b[j], t)
            v = fused_multiply_add(weight, c[j], v)
            w = fused_multiply_add(weight, e[j], w)
        out[i] = s + zero
        out[min(i + 1, last)] = t + zero
        out[min(i + 2, last)] = v + zero
        out[min(i + 3, last)] = w + zero


@compiled
def _count_ahead(
    row: Array, first: int, length: int, songs: Array, scores: Array, bars: Array, better: Array
) -> None:
    """Add, for each of some songs, those of a block that come before it.

    A song before it in the catalogue wins a tie, one after it loses: until its own block is
    reached, its bar is the next float below its score, from there on the score.
    """
    begin = np.searchsorted(songs, first)
    end = np.searchsorted(songs, first + length)
    bars[begin:end] = scores[begin:end]
    for i in range(0, len(bars), THRESHOLDS):
        count_above(row.ctypes.data, len(row), bars[i:].ctypes.data, better[i:].ctypes.data)
    for i in range(begin, end):
        ties = np.int32(0)
        for j in range(songs[i] - first):
            ties = np.int32(ties + np.int32(row[j] == scores[i]))
        better[i] += ties


@compiled
def ordered(score: Any) -> Any:
    """An int32 that is larger for a larger float32 (and no score is a minus zero)."""
    return score ^ ((score >> np.int32(31)) & np.int32(0x7FFFFFFF))


@compiled
def _find_thresholds(
    users: Array, sample: Array, sampled: int, quantile: int, thresholds: Array
) -> None:
    """The `quantile`-th best score of every user among the sampled songs."""
    panels, d = len(sample), sample.shape[1]
    width = panels * PANEL
    scores = np.empty((USERS, width), np.float32)
    for b in range(len(users)):
        for p in range(panels):
            to = scores[:, p * PANEL :].ctypes.data
            score_tile(users[b].ctypes.data, sample[p].ctypes.data, d, to, width)
        for u in range(min(USERS, len(thresholds) - b * USERS)):
            keys = scores[u].view(np.int32)[:sampled]
            for j in range(sampled):
                keys[j] = ordered(keys[j])
            key = np.empty(1, np.int32)
            key[0] = ordered(kth_largest(keys, quantile, quantile // 32))
            thresholds[b * USERS + u] = key.view(np.float32)[0]


@compiled
def kth_largest(keys: Array, k: int, slack: int) -> Any:
    """The k-th largest of some int32, by halving the interval it must lie in.

    With `slack`, a value that at least k and at most k + `slack` of them reach.
    """
    smallest = largest = keys[0]
    for j in range(1, len(keys)):
        smallest, largest = min(smallest, keys[j]), max(largest, keys[j])
    low, high = np.int64(smallest), np.int64(largest)
    while low < high:  # count(>= low) >= k > count(> high)
        middle = (low + high + 1) >> 1
        least = np.int32(middle)
        count = np.int32(0)
        for j in range(len(keys)):
            count = np.int32(count + np.int32(keys[j] >= least))
        if count >= k:
            low = middle
            if count <= k + slack:
                break
        else:
            high = middle - 1
    return np.int32(low)


@compiled
def _score_alone(users: Array, u: int, panels: Array, tile: Array, out: Array) -> None:
    """All scores of one user, with `tile` for working memory."""
    stride = tile.shape[1]
    for p in range(len(panels)):
        score_tile(
            users.ctypes.data, panels[p].ctypes.data, panels.shape[1], tile.ctypes.data, stride
        )
        stop = min(len(out), (p + 1) * PANEL)
        out[p * PANEL : stop] = tile[u, : stop - p * PANEL]


@compiled
def _best_of(row: Array, k: int) -> tuple[Array, Array]:
    """The k best scores of a row, ties by column, and their columns, both by column."""
    best, columns = np.empty(k, np.float32), np.empty(k, np.int32)
    if k == 0:
        return best, columns
    keys = row.view(np.int32)
    for j in range(len(keys)):
        keys[j] = ordered(keys[j])
    kth = kth_largest(keys, k, 0)
    above = 0
    for j in range(len(keys)):
        above += keys[j] > kth
    ties = k - above
    to = 0
    for j in range(len(keys)):
        if keys[j] > kth or (keys[j] == kth and ties > 0):
            ties -= keys[j] == kth
            columns[to] = j
            best.view(np.int32)[to] = ordered(keys[j])
            to += 1
    return best, columns


_DIGIT = 11
"""Bits by which a list is sorted at a time."""


@compiled
def write_list(
    kept: Array, columns: Array, spare: Array, indices: Array, listed: Array, count: int
) -> None:
    """Sort survivors, which come by column, by score, and write the best `count` of them."""
    indices[count:] = -1
    listed[count:] = np.nan
    if count == 0:
        return
    size = len(kept)
    if size > spare.shape[1]:
        spare = np.empty((2, size), np.uint64)
    keys = kept.view(np.int32)
    largest, smallest = ordered(keys[0]), ordered(keys[0])
    for i in range(size):
        key = ordered(keys[i])
        largest, smallest = max(largest, key), min(smallest, key)
    span = np.int64(largest) - np.int64(smallest)
    source, target = 0, 1
    for i in range(size):
        behind = np.uint64(np.int64(largest) - np.int64(ordered(keys[i])))
        spare[0, i] = (behind << np.uint64(32)) | np.uint64(columns[i])
    shift = 32
    starts = np.empty(1 << _DIGIT, np.int64)
    mask = np.uint64((1 << _DIGIT) - 1)
    while span > 0:  # a stable sort by digits: equal scores stay in the order of the columns
        bits = np.uint64(shift)
        digits = min(np.int64(mask), span) + 1
        starts[:digits] = 0
        for i in range(size):
            starts[np.int64((spare[source, i] >> bits) & mask)] += 1
        before = 0
        for digit in range(digits):
            here = starts[digit]
            starts[digit] = before
            before += here
        for i in range(size):
            key = spare[source, i]
            digit = np.int64((key >> bits) & mask)
            spare[target, starts[digit]] = key
            starts[digit] += 1
        source, target = target, source
        shift += _DIGIT
        span >>= _DIGIT
    bits_of = listed.view(np.int32)
    for i in range(count):
        key = spare[source, i]
        indices[i] = np.int32(key & np.uint64(0xFFFFFFFF))
        bits_of[i] = ordered(np.int32(np.int64(largest) - np.int64(key >> np.uint64(32))))
