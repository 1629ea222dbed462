"""All signals, in one place and order."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from fusionrec.signals import catalogue, colistened, content, context, popularity, taste
from fusionrec.signals.neighbours import neighbours
from fusionrec.signals.signal import Kind, SignalSpec

_NEIGHBOURS = "neighbours-"

_SIDES: tuple[tuple[bool, Kind, str], ...] = (
    (False, "content", ""),
    (True, "context", "-context"),
)

_SPECS = (
    *(
        SignalSpec(
            f"{_NEIGHBOURS}{name}",
            "content",
            content.MODALITIES.get(name, name),
            False,
            partial(neighbours, name=name),
        )
        for name in content.KERNELS
    ),
    *(
        SignalSpec(
            f"{_NEIGHBOURS}{name}", "context", "artist", True, partial(neighbours, name=name)
        )
        for name in context.KERNELS
    ),
    *(
        SignalSpec(name, kind, "all", with_context, partial(fit, with_context=with_context))
        for with_context, kind, suffix in _SIDES
        for name, fit in (
            (f"taste{suffix}", taste.to_histories),
            (f"taste-smoothed{suffix}", taste.to_smoothed),
            (f"colistened{suffix}", colistened.by_content),
        )
    ),
    SignalSpec("factors-terms", "content", "terms", False, taste.means_by_terms),
    SignalSpec("artist-factors", "content", "metadata", False, catalogue.by_attention),
    SignalSpec("artist-songs", "content", "metadata", False, catalogue.by_songs),
    *(
        SignalSpec(
            f"popularity{suffix}{what}",
            "popularity",
            "all",
            with_context,
            partial(fit, with_context=with_context),
        )
        for with_context, suffix in ((False, ""), (True, "-context"))
        for what, fit in (
            ("", popularity.alone),
            ("-activity", popularity.by_activity),
            ("-history", popularity.by_history),
        )
    ),
)

SIGNALS: dict[str, SignalSpec] = {spec.name: spec for spec in _SPECS}
"""Signals by name, of whatever songs. Further vectors of songs bring one more each."""


def spec(name: str) -> SignalSpec:
    """The signal of a name: one of :data:`SIGNALS`, else the neighbours by further vectors.

    Raises
    ------
    KeyError
        It is neither of these.
    """
    found = SIGNALS.get(name)
    if found is not None:
        return found
    vectors = name.removeprefix(_NEIGHBOURS)
    if vectors == name:
        raise KeyError(name)
    return SignalSpec(name, "content", vectors, False, partial(neighbours, name=vectors))


def names(with_context: bool = True, further: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of all signals, or of those that read no context.

    Parameters
    ----------
    further
        Names of further vectors, :attr:`fusionrec.signals.songs.Songs.further`.
    """
    known = (name for name, of in SIGNALS.items() if with_context or not of.context)
    return (*known, *(f"{_NEIGHBOURS}{name}" for name in further))
