"""Why a song was recommended: the parts of its score, and the songs of the history behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.signals.blend import Blend
from fusionrec.signals.histories import weights

SONGS = 3


@dataclass(frozen=True)
class Explanation:
    """Parts of one score, in the score's own unit: how far above a mean cold song's it is.

    Attributes
    ----------
    score
        V_u . F(s), in float64.
    signals, modalities, kinds
        Parts by signal (those with a weight), by modality, and by content, context and
        popularity. Each adds up to the score; a part may be below 0.
    songs
        Rows of the songs of the history that add most to the score, with what they add, the
        most first; fewer than three where fewer add anything.
    history
        What all songs of the history add: the score less the parts of signals whose user
        vectors are no sums over the history.
    """

    score: float
    signals: dict[str, float]
    modalities: dict[str, float]
    kinds: dict[str, float]
    songs: list[tuple[int, float]]
    history: float


def explain(
    blend: Blend,
    user: int,
    song: int,
    history: NDArray[np.integer[Any]],
    plays: NDArray[np.integer[Any]],
) -> Explanation:
    """Explain a blend's score.

    Parameters
    ----------
    user, song
        Rows of V and F.
    history, plays
        The songs, rows of F, that the user's vector was made of, and their plays.
    """
    V, F = blend.V[user].astype(np.float64), blend.F[song].astype(np.float64)
    signals = {name: float(V[place] @ F[place]) for name, place in blend.slices.items()}
    adds = np.zeros(len(history))
    for name, place in blend.slices.items():
        weighting = blend.weightings[name]
        if weighting is not None and len(history):
            shares = weights(weighting, np.asarray(plays, np.float32), np.array([0, len(history)]))
            adds += shares * (blend.parts[history, place].astype(np.float64) @ F[place])
    order = np.argsort(-adds, kind="stable")[:SONGS]
    return Explanation(
        score=float(sum(signals.values())),
        signals=signals,
        modalities=_totals(signals, blend.modalities),
        kinds=_totals(signals, blend.kinds),
        songs=[(int(history[i]), float(adds[i])) for i in order if adds[i] > 0],
        history=float(adds.sum()),
    )


def _totals(parts: Mapping[str, float], groups: Mapping[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, part in parts.items():
        found[groups[name]] = found.get(groups[name], 0.0) + part
    return found
