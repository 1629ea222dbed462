"""Content distilled from item-kNN: how a cold song will lie among songs listened to together.

Of the songs played, each has its nearest by listeners (Sarwar et al. 2001; Deshpande & Karypis
2004). A song's similarity to all of them is regressed on its content, so that a song that nobody
has played, of an artist whom nobody has played, gets a place among them:

    score(u, s) = sum_t w_ut (G Phi_T A^-1)_t Phi(s),

with w the user's row-normalised log-plays, G the graph of nearest songs and the ridge that of
:mod:`fusionrec.signals.taste`. It is least squares in the place of a listwise loss: one
solution of d^3 that depends on no random number. (A bilinear map by listwise softmax over the same
graph, on the real corpus, ranked unseen artists better alone without context and worse with it,
and added no more to the blend.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fusionrec.signals import basis, taste
from fusionrec.signals.histories import Histories
from fusionrec.signals.signal import Factors, Fold
from fusionrec.signals.unseen.fitted import features
from fusionrec.signals.unseen.maps import SongMaps

NEAREST = 50
"""Songs that a song is linked with, at most; fewer ranked worse where more songs have plays."""

_CHUNK = 1024


def by_content(fold: Fold, with_context: bool) -> Factors:
    """Histories times the similarity that content predicts; see the module."""
    Phi = basis.mixed(fold, with_context)

    def unseen() -> SongMaps:  # nobody's graph has a song without plays
        return SongMaps(features(basis.basis_of_sum(fold, with_context)))

    parts = taste.solved(Phi, fold.learned, fold.settings.colistened_penalty)
    return Factors.of_histories(fold.histories, "log", graph(fold) @ parts, Phi, unseen)


def graph(fold: Fold) -> csr_array:
    """Each played song's nearest by listeners, float32 (n, n).

    Among the most-played songs, but for those that the split keeps with the song: a cold song has
    no such neighbour to be ranked by.
    """
    return fold.once(
        "nearest by listeners",
        lambda: nearest_by_listeners(
            fold.histories,
            basis.groups_of(fold),
            NEAREST,
            taste.NEIGHBOURS,
            fold.settings.shrinkage,
        ),
    )


def nearest_by_listeners(
    histories: Histories, groups: NDArray[np.int64], nearest: int, among: int, shrinkage: float
) -> csr_array:
    """The item-kNN graph, float32 (n, n): at most `nearest` a row, of the cosines' values.

    A listener counts 1 / sqrt(songs played), and the cosine of songs with few listeners is drawn
    to 0: c_ts / (sqrt(c_tt c_ss) + shrinkage).

    Parameters
    ----------
    groups
        Codes, shape (n,): songs of the same one are no neighbours; -1 for a group of its own.
    among
        Only so many songs, those with most listeners, are anybody's neighbours.
    """
    learned = np.flatnonzero(histories.listeners > 0)
    order = np.argsort(-histories.listeners[learned], kind="stable")
    known = np.sort(learned[order[:among]])
    scale = 1 / np.sqrt(np.maximum(histories.sizes, 1))
    weighted = csr_array(histories.weights("binary").multiply(scale[:, None]))
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=0)).ravel())
    of_known, by_song = csr_array(weighted[:, known]), csr_array(weighted.T)
    rows, columns, values = [learned[:0]], [learned[:0]], [np.zeros(0)]
    for start in range(0, len(learned), _CHUNK):
        some = learned[start : start + _CHUNK]
        together = (by_song[some] @ of_known).toarray()
        together /= lengths[some][:, None] * lengths[known] + shrinkage
        same = (groups[some][:, None] == groups[known]) & (groups[some] >= 0)[:, None]
        together[same | (some[:, None] == known)] = 0.0
        best = np.argsort(-together, axis=1, kind="stable")[:, :nearest]
        found = np.take_along_axis(together, best, axis=1)
        row, place = np.nonzero(found)
        rows.append(some[row])
        columns.append(known[best[row, place]])
        values.append(found[row, place])
    parts = np.concatenate(rows), np.concatenate(columns)
    n = histories.counts.shape[1]
    return csr_array((np.concatenate(values).astype(np.float32), parts), shape=(n, n))
