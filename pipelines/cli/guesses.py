"""Which column of a table is which, as far as names and first values tell: pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fusionrec.formats.tables.names import USED, plain_name
from fusionrec.formats.tables.spec import COLUMNS, REQUIRED, Kind

Values = Mapping[str, Sequence[str]]
"""The first values of each column, as text; empty where there is none."""

_SONG_IDS = ("isrc", "song", "track", "item")
_MORE: Mapping[Kind, Mapping[str, Sequence[str]]] = {
    "songs": {
        "song_id": _SONG_IDS,
        "title": ("caption",),
        "release": ("record",),
        "artist_id": ("performerid", "bandid"),
        "artist_name": ("performers", "singer", "author", "interpreter", "creator"),
        "year": ("released", "publicationyear", "date"),
        "duration": ("lengths", "lengthsec", "seconds", "playtime", "runtime"),
        "tags": ("style", "keywords", "categories", "category", "moods"),
        "popularity": ("popular", "hotness", "hotttnesss"),
    },
    "plays": {
        "user_id": (
            *("customerid", "customer", "accountid", "account", "memberid", "member"),
            "who",
        ),
        "song_id": ("isrc", "what", "id"),
        "plays": ("numplays", "timesplayed", "times", "frequency", "n"),
        "timestamp": ("at", "when", "createdat", "day"),
    },
    "lyrics": {"song_id": _SONG_IDS, "text": ("fulltext",)},
    "features": {"song_id": _SONG_IDS},
}
"""Names that readers do not take unasked, as they may well mean something else."""


def _names(kind: Kind, wanted: str) -> tuple[str, ...]:
    used, more = (of.get(kind, {}).get(wanted, ()) for of in (USED, _MORE))
    return tuple(sorted(dict.fromkeys((*used, *more)), key=lambda name: name == "id"))


NAMES: Mapping[Kind, Mapping[str, Sequence[str]]] = {
    kind: {wanted: _names(kind, wanted) for wanted in wanteds} for kind, wanteds in COLUMNS.items()
}
"""Names that are used for the columns, the likeliest first, as `plain_name` makes them: those that
the readers find unasked, and others; a bare `id` may be of anything, and is the last."""

LISTS = ("tags", "mbtags", "terms", "similar_artists")
"""Columns of songs that hold lists."""

SEPARATORS = ("|", ";", ",", "/")

_TIME = re.compile(r"\d{4}-\d\d?-\d\d?([T ].*)?")
_YEAR = re.compile(r"(1\d|20)\d\d(\D.*)?")
_PAIR = re.compile(r"\S+:\d+")
_MOST = 0.8  # share of the values that have to fit


@dataclass(frozen=True)
class Column:
    """A column of a file, and why it is taken for what it is taken for."""

    name: str
    why: str


def guess(kind: Kind, values: Values, songs: frozenset[str] = frozenset()) -> dict[str, Column]:
    """The file's column of each of `COLUMNS` that one can be found for.

    A column that its name speaks for has to look the part, too. Ids that no name speaks for are
    found by their values.

    Parameters
    ----------
    values
        Of all columns, in the file's order.
    songs
        Ids of songs that are known by now.
    """
    found: dict[str, Column] = {}

    def free(wanted: str) -> list[str]:
        taken = {column.name for column in found.values()}
        return [name for name in values if name not in taken and _fits(wanted, values[name])]

    def by_own_name(wanted: str) -> None:
        for name in free(wanted):
            if wanted not in found and plain_name(name) == plain_name(wanted):
                found[wanted] = Column(name, "by its name")

    def by_used_name(wanted: str) -> None:
        used = NAMES[kind].get(wanted, ())
        fitting = [name for name in free(wanted) if plain_name(name) in used]
        if wanted not in found and fitting:
            best = min(fitting, key=lambda name: used.index(plain_name(name)))
            others = ", ".join(name for name in fitting if name != best)
            why = f"by its name, before {others}" if others else "by its name"
            found[wanted] = Column(best, why)

    for wanted in REQUIRED[kind]:
        by_own_name(wanted)
    own = {plain_name(name) for name in COLUMNS[kind]}
    for wanted in REQUIRED[kind]:
        others = {plain_name(name) for name in free(wanted)} - own
        if not others & set(NAMES[kind][wanted]):
            by_used_name(wanted)  # a table whose only id is a track's tells songs by it
    for wanted in COLUMNS[kind]:
        by_own_name(wanted)
    for wanted in COLUMNS[kind]:
        by_used_name(wanted)
    if kind == "lyrics" and not {"text", "words"} & set(found):
        for name in free("text"):
            bags = _share(values[name], lambda text: bool(_PAIR.fullmatch(text.split()[0]))) > _MOST
            if bags or _share(values[name], lambda text: len(text.split()) > 3) > _MOST:
                what = "words" if bags else "text"
                found[what] = Column(name, "it holds words" + (" with counts" if bags else ""))
                break
    for wanted in REQUIRED[kind]:
        if wanted not in found and wanted != "vector":
            by_values = _by_values(wanted, {name: values[name] for name in free(wanted)}, songs)
            if by_values is not None:
                found[wanted] = by_values
    if kind == "songs" and "artist_name" in found and "artist_id" not in found:
        name = found["artist_name"].name
        found["artist_id"] = Column(name, "no ids of artists: they are told apart by their names")
    return {wanted: found[wanted] for wanted in COLUMNS[kind] if wanted in found}


def separator_of(values: Sequence[str]) -> str:
    """What stands between the items of lists that are written as text."""
    texts = [text for text in values if text]
    shares = {mark: sum(mark in text for text in texts) for mark in SEPARATORS}
    best = max(SEPARATORS, key=lambda mark: shares[mark])
    return best if shares[best] * 10 >= len(texts) > 0 else SEPARATORS[0]


def _by_values(wanted: str, values: Values, songs: frozenset[str]) -> Column | None:
    """A column of ids whose name says nothing."""
    if wanted == "song_id" and songs:
        shares = {name: _share(column, songs.__contains__) for name, column in values.items()}
        best = max(shares, key=lambda name: shares[name], default=None)
        if best is not None and shares[best] > 0.0:
            return Column(best, f"{shares[best]:.0%} of its first values are ids of songs")
        return None
    if wanted == "song_id":
        for name, column in values.items():
            known = [text for text in column if text]
            if len(known) == len(column) > 1 and len(set(known)) >= 0.98 * len(known):
                return Column(name, "its values are all different")
        return None
    names = [
        name
        for name, column in values.items()
        if len(set(column)) < len(column)
        and not _fits("timestamp", column)
        and _share(column, songs.__contains__) == 0.0
    ]
    # One that is left: of several, any might be it.
    return Column(names[0], "the only one with values that come again") if len(names) == 1 else None


def _fits(wanted: str, column: Sequence[str]) -> bool:
    """Whether most of the first values could be this; nothing speaks against an empty column."""
    if not any(column):
        return True
    tests: Mapping[str, Callable[[str], bool]] = {
        "year": lambda text: bool(_YEAR.fullmatch(text)),
        "plays": _is_number,
        "rating": _is_number,
        "timestamp": lambda text: _is_number(text) or bool(_TIME.fullmatch(text)),
        "duration": _is_number,
        "tempo": _is_number,
        "popularity": _is_number,
    }
    return wanted not in tests or _share(column, tests[wanted]) >= _MOST


def _share(column: Sequence[str], test: Callable[[str], bool]) -> float:
    known = [text for text in column if text.strip()]
    return sum(map(test, known)) / len(known) if known else 0.0


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
