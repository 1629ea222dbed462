"""A split by time: moments, the cut at a share of the plays, and the parts that follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest

from fusionrec.errors import DataError
from fusionrec.ranking.timeline import (
    NEVER,
    assign_by_time,
    cut_at_share,
    date_of,
    first_times,
    seconds_of,
)

NEW_YEAR = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        (NEW_YEAR, NEW_YEAR),
        (str(NEW_YEAR), NEW_YEAR),
        ("2020-01-01", NEW_YEAR),
        (" 2020-01-01 01:30:00+01:00 ", NEW_YEAR + 1800),
        ("2020-01-01T00:00:00.2Z", NEW_YEAR + 1),  # the first whole second from then on
        ("1969-12-31", -86_400),
    ],
)
def test_a_moment_is_a_date_or_seconds(moment, seconds) -> None:
    assert seconds_of(moment) == seconds


@pytest.mark.parametrize(
    ("moment", "date"),
    [
        (20200131, "2020-01-31"),
        ("19701231", "1970-12-31"),
        (202001, "2020-01-01"),
        ("202001311830", "2020-01-31T18:30"),
    ],
)
def test_a_date_without_dashes_is_not_taken_for_seconds(moment, date) -> None:
    with pytest.raises(ValueError, match=f"{moment} is a date without dashes, .*write {date}, "):
        seconds_of(moment)


def test_as_many_digits_that_are_no_date_are_seconds() -> None:
    assert seconds_of(20201331) == 20201331
    assert seconds_of("99999999") == 99_999_999


@pytest.mark.parametrize("moment", [2020, "1577836800000", "yesterday", True, "-5", ""])
def test_what_is_no_moment_is_refused(moment) -> None:
    with pytest.raises(ValueError, match="seconds since 1970"):
        seconds_of(moment)


def test_a_moment_is_shown_as_it_is_written() -> None:
    assert date_of(NEW_YEAR) == "2020-01-01T00:00:00Z"
    assert seconds_of(date_of(NEW_YEAR + 12_345)) == NEW_YEAR + 12_345
    assert date_of(10**15) == "1000000000000000 s"


@pytest.mark.parametrize("share", [0.001, 0.1, 0.2, 0.5, 0.999])
@pytest.mark.parametrize("spread", [1, 30, 10**6, 10**12])
def test_the_cut_is_the_latest_with_the_share_behind_it(share, spread) -> None:
    """Against the sorted times, for times of any range, with many alike, in parts of any size."""
    generator = np.random.default_rng(spread)
    times = generator.integers(-spread, spread, 990)
    parts = np.split(times, [0, 3, 500])
    cut = cut_at_share(lambda: iter(parts), share)
    enough = [each for each in np.unique(times) if (times >= each).mean() >= share - 1e-12]
    assert cut == max(enough)


def test_the_cut_is_exact_where_a_share_is_no_binary_number() -> None:
    for count in range(1, 60):
        for tenths in range(1, 10):
            cut = cut_at_share(lambda n=count: iter([np.arange(n)]), tenths / 10)
            assert count - cut == -(-tenths * count // 10)


def test_there_is_no_cut_without_times() -> None:
    def none() -> Iterator[np.ndarray]:
        yield np.zeros(0, np.int64)

    with pytest.raises(DataError, match="no play has a time"):
        cut_at_share(none, 0.2)


def test_a_song_is_new_at_its_first_play() -> None:
    generator = np.random.default_rng(0)
    songs, times = generator.integers(0, 40, 300, np.int32), generator.integers(-50, 900, 300)
    songs[songs == 7] = 8
    found = first_times([(songs[:100], times[:100]), (songs[100:], times[100:])], 41)
    for song in range(41):
        own = times[songs == song]
        assert found[song] == (own.min() if len(own) else NEVER)
    assert found[7] == found[40] == NEVER


def test_new_songs_are_tested_and_the_latest_before_them_validate() -> None:
    first = np.array([NEVER, 5, 10, 11, 20, 21, 22, 23, 30, 31, 30, 3, NEVER, 4, 6])
    part, validation_cut = assign_by_time(first, cut=30, validation=0.2)
    # Ten were played before the cut: the latest two of them.
    assert validation_cut == 22
    assert set(np.flatnonzero(part == "test")) == {8, 9, 10}
    assert set(np.flatnonzero(part == "validation")) == {6, 7}
    assert set(part[[0, 12]]) == {"train"}


@pytest.mark.parametrize("validation", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_parts_do_not_overlap_in_time(validation) -> None:
    generator = np.random.default_rng(1)
    first = generator.integers(0, 40, 200)  # days: five songs each
    first[::17] = NEVER
    part, validation_cut = assign_by_time(first, cut=33, validation=validation)
    timed = first != NEVER
    assert set(part[~timed]) == {"train"}
    assert (first[timed & (part == "train")] < (validation_cut or 33)).all()
    assert (first[part == "test"] >= 33).all()
    share = (part == "validation").sum() / (timed & (first < 33)).sum()
    assert share <= validation
    assert (part == "validation").any() == (validation_cut is not None) == (validation > 0)
    if validation_cut is not None:
        # One moment earlier, and they were too many.
        earlier = timed & (first >= first[timed & (part == "train")].max()) & (first < 33)
        assert earlier.sum() > round(validation * (timed & (first < 33)).sum())


def test_songs_of_one_moment_stay_together_and_some_are_left_to_train() -> None:
    part, validation_cut = assign_by_time(np.array([7, 7, 7, 9]), cut=9, validation=0.5)
    assert (part.tolist(), validation_cut) == (["train"] * 3 + ["test"], None)


@pytest.mark.parametrize("songs", range(1, 9))
@pytest.mark.parametrize("validation", [0.0, 0.4, 0.9])
def test_few_songs_are_never_all_left_to_validate(songs, validation) -> None:
    first = np.array([*range(songs), 100])
    part, validation_cut = assign_by_time(first, cut=50, validation=validation)
    wanted = round(validation * songs)
    wanted = 0 if wanted == songs else wanted
    assert (part == "validation").sum() == wanted
    assert validation_cut == (songs - wanted if wanted else None)


@pytest.mark.parametrize(
    ("cut", "message"),
    [(8, "no song is new at 1970-01-01T00:00:08Z or later"), (1, "no song was played before")],
)
def test_a_cut_with_nothing_on_a_side_is_refused(cut, message) -> None:
    with pytest.raises(DataError, match=message):
        assign_by_time(np.array([3, 5, NEVER]), cut, 0.1)
