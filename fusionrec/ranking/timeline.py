"""A global temporal split: songs that are new from one moment on are the test part.

One cut T for all users and songs is what the literature calls a global temporal split, or a split
that observes the global timeline (Meng et al., "Exploring Data Splitting Strategies for the
Evaluation of Recommendation Models", RecSys 2020; Ji et al., "A Critical Study on Data Leakage in
Recommender System Offline Evaluation", ACM TOIS 2023): nothing that happens at T or later is
learned from, of whichever user or song. A random split of songs lets a method see what was played
long after the plays that it is judged by.

Here songs are what is split. A song is known from its first play on: with its first play at T or
later it is a test song, of which nothing but its content is known before T. The validation songs
are chosen by the same rule, so that what they choose fits what is tested (Gusak et al., "Time to
Split", 2025): they are those that are new from an earlier moment on. Nothing here is random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.errors import DataError

NEVER = np.iinfo(np.int64).max
"""The first play of a song that has none with a time."""

_BUCKETS = 1 << 16
_FIRST, _LAST = 10_000, 253_402_300_799
"""Seconds since 1970: below are years that were meant as such, above those after 9999."""


def seconds_of(moment: int | str) -> int:
    """A moment as seconds since 1970 (UTC).

    Parameters
    ----------
    moment
        Seconds already, or ISO 8601: a date, which stands for its first second, or a date and a
        time. Without a zone it is UTC, as the times of plays are.

    Raises
    ------
    ValueError
        It is neither, or digits that are a date as well.
    """
    text = str(moment).strip()
    if text.isascii() and text.isdecimal():
        if not _FIRST <= int(text) <= _LAST:
            raise ValueError(
                f"a number is seconds since 1970, from {_FIRST} to {_LAST}: write {text} as a "
                "date, as 2020-01-31"
            )
        if (date := _written_together(text)) is not None:
            raise ValueError(
                f"{text} is a date without dashes, or seconds since 1970 "
                f"({date_of(int(text))}): write {date}, or the moment that is meant as a date"
            )
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            "write a date (2020-01-31), a date and time (2020-01-31T18:00:00+02:00), or seconds "
            "since 1970"
        ) from None
    return math.ceil((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


_TOGETHER = {
    6: ("%Y%m", "%Y-%m-01"),
    8: ("%Y%m%d", "%Y-%m-%d"),
    12: ("%Y%m%d%H%M", "%Y-%m-%dT%H:%M"),
}
"""How dates are written without dashes, by their length, and how with them."""


def _written_together(text: str) -> str | None:
    """Digits that are a year, a month and so on, written as they should be; None of others."""
    if len(text) not in _TOGETHER:
        return None
    together, apart = _TOGETHER[len(text)]
    try:
        found = datetime.strptime(text, together)
    except ValueError:
        return None
    return found.strftime(apart) if found.year >= 1900 else None


def date_of(seconds: int) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, as they are shown."""
    if not -62_135_596_800 <= seconds <= _LAST:
        return f"{seconds} s"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def first_times(
    plays: Iterable[tuple[NDArray[np.int32], NDArray[np.int64]]], songs: int
) -> NDArray[np.int64]:
    """When each song was first played, shape (songs,); :data:`NEVER` where no time is known.

    Parameters
    ----------
    plays
        A part of the plays after the other: song codes and times, shape (rows,), without the plays
        that have no time.
    """
    found = np.full(songs, NEVER)
    for song, time in plays:
        np.minimum.at(found, song, time)
    return found


def cut_at_share(times: Callable[[], Iterable[NDArray[np.int64]]], share: float) -> int:
    """The latest moment from which on at least this share of the times lie.

    Exact, without all of them in memory: the range that has it is counted in buckets, and its
    bucket again, until a bucket is a second.

    Parameters
    ----------
    times
        Gives the times, a part after the other, as often as it is called: three times for twenty
        years.
    share
        Above 0 and below 1.

    Raises
    ------
    DataError
        There are no times.
    """
    count, low, high = 0, NEVER, -NEVER
    for part in times():
        if len(part):
            count, low = count + len(part), min(low, int(part.min()))
            high = max(high, int(part.max()))
    if not count:
        raise DataError("split.by time: no play has a time")
    # Rounded before it is raised to a whole number: .1 of 30 is 3 and not 4.
    earlier = count - max(1, math.ceil(round(share * count, 6)))  # as many lie before it, at most
    while low < high:
        width = -(-(high - low + 1) // _BUCKETS)
        sizes = np.zeros(_BUCKETS, np.int64)
        for part in times():
            inside = part[(part >= low) & (part <= high)]
            sizes += np.bincount((inside - low) // width, minlength=_BUCKETS)
        bucket = int(np.searchsorted(np.cumsum(sizes), earlier, side="right"))
        earlier -= int(sizes[:bucket].sum())
        low += bucket * width
        high = min(high, low + width - 1)
    return low


def assign_by_time(
    first: NDArray[np.int64], cut: int, validation: float
) -> tuple[NDArray[np.object_], int | None]:
    """Assign every song a part by its first play.

    Songs that are new at `cut` or later are the test part. Of those played before, the latest are
    the validation part: those that are new from the earliest moment on from which no more than the
    share `validation` of them are. All others are training songs, among them those without any
    play that has a time, of which only the content is known, whenever that is.

    Parameters
    ----------
    first
        Shape (songs,), from :func:`first_times`.
    cut
        T, seconds since 1970.
    validation
        Share of the songs that are played before `cut`, from 0 to 0.9.

    Returns
    -------
    part
        Shape (songs,), object: `train`, `validation` or `test`.
    validation_cut
        The first play of the first validation song; None where there is none, as among so few
        songs that none would be left to train. All training songs with a time were played before.

    Raises
    ------
    DataError
        No song is new at `cut` or later, or none was played before.
    """
    timed, test = first != NEVER, (first != NEVER) & (first >= cut)
    if not test.any():
        last = f" (the last is new at {date_of(int(first[timed].max()))})" if timed.any() else ""
        raise DataError(
            f"split: no song is new at {date_of(cut)} or later{last}: set split.cut to an earlier "
            "moment, or raise split.test_share"
        )
    before = np.sort(first[timed & ~test])
    if not len(before):
        raise DataError(
            f"split: no song was played before {date_of(cut)}: set split.cut to a later moment, or "
            "lower split.test_share"
        )
    part: NDArray[Any] = np.where(test, "test", "train").astype(object)
    quota = round(validation * len(before))
    if not 0 < quota < len(before):  # none, or no song would be left to train
        return part, None
    # Songs of one moment stay together: the first that is later than the last song left over.
    start = int(np.searchsorted(before, before[-quota - 1], side="right"))
    if start == len(before):
        return part, None
    validation_cut = int(before[start])
    part[timed & ~test & (first >= validation_cut)] = "validation"
    return part, validation_cut
