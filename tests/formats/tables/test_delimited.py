"""Lines to fields, compared with the csv module."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fusionrec.formats.tables.delimited import NOT_CLOSED, WRONG_NUMBER, Dialect, parse


def parsed(text: str, delimiter: str = ",", fields: int = 2, **how: bool) -> tuple[list, list]:
    """Rows, and lines that are none with the reason."""
    dialect = Dialect(delimiter.encode(), fields, **how)
    found = parse(text.encode(), dialect, list(range(fields)))
    rows = [tuple(value.decode() for value in row.values()) for row in found.table.to_pylist()]
    return list(zip(found.lines.tolist(), rows, strict=True)), [odd[:2] for odd in found.odd]


_FIELD = st.text(st.sampled_from('ab,\t"; é\n') | st.characters(codec="utf-8"), max_size=6).filter(
    lambda value: "\r" not in value and value.count("\n") < 2
)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(_FIELD, _FIELD, _FIELD), min_size=1, max_size=6),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    delimiter=st.sampled_from([",", ";", "|"]),
)
@example(rows=[('"', '""', "a\nb")], quoting=csv.QUOTE_MINIMAL, delimiter=",")
def test_what_the_csv_module_writes_is_read_again(
    rows: list[tuple[str, str, str]], quoting: int, delimiter: str
) -> None:
    rows = [row for row in rows if sum(value.count("\n") for value in row) < 3]
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(rows)  # type: ignore[call-overload]
    found, odd = parsed(file.getvalue(), delimiter, 3)
    assert ([row for _, row in found], odd) == (rows, [])
    starts, line = [], 0
    for row in rows:
        starts.append(line)
        line += 1 + sum(value.count("\n") for value in row)
    assert [at for at, _ in found] == starts


@settings(deadline=None)
@given(
    lines=st.lists(st.text(st.sampled_from('ab,"\t '), max_size=8), max_size=8),
    across=st.booleans(),
)
def test_any_lines_are_rows_or_told_of(lines: list[str], across: bool) -> None:
    text = "".join(line + "\n" for line in lines)
    found, odd = parsed(text, across=across)
    at = [i for i, _ in found] + [i for i, _ in odd]
    assert len(set(at)) == len(at)
    filled = [i for i, line in enumerate(lines) if line.strip()]
    assert set(at) <= set(filled)
    if not across:
        assert sorted(at) == filled
    plain = {i: tuple(line.split(",")) for i, line in enumerate(lines) if '"' not in line}
    for i, row in found:
        if i in plain:
            assert row == plain[i]


def test_lines_with_another_number_of_fields_cost_themselves() -> None:
    found, odd = parsed('a,b\nc\n\n"d",e,f\n"g,h","i"\n')
    assert found == [(0, ("a", "b")), (4, ("g,h", "i"))]
    assert odd == [(1, WRONG_NUMBER), (3, WRONG_NUMBER)]


def test_a_quote_that_is_never_closed_costs_its_line() -> None:
    found, odd = parsed('a,b\n1,"never closed\nc,d\ne,f\ng,h\n"i",j\n')
    assert [row for _, row in found] == [("a", "b"), ("c", "d"), ("e", "f"), ("g", "h"), ("i", "j")]
    assert odd == [(1, NOT_CLOSED)]


def test_a_later_quote_does_not_swallow_the_rows_between() -> None:
    found, odd = parsed('1,"open\n2,b\n3,c\n4,d"\n5,e\n')
    assert [row for _, row in found] == [("2", "b"), ("3", "c"), ("4", 'd"'), ("5", "e")]
    assert odd == [(0, NOT_CLOSED)]


@pytest.mark.parametrize("title", ['12" mix', '"Heroes" (live)', '"unclosed', 'a"b"c'])
def test_quotes_in_titles_between_tabs(title: str) -> None:
    found, odd = parsed(f"1\t{title}\n2\tx\n", "\t")
    expected = {'"Heroes" (live)': "Heroes (live)"}.get(title, title)
    assert found == [(0, ("1", expected)), (1, ("2", "x"))]
    assert not odd


def test_quotes_are_characters_where_nothing_is_quoted() -> None:
    found, odd = parsed('1\t"a\n2\t"b"\n', "\t", quoted=False)
    assert [row for _, row in found] == [("1", '"a'), ("2", '"b"')]
    assert not odd


def test_a_record_that_is_not_over_waits_for_the_next_block() -> None:
    text = b'1,a\n2,"b\nc'
    first = parse(text + b"\n", Dialect(b",", 2), [0, 1], last=False)
    assert (len(first.table), first.rest) == (1, 4)
    second = parse(text[first.rest :] + b'\nd"\n', Dialect(b",", 2), [0, 1])
    assert second.table.to_pylist() == [{"0": b"2", "1": b"b\nc\nd"}]
