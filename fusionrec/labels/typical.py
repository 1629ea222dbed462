"""What a class is called: the tags that are typical of its songs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log


def typical_tags(
    lists: Sequence[Sequence[str]],
    classes: Sequence[int],
    songs: Sequence[int],
    k: int,
    top: int = 3,
) -> list[list[str]]:
    """The most typical tags of each class.

    A tag t is as typical of a class c as it adds to what the class says of tags (a term of their
    mutual information): n(c, t) log(n(c, t) n / (n(c) n(t))), n being numbers of songs. So a tag
    comes first that many of the class have and few of the others. One that is not more frequent
    in the class than elsewhere is not typical of it. Ties go by the tag's name.

    Parameters
    ----------
    lists
        Distinct lists of tags, L of them.
    classes
        The class of each list, from 0 to k - 1.
    songs
        How many songs have each list.
    k
        Classes.
    top
        Tags of a class, at most.

    Returns
    -------
    list[list[str]]
        By class, most typical first; empty for a class without songs.
    """
    of_class: Counter[int] = Counter()
    of_tag: Counter[str] = Counter()
    of_both: list[Counter[str]] = [Counter() for _ in range(k)]
    for tags, each, n in zip(lists, classes, songs, strict=True):
        of_class[each] += n
        for tag in set(tags):
            of_tag[tag] += n
            of_both[each][tag] += n
    whole = sum(of_class.values())
    found = []
    for each, tags_of in enumerate(of_both):
        says = {
            tag: n * log(n * whole / (of_class[each] * of_tag[tag]))
            for tag, n in tags_of.items()
            if n * whole > of_class[each] * of_tag[tag]
        }
        found.append(sorted(says, key=lambda tag, says=says: (-says[tag], tag))[:top])  # type: ignore[misc]
    return found
