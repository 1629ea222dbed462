"""Rows of figures as text: CSV, Markdown, and numbers that may be missing."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence


def as_csv(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Rows as CSV, with a column for every name that any row has; nothing for None."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue().encode()


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table, all but the `left` first columns aligned to the right."""
    rule = ["---"] * left + ["--:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def number(value: float | None, form: str) -> str:
    """A number in a format; a dash for None and NaN."""
    return "–" if value is None or math.isnan(value) else format(value, form)
