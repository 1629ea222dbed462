"""What is odd about tables that were looked at: sentences for who named them."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.cli.looks import Look

_DAMAGED = "\N{REPLACEMENT CHARACTER}"


def unaligned(looks: Mapping[str, Look]) -> list[str]:
    """What is odd between tables; only where the first songs are all of them."""
    songs = looks["songs"]
    if not songs.columns or songs.rows is None or songs.rows > len(songs.first("song_id")):
        return []
    known = set(songs.first("song_id"))
    return [
        f"None of the first rows of {key} is of a song of songs: is {look.columns['song_id'].name} "
        "the same id there?"
        for key, look in looks.items()
        if key != "songs" and look.columns and not known & set(look.first("song_id"))
    ]


def damaged(looks: Mapping[str, Look]) -> list[str]:
    """Which tables are in another encoding: most of their letters beyond ASCII are damaged."""
    remarks = []
    for key, look in looks.items():
        texts = [text for of in look.values.values() for text in of if not text.isascii()]
        broken = [text for text in texts if _DAMAGED in text]
        if 2 * len(broken) > len(texts):
            remarks.append(
                f"The text of {key} is not in UTF-8, as {broken[0][:40]!r} shows: convert the "
                "file first, for instance by iconv -f WINDOWS-1252 -t UTF-8."
            )
    return remarks
