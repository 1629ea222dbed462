"""The planted truth of the sample corpus: artists, songs, sounds, lyrics and listeners.

Everything hangs on a genre mixture a song and a genre preference a listener. Each artist,
song and listener has its own generator, seeded by (seed, stream, index), so any can be
drawn alone and in any order, and no corpus is ever held in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.formats.sample import words
from fusionrec.formats.sample.words import GENRES

G = len(GENRES)

PREFERENCE_STRENGTH = 4.0
"""beta: how steeply a listener's chance of choosing a song rises with its share of a genre."""

LYRICS = 0.85
"""Share of the songs that have lyrics, unless another is asked for."""

LEAST_HISTORY = 10
"""Songs that every listener has played, where the corpus is large enough."""

HISTORY = 35.0
"""Songs that the median listener has played, unless others are asked for."""

HISTORY_SPREAD = 0.9
"""Sigma of the log-normal of how many songs a listener has played beyond the least."""

_MODEL, _SIZES, _ARTIST, _RELEASE, _SONG, _LYRICS, _AUDIO, _USER = range(8)

_LOCATIONS = ("", "", "Los Angeles, CA", "London, England", "Nashville, TN", "Berlin, Germany")

# By genre, in the order of GENRES: means of tempo [BPM], loudness [dB], duration [s], first year.
_TEMPO = np.array([124.0, 138.0, 118.0, 108.0, 128.0, 96.0, 116.0, 110.0])
_LOUDNESS = np.array([-8.0, -5.5, -7.0, -14.0, -8.5, -7.5, -9.5, -13.0])
_DURATION = np.array([235.0, 265.0, 215.0, 290.0, 310.0, 240.0, 200.0, 225.0])
_FIRST_YEAR = np.array([1975.0, 1986.0, 1988.0, 1962.0, 1994.0, 1993.0, 1976.0, 1978.0])


@dataclass(frozen=True)
class Artist:
    """An artist; tags and terms are the artist's, and so every song's of theirs."""

    index: int
    name: str
    mixture: NDArray[np.float32]  # shape (G,), sums to 1
    popularity: float
    first_year: int
    location: str
    mbtags: tuple[str, ...]
    mbtag_counts: NDArray[np.int32]  # shape (len(mbtags),)
    terms: tuple[str, ...]
    term_weights: NDArray[np.float64]  # shape (len(terms),), falling from 1
    term_freqs: NDArray[np.float64]  # shape (len(terms),), in 0..1


@dataclass(frozen=True)
class Song:
    """A song's own columns; `year` is 0 and `hotttnesss` NaN where the corpus lacks them."""

    mixture: NDArray[np.float32]  # shape (G,), sums to 1
    popularity: float
    title: str
    release: str
    year: int
    hotttnesss: float
    duration: float  # seconds
    tempo: float  # beats per minute
    loudness: float  # dB
    key: int
    mode: int
    time_signature: int
    has_lyrics: bool


class PlantedModel:
    """Draws every artist, song and listener of the corpus with one seed.

    Parameters
    ----------
    seed
        Not negative.
    lyrics
        Share of the songs that have lyrics.
    history
        Songs that the median listener has played, above :data:`LEAST_HISTORY`.
    """

    def __init__(self, seed: int, *, lyrics: float = LYRICS, history: float = HISTORY) -> None:
        self.seed = seed
        self._without_lyrics = 1.0 - lyrics
        self.history = history
        rng = self._rng(_MODEL, 0)
        self.words, home = words.vocabulary(rng)
        zipf = (np.arange(len(self.words)) + 3.7) ** -1.05
        favoured = home[None, :] == np.arange(G)[:, None]
        weights = zipf * np.where(favoured, 6.0, 1.0)
        self._word_shares = weights / weights.sum(axis=1, keepdims=True)
        # Coefficient 0 of timbre is loudness-like; the others are centred.
        self._timbre_means = rng.normal(0.0, 11.0, (G, 12)) + np.array([45.0] + [0.0] * 11)
        self._timbre_scales = 24.0 * np.exp(rng.normal(0.0, 0.04, (G, 12)))
        self._chroma = rng.dirichlet(np.full(12, 1.5), G)

    def _rng(self, stream: int, index: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, index])

    def artist_sizes(self, songs: int) -> NDArray[np.int64]:
        """Songs of each artist, long-tailed, summing to `songs`; shape (artists,)."""
        rng = self._rng(_SIZES, 0)
        cap = max(4, min(60, songs // 20))
        sizes = np.minimum(rng.pareto(1.2, songs) * 2.5 + 1.0, cap).astype(np.int64)
        last = int(np.searchsorted(np.cumsum(sizes), songs))
        sizes = sizes[: last + 1]
        sizes[-1] -= sizes.sum() - songs
        return sizes

    def artist(self, index: int) -> Artist:
        """Artist number `index`."""
        rng = self._rng(_ARTIST, index)
        # Genres take turns, so that small corpora are as balanced as large ones.
        mixture = _sparse_mixture(rng, index % G, 0.25, 9.0, 0.12).astype(np.float32)
        tagged = rng.random() >= 0.12
        mbtags = words.artist_tags(rng, mixture, 1 + int(rng.poisson(2.8))) if tagged else ()
        terms = words.artist_tags(rng, mixture, 5 + int(rng.poisson(6.0)))
        weights = np.sort(rng.uniform(0.4, 1.0, len(terms)))[::-1]
        freqs = np.clip(weights + rng.normal(0.0, 0.1, len(terms)), 0.05, 1.0).astype(np.float64)
        return Artist(
            index=index,
            name=words.artist_name(rng, mixture),
            mixture=mixture,
            popularity=min(float(rng.pareto(1.5)) + 1.0, 100.0),
            first_year=int(np.clip(mixture @ _FIRST_YEAR + rng.normal(0, 8), 1925, 2008)),
            location=words.pick(rng, _LOCATIONS, 0.5),
            mbtags=mbtags,
            mbtag_counts=np.sort(rng.geometric(0.6, len(mbtags)))[::-1].astype(np.int32),
            terms=terms,
            term_weights=np.round(weights / weights[0], 8),
            term_freqs=np.round(freqs, 8),
        )

    def artist_mixture(self, index: int) -> NDArray[np.float32]:
        """That of artist number `index`, without the rest of them; shape (G,)."""
        rng = self._rng(_ARTIST, index)
        return _sparse_mixture(rng, index % G, 0.25, 9.0, 0.12).astype(np.float32)

    def song(self, artist: Artist, index: int, position: int, *, accent: bool) -> Song:
        """Song number `index` of the corpus, the artist's `position`-th (from 0)."""
        rng = self._rng(_SONG, index)
        mixture = rng.dirichlet(14.0 * artist.mixture.astype(np.float64) + 0.05).astype(np.float32)
        popularity = artist.popularity * min(float(rng.pareto(2.0)) + 1.0, 30.0)
        album = position // 8
        release = words.title(self._rng(_RELEASE, artist.index * 1000 + album), artist.mixture)
        year = min(artist.first_year + 2 * album + int(rng.integers(0, 3)), 2010)
        hotness = float(np.clip(0.25 + 0.12 * np.log(popularity) + rng.normal(0, 0.05), 0, 1))
        return Song(
            mixture=mixture,
            popularity=popularity,
            title=words.title(rng, mixture, accent=accent),
            release=release,
            year=0 if rng.random() < 0.1 else year,
            hotttnesss=float("nan") if rng.random() < 0.08 else round(hotness, 8),
            duration=round(
                float(np.clip(mixture @ _DURATION * np.exp(rng.normal(0, 0.2)), 45, 900)), 5
            ),
            tempo=round(float(np.clip(mixture @ _TEMPO + rng.normal(0, 18), 50, 230)), 3),
            loudness=round(float(np.clip(mixture @ _LOUDNESS + rng.normal(0, 2.5), -40, -1)), 3),
            key=int(rng.integers(12)),
            mode=int(rng.random() < 0.68 - 0.3 * float(mixture[1])),
            time_signature=4 if rng.random() < 0.85 else int(rng.choice([1, 3, 5, 7])),
            has_lyrics=bool(rng.random() >= self._without_lyrics),
        )

    def lyrics(self, mixture: NDArray[np.float32], index: int) -> NDArray[np.int64]:
        """Counts of every vocabulary word in song `index`'s lyrics, shape (VOCABULARY_SIZE,)."""
        rng = self._rng(_LYRICS, index)
        # Each song is about something: its own words recur, whatever its genre.
        shares = (mixture @ self._word_shares) * np.exp(rng.normal(0.0, 0.6, len(self.words)))
        length = int(np.clip(rng.lognormal(np.log(140.0), 0.55), 12, 1500))
        counts: NDArray[np.int64] = rng.multinomial(length, shares / shares.sum())
        return counts

    def audio(self, song: Song, index: int) -> dict[str, NDArray[Any]]:
        """The analysis arrays of song `index` by their path in the HDF5 file.

        Shapes (n,) for times [s], confidences and loudness [dB]; (n, 12) for timbre and
        pitches. Values have three decimals, as the Echo Nest's have.
        """
        rng = self._rng(_AUDIO, index)
        n = int(rng.integers(50, 71))
        scales = song.mixture @ self._timbre_scales
        centre = song.mixture @ self._timbre_means + rng.normal(0.0, 15.0, 12)
        timbre = centre + rng.normal(0.0, 1.0, (n, 12)) * scales
        timbre[:, 0] = np.clip(timbre[:, 0], 0.0, 60.0)
        chroma = np.roll(song.mixture @ self._chroma, song.key)
        pitches = (chroma + 0.05) * np.exp(rng.normal(0.0, 0.7, (n, 12)))
        pitches /= pitches.max(axis=1, keepdims=True)
        loudness = song.loudness + rng.normal(0.0, 4.0, n)
        arrays = {
            "segments_timbre": timbre,
            "segments_pitches": pitches,
            "segments_start": _times(rng, n, song.duration),
            "segments_confidence": rng.random(n),
            "segments_loudness_max": loudness,
            "segments_loudness_max_time": rng.uniform(0.01, 0.15, n),
            "segments_loudness_start": loudness - rng.uniform(3.0, 15.0, n),
        }
        for name, events in (("sections", 5), ("bars", 8), ("beats", 24), ("tatums", 32)):
            arrays[f"{name}_start"] = _times(rng, events, song.duration)
            arrays[f"{name}_confidence"] = rng.random(events)
        return {f"analysis/{name}": np.round(values, 3) for name, values in arrays.items()}

    def preference(self, user: int) -> NDArray[np.float64]:
        """Listener `user`'s genre preference theta, shape (G,), sums to 1."""
        rng = self._rng(_USER, user)
        return _sparse_mixture(rng, int(rng.integers(G)), 0.5, 10.0, 0.1)


class Listening:
    """Draws listening histories from the songs' mixtures and popularity.

    A song's chance is its :func:`planted_scores`, a mixture over genres: so a draw is a genre
    from theta, then a song from that genre's cumulative popularity, in O(songs x G) memory.

    Parameters
    ----------
    mixtures
        Shape (songs, G), float32.
    popularity
        Shape (songs,), float32; 0 keeps a song from ever being chosen.
    """

    def __init__(
        self, model: PlantedModel, mixtures: NDArray[np.float32], popularity: NDArray[np.float32]
    ) -> None:
        self._model = model
        self._mixtures = mixtures
        self._cdf = np.empty((G, len(popularity)))
        for genre in range(G):
            pull = popularity * np.exp(PREFERENCE_STRENGTH * mixtures[:, genre])
            np.cumsum(pull, dtype=np.float64, out=self._cdf[genre])
            self._cdf[genre] /= self._cdf[genre, -1]
        self._most = max(10, min(2000, int((popularity > 0).sum()) // 4))

    def history(
        self, user: int, preference: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Songs a listener chose, ascending, and how often each was played; both shape (n,).

        Songs number 10 + log-normal (by the model's median), a quarter of all at most; plays are
        Pareto of exponent 1.6 (median 1), rising with theta . mixture.
        """
        rng = np.random.default_rng([self._model.seed, _USER, user, 1])
        beyond = np.log(self._model.history - LEAST_HISTORY)
        drawn = float(rng.lognormal(beyond, HISTORY_SPREAD))
        wanted = min(LEAST_HISTORY + round(drawn), self._most)
        chosen = np.empty(0, dtype=np.int64)
        # Popular songs are drawn again and again, so it takes a few rounds.
        for _ in range(50):
            genres = rng.choice(G, 2 * wanted, p=preference)
            draws = np.empty(len(genres), dtype=np.int64)
            uniforms = rng.random(len(genres))
            for genre in np.unique(genres):
                at = genres == genre
                draws[at] = np.searchsorted(self._cdf[genre], uniforms[at], side="right")
            pool = np.concatenate([chosen, draws])
            first = np.unique(pool, return_index=True)[1]
            chosen = pool[np.sort(first)][:wanted]
            if len(chosen) == wanted:
                break
        chosen = np.sort(chosen)
        affinity = self._mixtures[chosen] @ preference
        plays = 1.0 + rng.pareto(1.6, len(chosen)) * (0.4 + 2.4 * affinity)
        return chosen, np.minimum(plays, 9667.0).astype(np.int64)


def planted_scores(
    preferences: NDArray[np.floating[Any]],
    mixtures: NDArray[np.floating[Any]],
    popularity: NDArray[np.floating[Any]],
) -> NDArray[np.float64]:
    """The chance with which each listener's next song is each song: the ideal ranker's scores.

    ``popularity_s * sum_g theta_ug exp(beta mixture_sg) / Z_g``, with Z_g the sum over songs
    of ``popularity_s exp(beta mixture_sg)`` and beta = :data:`PREFERENCE_STRENGTH`.

    Parameters
    ----------
    preferences
        Shape (users, G), the listeners' true preferences theta.
    mixtures
        Shape (songs, G).
    popularity
        Shape (songs,).

    Returns
    -------
    scores
        Shape (users, songs), float64; each row sums to 1. Rank candidates by it, best
        first. Giving ones as popularity yields the best ranker that knows genres only.
    """
    pull = np.exp(PREFERENCE_STRENGTH * mixtures.astype(np.float64)) * popularity[:, None]
    scores: NDArray[np.float64] = preferences.astype(np.float64) @ (pull / pull.sum(axis=0)).T
    return scores


def _sparse_mixture(
    rng: np.random.Generator, first: int, two: float, concentration: float, rest: float
) -> NDArray[np.float64]:
    """A Dirichlet draw around genre `first`, or with chance `two` around it and another."""
    main = np.full(G, rest)
    second = (first + int(rng.integers(1, G))) % G
    share = 0.4 if rng.random() < two else 0.0
    main[first] += (1.0 - share) * concentration
    main[second] += share * concentration
    return rng.dirichlet(main)


def _times(rng: np.random.Generator, n: int, duration: float) -> NDArray[np.float64]:
    """`n` ascending times in seconds within `duration`, the first 0."""
    times = np.sort(rng.uniform(0.0, duration, n))
    times[0] = 0.0
    return times
