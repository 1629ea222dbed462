"""How well classes are predicted, how well they separate songs, and what artists give away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import normalized_mutual_info_score, silhouette_score

SILHOUETTE_SONGS = 5_000
"""The silhouette takes all pairs of songs: of more than these, so many are sampled."""

Classes = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Lookup:
    """A prediction by artist alone (:func:`artist_lookup_accuracy`).

    Attributes
    ----------
    accuracy
        Share of the test songs it gives the right class; NaN where there is none.
    share_known
        Share of the test songs whose artist has a training song.
    """

    accuracy: float
    share_known: float


@dataclass(frozen=True)
class ClassQuality:
    """Measures of a class predictor and of the classes it predicts.

    Attributes
    ----------
    accuracy, macro_f1
        Of the predictions on test songs.
    majority_level
        Accuracy of always predicting the most frequent training class.
    artist_lookup
        What the artists of the training songs give away.
    silhouette
        Of the classes in the label embedding, from -1 to 1.
    mutual_information
        Of the classes and another labelling, normalised; NaN where none was given.
    """

    accuracy: float
    macro_f1: float
    majority_level: float
    artist_lookup: Lookup
    silhouette: float
    mutual_information: float


def class_quality(
    predicted: Classes,
    train_classes: Classes,
    test_classes: Classes,
    *,
    train_artists: ArrayLike,
    test_artists: ArrayLike,
    vectors: NDArray[np.floating[Any]],
    vector_classes: Classes,
    other_classes: ArrayLike | None = None,
    seed: int,
) -> ClassQuality:
    """All measures at once.

    Parameters
    ----------
    predicted
        Shape (test songs,), as `test_classes` and `test_artists`.
    train_classes
        Shape (training songs,), as `train_artists`.
    vectors, vector_classes
        Label embeddings, shape (songs, d), and their songs' classes, shape (songs,), for
        :func:`silhouette`.
    other_classes
        Another labelling of the same songs, for :func:`mutual_information`.
    seed
        Of the songs that the silhouette samples.
    """
    return ClassQuality(
        accuracy=accuracy(predicted, test_classes),
        macro_f1=macro_f1(predicted, test_classes),
        majority_level=majority_level(train_classes, test_classes),
        artist_lookup=artist_lookup_accuracy(
            train_artists, train_classes, test_artists, test_classes
        ),
        silhouette=silhouette(vectors, vector_classes, seed=seed),
        mutual_information=float("nan")
        if other_classes is None
        else mutual_information(vector_classes, other_classes),
    )


def accuracy(predicted: Classes, classes: Classes) -> float:
    """Share of the songs whose class is the predicted one; NaN where there is no song.

    Raises
    ------
    ValueError
        Shapes do not fit.
    """
    if predicted.shape != classes.shape:
        raise ValueError(f"{predicted.shape} predictions do not fit {classes.shape} songs")
    return float((predicted == classes).mean()) if len(classes) else float("nan")


def macro_f1(predicted: Classes, classes: Classes) -> float:
    """Mean over classes of F1 = 2 hits / (songs predicted + songs of the class).

    Over the classes that are predicted or occur; NaN where there is no song.

    Raises
    ------
    ValueError
        Shapes do not fit.
    """
    if predicted.shape != classes.shape:
        raise ValueError(f"{predicted.shape} predictions do not fit {classes.shape} songs")
    names, numbers = np.unique(np.concatenate([predicted, classes]), return_inverse=True)
    if len(names) == 0:
        return float("nan")
    guessed, own = numbers[: len(predicted)], numbers[len(predicted) :]
    hits = np.bincount(own[guessed == own], minlength=len(names))
    return float((2 * hits / np.bincount(numbers, minlength=len(names))).mean())


def majority_level(train_classes: Classes, test_classes: Classes) -> float:
    """Share of the test songs in the most frequent class of the training songs.

    The accuracy of a predictor that knows nothing. Of equally frequent classes the smallest
    counts; NaN where there is no test song.

    Raises
    ------
    ValueError
        There is no training song.
    """
    if len(train_classes) == 0:
        raise ValueError("the majority class needs a training song")
    names, counts = np.unique(train_classes, return_counts=True)
    return accuracy(np.full(len(test_classes), names[counts.argmax()]), test_classes)


def artist_lookup_accuracy(
    train_artists: ArrayLike,
    train_classes: Classes,
    test_artists: ArrayLike,
    test_classes: Classes,
) -> Lookup:
    """What looking up the artist reaches: each test song gets its artist's majority class.

    That of the artist's training songs; for an artist without any, that of all training songs.
    Of equally frequent classes the smallest counts. MusicBrainz tags belong to artists, so where
    an artist is on both sides of a split this, and not chance, is what a model that may have
    learnt names is read against. It knows no artist of an artist-disjoint split, and is then
    :func:`majority_level`.

    Parameters
    ----------
    train_artists, test_artists
        Shape (songs,): anything that names an artist, numbers or strings.
    train_classes, test_classes
        Shape (songs,).

    Raises
    ------
    ValueError
        Shapes do not fit, or there is no training song.
    """
    artists, held_out = np.asarray(train_artists), np.asarray(test_artists)
    if artists.shape != train_classes.shape or held_out.shape != test_classes.shape:
        raise ValueError(
            f"{artists.shape} and {held_out.shape} artists do not fit "
            f"{train_classes.shape} and {test_classes.shape} songs"
        )
    if len(artists) == 0:
        raise ValueError("the majority class needs a training song")
    if len(held_out) == 0:
        return Lookup(float("nan"), float("nan"))
    names, of_artist = np.unique(artists, return_inverse=True)
    classes, of_class = np.unique(train_classes, return_inverse=True)
    songs = np.bincount(of_artist * len(classes) + of_class, minlength=len(names) * len(classes))
    table = songs.reshape(len(names), len(classes))
    row = np.minimum(np.searchsorted(names, held_out), len(names) - 1)
    known = names[row] == held_out
    best = np.where(known, table.argmax(axis=1)[row], table.sum(axis=0).argmax())
    return Lookup(accuracy(classes[best], test_classes), float(known.mean()))


def silhouette(vectors: NDArray[np.floating[Any]], classes: Classes, *, seed: int) -> float:
    """Mean silhouette (Rousseeuw 1987) of Euclidean distances, from -1 to 1.

    Beyond :data:`SILHOUETTE_SONGS` songs, that of so many drawn without replacement.

    Parameters
    ----------
    vectors
        Shape (songs, d).
    classes
        Shape (songs,).
    seed
        Of the sample.

    Returns
    -------
    NaN where it is not defined: the songs (sampled) are of one class, or each of its own.
    """
    if len(vectors) > SILHOUETTE_SONGS:
        generator = np.random.default_rng(seed)
        drawn = generator.choice(len(vectors), SILHOUETTE_SONGS, replace=False)
        vectors, classes = vectors[drawn], classes[drawn]
    if not 2 <= len(np.unique(classes)) < len(classes):
        return float("nan")
    return float(silhouette_score(vectors, classes))


def mutual_information(classes: ArrayLike, others: ArrayLike) -> float:
    """Normalised mutual information of two labellings of the same songs, from 0 to 1.

    Mutual information over the arithmetic mean of the two entropies (scikit-learn's default).
    It is not adjusted for chance: many small classes agree somewhat with anything.
    """
    return float(normalized_mutual_info_score(others, classes))
