"""Times of plays, compared with pandas and with what they mean."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionrec.formats.tables import TableSpec, read_plays, settled
from tests.formats.tables.helpers import in_ranges, rejects, spec_of, write, write_parquet

NEVER = 253402300799
"""The end of the year 9999."""


def read(path: str, **fields: Any) -> Any:
    return read_plays(path, spec_of("plays", path, **fields))


def of(folder: Path, *values: object, name: str = "t.csv") -> str:
    lines = "".join(f"u,s,{value}\n" for value in values)
    return write(folder, name, "user_id,song_id,timestamp\n" + lines)


def times(path: str, **fields: Any) -> list[int | None]:
    found: list[int | None] = read(path, **fields).table["time"].to_pylist()
    return found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1_700_000_000, 5], [1_700_000_000, 5]),
        ([1_700_000_000_999, 5], [1_700_000_000, 0]),
        ([1_700_000_000_999_999, -1], [1_700_000_000, None]),
        ([1_700_000_000_999_999_999, 1], [1_700_000_000, 0]),
        (["2009-04-08 01:57:47.9+02:00", "2009-04-08"], [1239148667, 1239148800]),
    ],
)
def test_units_of_time(tmp_path: Path, values: list[Any], expected: list[int]) -> None:
    text = "".join(f"u,s,{value}\n" for value in values)
    path = write(tmp_path, "t.csv", "user_id,song_id,timestamp\n" + text)
    assert read(path).table["time"].to_pylist() == expected
    path = write_parquet(
        tmp_path, "t.parquet", {"uid": ["u"] * 2, "song_id": ["s"] * 2, "timestamp": values}
    )
    assert read(path).table["time"].to_pylist() == expected


def test_a_time_does_not_depend_on_what_stands_beside_it(tmp_path: Path) -> None:
    lines = "u,s,1699999999999999999\nu,s,never\nu,s,1.7e18\nu,s,2020-01-01\n"
    path = write(tmp_path, "t.csv", "user_id,song_id,ts\n" + lines)
    assert read(path).table["time"].to_pylist() == [1699999999, None, 1700000000, 1577836800]


def test_the_unit_is_that_of_the_first_rows_for_every_range(tmp_path: Path) -> None:
    lines = ["u,s,1700000000123\n", *["u,s,1000\n"] * 50]
    path = write(tmp_path, "t.csv", "user_id,song_id,time\n" + "".join(lines))
    parts = in_ranges(read_plays, path, spec_of("plays", path), 60)
    times = [time for part in parts for time in part.table["time"].to_pylist()]
    assert times == [1_700_000_000, *[1] * 50]


@settings(deadline=None, max_examples=40)
@given(stamps=st.lists(st.datetimes(datetime(1902, 1, 1), datetime(2200, 1, 1)), min_size=1))
def test_iso_times_are_those_of_pandas(
    stamps: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = str(tmp_path_factory.getbasetemp() / "iso.csv")
    texts = [stamp.isoformat() for stamp in stamps]
    Path(path).write_text("uid,song_id,ts\n" + "".join(f"u,s,{text}\n" for text in texts))
    seconds = [pd.Timestamp(text).tz_localize("UTC").timestamp() // 1 for text in texts]
    assert read(path).table["time"].to_pylist() == seconds


def test_arrow_times(tmp_path: Path) -> None:
    stamps = pd.to_datetime(["2020-01-01T12:00:00.5", None])
    columns = {"user_id": ["u", "v"], "song_id": ["s", "s"], "timestamp": stamps}
    batch = read(write_parquet(tmp_path, "t.parquet", columns))
    assert batch.table["time"].to_pylist() == [1577880000, None]
    columns["timestamp"] = pa.array([1, None], pa.int32()).cast(pa.date32())
    batch = read(write_parquet(tmp_path, "d.parquet", columns))
    assert batch.table["time"].to_pylist() == [86400, None]


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_what_stands_for_never_does_not_change_the_unit(tmp_path: Path, unit: int) -> None:
    stamps = [1_600_000_000, 1_600_000_500]
    path = of(tmp_path, stamps[0] * unit, NEVER * unit, stamps[1] * unit, NEVER * unit, 0)
    batch = read(path)
    assert batch.table["time"].to_pylist() == [stamps[0], None, stamps[1], None, 0]
    assert [reject[1:3] for reject in rejects(batch)] == [
        ("timestamp is no time", str(NEVER * unit))
    ] * 2
    path = of(tmp_path, stamps[0] * unit, NEVER * unit)
    assert times(path) == [stamps[0], None]
    columns = {"user_id": [1] * 3, "song_id": [1] * 3}
    for kind in (pa.int64(), pa.float64()):
        stamp = pa.array([stamps[0] * unit, NEVER if unit == 1 else -1, None]).cast(
            kind, safe=False
        )
        path = write_parquet(tmp_path, "a.parquet", {**columns, "timestamp": stamp})
        assert times(path) == [stamps[0], None, None]


def test_times_that_begin_late_in_a_file(tmp_path: Path) -> None:
    path = of(tmp_path, *[""] * 150, 1_700_000_000_123, *[""] * 9)
    assert [time for time in times(path) if time is not None] == [1_700_000_000]
    spec = spec_of("plays", path)
    parts = in_ranges(read_plays, path, spec, 100)
    found = [time for part in parts for time in part.table["time"].to_pylist()]
    assert [time for time in found if time is not None] == [1_700_000_000]


@pytest.mark.parametrize(
    ("dates", "seconds"),
    [
        ([20200101, 20200229, 20210229, 99991231], ["2020-01-01", "2020-02-29", None, None]),
        ([20200101, "never"], ["2020-01-01", None]),
        ([20200101.0, 20211231.0], ["2020-01-01", "2021-12-31"]),
        ([20200101, "2020-01-02"], ["2020-01-01", "2020-01-02"]),
        ([20200101235958, 20200101246060], ["2020-01-01T23:59:58", None]),
    ],
)
def test_numbers_that_are_dates(
    tmp_path: Path, dates: list[Any], seconds: list[str | None]
) -> None:
    expected = [None if each is None else pd.Timestamp(each).timestamp() for each in seconds]
    assert times(of(tmp_path, *dates)) == expected
    if not isinstance(dates[1], str):
        columns = {"user_id": ["u"] * len(dates), "song_id": ["s"] * len(dates)}
        path = write_parquet(tmp_path, "a.parquet", {**columns, "timestamp": dates})
        assert times(path) == expected


@settings(deadline=None)
@given(days=st.lists(st.dates(datetime(1970, 1, 1).date(), datetime(2099, 12, 31).date())))
def test_dates_are_those_of_pandas(
    days: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = of(tmp_path_factory.getbasetemp(), *(f"{day:%Y%m%d}" for day in days))
    assert times(path) == [pd.Timestamp(day).timestamp() for day in days]


@pytest.mark.parametrize("unit", [1, 10**3, 10**6])
def test_times_since_a_beginning_of_their_own(tmp_path: Path, unit: int) -> None:
    seconds = np.random.default_rng(1).integers(1, 26_000_000, 50)
    assert times(of(tmp_path, *(seconds * unit))) == seconds.tolist()


def test_files_of_a_table_have_a_unit_in_common(tmp_path: Path) -> None:
    of(tmp_path, *range(1000, 90_000_000_000, 1_000_000_000), name="d/a.csv")
    unclear = of(tmp_path, 5000, 7000, name="d/b.csv")
    spec = settled(TableSpec("plays", (str(tmp_path / "d"),)))
    assert spec.units == 1000
    assert read_plays(unclear, spec).table["time"].to_pylist() == [5, 7]
    own = of(tmp_path, 1_700_000_000, 5, name="e.csv")  # which says itself that it is in seconds
    assert read_plays(own, spec).table["time"].to_pylist() == [1_700_000_000, 5]
    none = write(tmp_path, "f.csv", "user_id,song_id\nu,s\n")
    for path in (none, of(tmp_path, "2020-01-01", name="g.csv")):
        spec = spec_of("plays", path)
        assert settled(spec) == replace(spec, units=None)
