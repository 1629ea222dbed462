"""A search index over the songs' vectors, by faiss: exact, or a graph (HNSW).

Its rows are those of the exported songs, and what it searches by is the inner product, which is
what lists are ranked by. A graph of inner products alone may never lead to a song whose vector is
short. So each vector has one more coordinate, which makes it as long as a longer one's (Bachrach et
al. 2014); a user's is 0 there, by a transform that is part of the index, so that scores stay what
they are. Where a few vectors are much longer than all others, that crowds the others together. So
the length is the one, of three, that finds most for some of the users among some of the songs.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusionrec.errors import ConfigError
from pipelines.export.folder import refused

log = logging.getLogger("fusionrec")

Floats = NDArray[np.float32]
Kind = Literal["faiss", "hnsw", "none"]

FILES = {"faiss": "songs.faiss", "hnsw": "songs.hnsw.faiss"}

LINKS, BUILD, SEARCH = 32, 200, 256
"""Of HNSW: neighbours of a song, and songs looked at when one is added, and in a search."""

SAMPLED = 256
"""Users for whom the index is compared with an exact search."""

TRIED = 10_000
"""Songs of the graphs by which the length is chosen."""

SHARES = (0.0, 0.9, 1.0)
"""Of the songs that are not longer than that length; 0: all stay as they are."""

LOW = 0.9
"""A recall below which an index is warned of."""

DEPTH = 100
"""Songs of a list that is compared."""

_NEAR = 1e-5


def faiss_module() -> Any:
    """faiss.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise ConfigError(
            "--index: needs the package faiss-cpu: pip install 'fusionrec[export]', or leave the "
            "index out (--index none)"
        ) from None
    return faiss


def write_index(kind: Literal["faiss", "hnsw"], F: Floats, V: Floats, file: Path) -> dict[str, Any]:
    """Write an index over songs.

    Parameters
    ----------
    F
        Of the songs, float32 (N, d).
    V
        Users' vectors by which an index that is not exact is tried, float32 (m, d).

    Returns
    -------
    dict
        What a manifest says of it.
    """
    faiss = faiss_module()
    exact = faiss.IndexFlatIP(F.shape[1])
    exact.add(F)
    if kind == "faiss":
        _write(faiss, exact, file)
        return {"kind": "IndexFlatIP", "exact": True}
    share = 0.0
    if len(V):
        some = F[:: -(-len(F) // TRIED)]
        reference = faiss.IndexFlatIP(F.shape[1])
        reference.add(some)
        depth = min(DEPTH, len(some))
        share = max(SHARES, key=lambda s: recall(_graph(faiss, some, s), reference, V, depth) or 0)
    graph = _graph(faiss, F, share)
    _write(faiss, graph, file)
    depth = min(DEPTH, len(F))
    found = recall(graph, exact, V, depth)
    if found is not None and found < LOW:
        log.warning(
            "export: %s finds %.0f %% of the best %d songs: --index faiss finds all",
            *(file.name, found * 100, depth),
        )
    return {
        "kind": "IndexHNSWFlat",
        "exact": False,
        "links": LINKS,
        "ef_construction": BUILD,
        "ef_search": SEARCH,
        "lengthened_share": share,
        "recall": found,
        "recall_users": len(V),
        "recall_depth": depth,
    }


def _graph(faiss: Any, F: Floats, share: float) -> Any:
    """A graph of songs, shape (N, d), of which this share is made as long as the longest of it."""
    d = F.shape[1]
    squares = np.einsum("nd,nd->n", F, F, dtype=np.float64)
    length = np.quantile(squares, share) if share else 0.0
    more = np.sqrt(np.maximum(length - squares, 0.0)).astype(np.float32)
    graph = faiss.IndexHNSWFlat(d + 1, LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = BUILD, SEARCH
    graph.add(np.column_stack([F, more]))
    # Not uniform: the coordinates that there are stay, and 0 comes behind them.
    return faiss.IndexPreTransform(faiss.RemapDimensionsTransform(d, d + 1, False), graph)


def _write(faiss: Any, index: Any, file: Path) -> None:
    with refused(file):
        try:
            faiss.write_index(index, str(file))
        except RuntimeError as error:  # faiss has no other for a full disk
            raise OSError(str(error).strip().splitlines()[-1]) from None


def recall(graph: Any, exact: Any, V: Floats, depth: int) -> float | None:
    """The share of the best `depth` songs that the graph finds; None without any user.

    A song that it finds counts if its score is at least the last of the best, but for rounding:
    of songs with the same score any may be on a list.
    """
    if not len(V):
        return None
    best, _ = exact.search(V, depth)
    found, rows = graph.search(V, depth)
    least = best[:, -1:] - _NEAR * np.abs(best).max(axis=1, keepdims=True)
    return float(((rows >= 0) & (found >= least)).mean())
