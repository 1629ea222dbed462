"""Lists for every user, of whatever songs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from pipelines.config.section import Section
from pipelines.config.section import key as _key

PARTS = ("train", "validation", "test")
NAMED = ("all", "new", *PARTS)
"""What `lists.candidates` may be, if it is no file."""


def _in_order(years: tuple[int, int] | None) -> tuple[int, int] | None:
    if years is not None and years[0] > years[1]:
        raise ValueError(f"must be [from, to]: {years[0]} is after {years[1]}")
    return years


def _some_text(tags: tuple[str, ...] | None) -> tuple[str, ...] | None:
    found = None if tags is None else tuple(tag.strip() for tag in tags)
    if found is not None and not all(found):
        raise ValueError("has an empty tag: leave it out")
    return found


class ListsConfig(Section):
    """Lists of a running service: all users, by all that they played; nothing is hidden."""

    run: bool = _key(False, "`fusionrec run` makes these lists, too, after the evaluation")
    candidates: str = _key(
        "all",
        "songs to choose from: all, new (those that nobody played), those of the part train, "
        "validation or test, or a text file (path or URI) of song ids, one a line",
        min_length=1,
    )
    repeat: bool = _key(False, "songs that a user played may be on the list")
    top: int = _key(500, "length of each user's list", ge=1, le=10_000)
    per_artist: int | None = _key(
        None, "songs of one artist on a list, at most; null for any number", ge=1
    )
    years: Annotated[tuple[int, int] | None, AfterValidator(_in_order)] = _key(
        None, "[from, to]: only songs of these years; those whose year is not known are left out"
    )
    tags: Annotated[tuple[str, ...] | None, AfterValidator(_some_text)] = _key(
        None,
        "only songs with one of these tags or terms, whatever their case; null for all",
        min_length=1,
    )
    least: int = _key(1, "with fewer candidates the stage stops, and makes no lists", ge=1)
    formats: tuple[Literal["parquet", "jsonl", "csv"], ...] = _key(
        ("parquet",),
        "of the files; what is not Parquet lies beside it, a line a song",
        min_length=1,
    )
    users_per_shard: int = _key(5_000, "users one task ranks", ge=1)
