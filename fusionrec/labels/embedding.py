"""Tag lists as vectors: multi-hot and Word2Vec (paper sections 3.1.1 and 3.1.2).

A tag list is a set: its order and repetitions mean nothing, so lists are sorted tuples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fusionrec.hashing import word_hash

_MOST_REPEATS = 50


def distinct_lists(
    tag_lists: Iterable[Iterable[str]],
) -> tuple[list[tuple[str, ...]], np.ndarray, np.ndarray]:
    """The distinct tag lists, in order of first appearance.

    Returns
    -------
    tuple
        The lists, each as a sorted tuple without repetitions; the position in it of each
        input, int64 (songs,); and how many inputs are equal to each, int64 (lists,).
    """
    position: dict[tuple[str, ...], int] = {}
    codes = [position.setdefault(tuple(sorted(set(tags))), len(position)) for tags in tag_lists]
    return (
        list(position),
        np.array(codes, np.int64),
        np.bincount(codes, minlength=len(position)).astype(np.int64),
    )


def known_tags(lists: Sequence[Sequence[str]], tags: Iterable[str]) -> np.ndarray:
    """How many tags of each list an embedding with these `tags` knows, int64 (lists,).

    An embedding ignores the rest; a list with 0 has the zero vector, which means nothing.
    """
    known = frozenset(tags)
    return np.array([len(known.intersection(tags)) for tags in lists], np.int64)


@dataclass(frozen=True)
class MultiHot:
    """f(tau)_j = 1 if T_j is in tau, else 0 (paper 3.1.1).

    Attributes
    ----------
    tags
        The ordered tag set T.
    """

    tags: tuple[str, ...]

    @staticmethod
    def fit(lists: Sequence[Sequence[str]]) -> MultiHot:
        """T is the sorted set of all tags of `lists`."""
        return MultiHot(tuple(sorted({tag for tags in lists for tag in tags})))

    def transform(self, lists: Sequence[Sequence[str]]) -> np.ndarray:
        """Float32, shape (lists, \\|T\\|); a tag outside T is ignored."""
        column = {tag: j for j, tag in enumerate(self.tags)}
        vectors = np.zeros((len(lists), len(self.tags)), np.float32)
        for i, tags in enumerate(lists):
            vectors[i, [column[tag] for tag in tags if tag in column]] = 1.0
        return vectors


@dataclass(frozen=True)
class TagWord2Vec:
    """f(tau) = mean of Word2Vec(tau_j) over the list's tags (paper 3.1.2), skip-gram.

    Attributes
    ----------
    tags
        The tags that have a vector.
    vectors
        Float32, shape (tags, m).
    """

    tags: tuple[str, ...]
    vectors: np.ndarray

    @staticmethod
    def fit(
        lists: Sequence[Sequence[str]],
        *,
        dimension: int = 100,
        epochs: int = 20,
        seed: int = 0,
        counts: np.ndarray | None = None,
    ) -> TagWord2Vec:
        """Learn tag vectors, each list a sentence whose tags are all each other's context.

        Parameters
        ----------
        lists
            Distinct tag lists.
        dimension, epochs, seed
            m, passes, and the seed; one thread, so that a seed gives one result.
        counts
            Songs that carry each list. A list is repeated ceil(sqrt(count)) times, at most
            50: lists that many songs share count for more, without drowning the others.
        """
        from gensim.models import Word2Vec  # two seconds: for the few workers that need it

        repeats = np.ones(len(lists), np.int64)
        if counts is not None:
            repeats = np.minimum(np.ceil(np.sqrt(counts)), _MOST_REPEATS).astype(np.int64)
        sentences = [list(tags) for tags, n in zip(lists, repeats, strict=True) for _ in range(n)]
        model = Word2Vec(
            sentences,
            vector_size=dimension,
            window=max(2, max((len(tags) for tags in lists), default=2)),
            shrink_windows=False,
            min_count=1,
            sg=1,
            sample=0,  # a vocabulary of tags is small: down-sampling would drop most of them
            epochs=epochs,
            workers=1,
            seed=seed,
            hashfxn=word_hash,
        )
        return TagWord2Vec(tuple(model.wv.index_to_key), model.wv.vectors.astype(np.float32))

    def transform(self, lists: Sequence[Sequence[str]]) -> np.ndarray:
        """Float32, shape (lists, m); unknown tags are ignored, zeros where all are."""
        row = {tag: j for j, tag in enumerate(self.tags)}
        means = np.zeros((len(lists), self.vectors.shape[1]), np.float32)
        for i, tags in enumerate(lists):
            known = [row[tag] for tag in tags if tag in row]
            if known:
                means[i] = self.vectors[known].mean(axis=0)
        return means
