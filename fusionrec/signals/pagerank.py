"""Personalised PageRank over similar artists, an artist at a time.

The graph has a node for every artist that is listed anywhere, with songs in the corpus or not.
An edge's weight is 1 / log2(rank + 2), rank from 0, in both directions; where two artists list
each other the weights add up. From each artist a walk goes on with probability alpha and begins
anew with 1 - alpha:

    p = (1 - alpha) e + alpha P^T p,    P = the weights with rows that sum to 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, diags_array, vstack

from fusionrec.signals.songs import Songs, codes

ALPHA = 0.5
_BATCH = 256
"""Artists whose profiles are computed at once."""


def graph(songs: Songs) -> csr_array:
    """Symmetric weights between artists, shape (nodes, nodes); the first nodes are the songs'."""
    import pyarrow as pa
    import pyarrow.compute as pc

    first = songs.first_of_artist("similar_artists")
    listed = np.flatnonzero(first >= 0)
    lists = songs.table["similar_artists"].combine_chunks().take(pa.array(first[listed]))
    sizes = pc.list_value_length(lists).to_numpy().astype(np.int64)
    ranks = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    ids = songs.table["artist_id"].combine_chunks()
    # The songs' own artists first, in the order of their codes.
    node = codes(pa.chunked_array([ids, pc.list_flatten(lists)]))
    targets, sources = node[len(songs) :], np.repeat(listed, sizes)
    kept = (targets >= 0) & (targets != sources)
    nodes = int(node.max(initial=-1)) + 1
    weights = 1 / np.log2(ranks + 2.0)
    edges = coo_array(
        (weights[kept], (sources[kept], targets[kept])), shape=(max(nodes, 1), max(nodes, 1))
    )
    directed = csr_array(edges)
    return csr_array(directed + directed.T)


def profiles(
    weights: csr_array,
    sources: NDArray[np.integer],
    *,
    alpha: float = ALPHA,
    tolerance: float = 1e-4,
    steps: int = 30,
) -> csr_array:
    """Personalised PageRank of some nodes, shape (sources, nodes), float64.

    By power iteration; after each step what is below `tolerance` times the profile's own node
    is dropped, so that a profile holds some hundred nodes however large the graph is.

    A node without edges has the profile of itself alone.
    """
    degrees = np.asarray(weights.sum(axis=1)).ravel()
    scale = np.divide(1.0, degrees, out=np.zeros_like(degrees), where=degrees > 0)
    transition = csr_array(diags_array(scale) @ weights)
    found = []
    for start in range(0, len(sources), _BATCH):
        some = sources[start : start + _BATCH]
        shape = (len(some), weights.shape[0])
        restart = csr_array(
            (np.full(len(some), 1 - alpha), (np.arange(len(some)), some)), shape=shape
        )
        p = restart
        for _ in range(steps):
            following = csr_array(restart + alpha * (p @ transition))
            following.data[following.data < tolerance * (1 - alpha)] = 0.0
            following.eliminate_zeros()
            change = abs(following - p).max()
            p = following
            if change < tolerance * (1 - alpha):
                break
        found.append(p)
    return csr_array(vstack(found)) if found else csr_array((0, weights.shape[0]))
