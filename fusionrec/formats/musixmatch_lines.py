"""Parsing the lines of a musiXmatch text file, many at once where they are sound."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusionrec.schemas import LYRICS

MAX_COUNT = 2**15 - 1
"""Larger counts are capped: the artifact's counts are 16 bits wide."""

TRACK = re.compile(rb"TR[A-Z0-9]{16}")
"""A track id of the Million Song Dataset."""

_DIGITS = re.compile(rb"[0-9]+")
_MAX_ID = 2**31 - 1
_TRACK_CHARS = 18
_FAST_DIGITS = 9  # as many always fit an int32
_NEWLINE, _COMMA, _COLON, _ZERO, _NINE, _A, _Z = 10, 44, 58, 48, 57, 65, 90

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bag:
    """One track's bag; `words` are vocabulary positions, from 0."""

    track_id: str
    mxm_id: int | None
    words: Sequence[int]
    counts: Sequence[int]


def parse_block(data: bytes, num_words: int) -> tuple[Ints, pa.Table, list[tuple[int, bytes]]]:
    """Line positions and table of the plainly good lines, and all other lines.

    A plainly good line is `track,mxm id,index:count,index:count...` with ascending indices
    within the vocabulary and counts of 1 or more. Fields are found by their separators, for
    all lines at once.
    """
    bytes_ = np.frombuffer(data, np.uint8)
    seps = np.flatnonzero((bytes_ == _COMMA) | (bytes_ == _COLON) | (bytes_ == _NEWLINE))
    kinds = bytes_[seps]
    line_ends = np.flatnonzero(kinds == _NEWLINE)  # as positions among the separators
    line_firsts = np.concatenate(([0], line_ends[:-1] + 1))
    num_fields = line_ends - line_firsts + 1
    line_of = np.repeat(np.arange(len(line_ends)), num_fields)
    rank = np.arange(len(seps)) - line_firsts[line_of]
    begins = np.concatenate(([0], seps[:-1] + 1))
    width = seps - begins
    digits = np.concatenate(([0], np.cumsum((bytes_ >= _ZERO) & (bytes_ <= _NINE))))
    numeric = (digits[seps] - digits[begins] == width) & (width > 0) & (width <= _FAST_DIGITS)
    is_index = (rank >= 2) & (rank % 2 == 0)
    expected = np.where(is_index, _COLON, _COMMA)
    expected[line_ends] = _NEWLINE
    fine = (numeric | (rank == 0)) & (kinds == expected)
    good = (num_fields >= 4) & (num_fields % 2 == 0)
    good[line_of[~fine]] = False
    good &= width[line_firsts] == _TRACK_CHARS

    values = np.zeros(len(seps), np.int64)
    for digit in range(int(width[numeric].max(initial=0))):
        has = numeric & (width > digit)
        values[has] = values[has] * 10 + (bytes_[begins[has] + digit] - _ZERO)
    is_count = (rank >= 3) & (rank % 2 == 1)
    bad = is_index & ((values < 1) | (values > num_words))
    bad |= is_count & (values < 1)
    bad[2:] |= is_index[2:] & (rank[2:] > 2) & (values[2:] <= values[:-2])
    good[line_of[bad]] = False

    lines = np.flatnonzero(good)
    ids = bytes_[begins[line_firsts[lines]][:, None] + np.arange(_TRACK_CHARS)]
    upper = (ids >= _A) & (ids <= _Z)
    proper = (upper | ((ids >= _ZERO) & (ids <= _NINE))).all(axis=1)
    proper &= (ids[:, 0] == ord("T")) & (ids[:, 1] == ord("R"))
    good[lines[~proper]] = False
    lines, ids = lines[proper], ids[proper]

    kept = good[line_of]
    table = _assemble(
        pa.array(ids.reshape(-1).view(f"S{_TRACK_CHARS}").tolist(), pa.binary()).cast(pa.string()),
        pa.array(values[line_firsts[lines] + 1], pa.int32()),
        (num_fields[lines] - 2) // 2,
        values[kept & is_index] - 1,
        values[kept & is_count],
    )
    starts = begins[line_firsts]
    odd = [(int(i), data[starts[i] : seps[line_ends[i]]]) for i in np.flatnonzero(~good)]
    return lines, table, odd


def _assemble(tracks: pa.Array, mxm: pa.Array, sizes: Ints, words: Ints, counts: Ints) -> pa.Table:
    offsets = pa.array(np.concatenate(([0], np.cumsum(sizes))), pa.int32())
    counts = np.minimum(counts, MAX_COUNT)
    return pa.Table.from_arrays(
        [
            tracks,
            mxm,
            pa.ListArray.from_arrays(offsets, pa.array(words, pa.int16())),
            pa.ListArray.from_arrays(offsets, pa.array(counts, pa.int16())),
        ],
        schema=LYRICS,
    )


def bags_to_table(bags: list[Bag]) -> pa.Table:
    return _assemble(
        pa.array([b.track_id for b in bags], pa.string()),
        pa.array([b.mxm_id for b in bags], pa.int32()),
        np.array([len(b.words) for b in bags], np.int64),
        np.array([w for b in bags for w in b.words], np.int64),
        np.array([min(c, MAX_COUNT) for b in bags for c in b.counts], np.int64),
    )


def parse_line(line: bytes, num_words: int, cut: bool) -> Bag | str:
    """One line that is not plainly good: its bag, or the reason why it has none."""
    track, *rest = (field.strip() for field in line.split(b","))
    if not TRACK.fullmatch(track):
        return "line cut short" if cut and not rest else "bad track id"
    if len(rest) < 2:
        return "line cut short"
    bag: dict[int, int] = {}
    for i, pair in enumerate(rest[1:]):
        index, colon, count = (part.strip() for part in pair.partition(b":"))
        unfinished = not count and (not index or _DIGITS.fullmatch(index))
        if unfinished and i == len(rest) - 2:
            return "line cut short"
        if unfinished or not colon or not _DIGITS.fullmatch(index):
            return "malformed pair"
        if not _DIGITS.fullmatch(count) or not count.strip(b"0"):
            return "bad count"
        # Lengths come first: Python refuses to convert thousands of digits.
        index = index.lstrip(b"0")
        if not index or len(index) > _FAST_DIGITS or int(index) > num_words:
            return "word index out of range"
        if int(index) - 1 in bag:
            return "word repeated"
        count = count.lstrip(b"0")
        bag[int(index) - 1] = MAX_COUNT if len(count) > _FAST_DIGITS else int(count)
    digits = rest[0] if _DIGITS.fullmatch(rest[0]) and len(rest[0]) < 20 else b""
    mxm = int(digits) if digits and int(digits) <= _MAX_ID else None
    return Bag(track.decode("ascii"), mxm, list(bag), list(bag.values()))
