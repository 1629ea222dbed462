"""The songs of the sample's tables: their rows, words and vectors, drawn here or in processes."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from fusionrec.formats.sample.files import choose_oddities
from fusionrec.formats.sample.ids import Identifiers
from fusionrec.formats.sample.model import Artist, G, PlantedModel, Song
from fusionrec.formats.sample.words import GENRES

SOUND = 24
"""Components of a song's vector."""

DAYS = 730
"""Days that the plays are of; no song is added in the last sixty."""

FIRST_DAY = np.datetime64("2011-01-01")

SONG_COLUMNS = ("track", "performer", "name", "album", "released", "seconds", "genres", "added")

_AXES, _SOUND, _ADDED, _MISSING = range(110, 114)  # generator streams


def song_id(ids: Identifiers, index: int) -> str:
    """The id of song number `index`; of some not in ASCII."""
    return f"más-{ids.song(index)}" if index % 25 == 7 else ids.song(index)


def added(seed: int, songs: int) -> NDArray[np.int64]:
    """The day on which each song was added, from 0, shape (songs,): two fifths on the first."""
    rng = np.random.default_rng([seed, _ADDED])
    later = rng.integers(1, DAYS - 60, songs)
    days: NDArray[np.int64] = np.where(rng.random(songs) < 0.4, 0, later)
    return days


def writer(file: TextIO, delimiter: str = ",") -> Any:
    """Rows as lines that end in a newline byte, whatever the system."""
    return csv.writer(file, delimiter=delimiter, lineterminator="\n")


@dataclass(frozen=True)
class SongsPart:
    """The songs of some artists, as text and arrays; n tracks."""

    songs: str
    lyrics: str
    truth: str
    written: int  # songs
    with_lyrics: int
    indices: NDArray[np.int64]  # of the songs with a vector
    sound: NDArray[np.float32]  # of each of them, shape (., SOUND)
    mixtures: NDArray[np.float32]  # shape (n, G)
    popularity: NDArray[np.float32]  # shape (n,)


class TableSongs:
    """Draws songs, in whichever process.

    Parameters
    ----------
    model
        What the corpus is drawn from.
    songs
        Tracks of the official form; of two that share a song id, the second is no song here.

    Attributes
    ----------
    kept, first
        Songs, and the index of the first one.
    missing
        Indices of the songs without a vector.
    added
        The day on which each track was added, shape (songs,).
    """

    def __init__(self, model: PlantedModel, songs: int) -> None:
        self.model = model
        self.ids = Identifiers(model.seed, tracks=songs + 2)  # as in the official form
        self.sizes = model.artist_sizes(songs)
        self.oddities = choose_oddities(model.seed, self.sizes)
        self.added = added(model.seed, songs)
        kept = np.setdiff1d(np.arange(songs), list(self.oddities.twins))
        rng = np.random.default_rng([model.seed, _MISSING])
        chosen = rng.choice(kept, max(1, len(kept) // 20), replace=False)
        self.missing = frozenset(chosen.tolist())
        self.first = int(kept[0])
        self.kept = len(kept)
        self._axes = np.random.default_rng([model.seed, _AXES]).normal(0.0, 4.0, (G, SOUND))

    def part(self, first: int, stop: int) -> SongsPart:
        """The songs of artists `first` to `stop` - 1."""
        model, oddities = self.model, self.oddities
        songs, lyrics, truth = io.StringIO(), io.StringIO(), io.StringIO()
        rows, bags, planted = writer(songs), writer(lyrics), writer(truth, "\t")
        n = int(self.sizes[first:stop].sum())
        mixtures, popularity = np.zeros((n, G), np.float32), np.zeros(n, np.float32)
        index = start = int(self.sizes[:first].sum())
        indices, sound, written, with_lyrics = [], [], 0, 0
        for number in range(first, stop):
            artist = model.artist(number)
            for position in range(int(self.sizes[number])):
                if index not in oddities.twins:
                    song = model.song(artist, index, position, accent=index % 25 == 7)
                    mixtures[index - start] = song.mixture
                    popularity[index - start] = song.popularity
                    name = song_id(self.ids, index)
                    rows.writerow(self._row(name, artist, song, index))
                    written += 1
                    if song.has_lyrics:
                        bags.writerow((name, self._words(song.mixture, index)))
                        with_lyrics += 1
                    shares = [f"{share:.6g}" for share in song.mixture.tolist()]
                    genre = GENRES[int(song.mixture.argmax())]
                    liked = f"{float(popularity[index - start]):.6g}"
                    planted.writerow((name, artist.name, genre, liked, *shares))
                    if index not in self.missing:
                        indices.append(index)
                        sound.append(self._sound(song.mixture, index))
                index += 1
        return SongsPart(
            songs.getvalue(),
            lyrics.getvalue(),
            truth.getvalue(),
            written,
            with_lyrics,
            np.array(indices, np.int64),
            np.array(sound, np.float32).reshape(len(sound), SOUND),
            mixtures,
            popularity,
        )

    def _row(self, name: str, artist: Artist, song: Song, index: int) -> tuple[str, ...]:
        year = str(song.year) if song.year else ""
        return (
            name,
            artist.name,
            song.title,
            song.release,
            "unknown" if index == self.oddities.bad_title else year,
            f"{song.duration:.1f}",
            "|".join(artist.mbtags),
            str(FIRST_DAY + int(self.added[index])),
        )

    def _words(self, mixture: NDArray[np.float32], index: int) -> str:
        bag = self.model.lyrics(mixture, index)
        return " ".join(f"{self.model.words[i]}:{bag[i]}" for i in np.flatnonzero(bag))

    def _sound(self, mixture: NDArray[np.float32], index: int) -> NDArray[np.float32]:
        noise = np.random.default_rng([self.model.seed, _SOUND, index]).normal(0.0, 0.5, SOUND)
        vector: NDArray[np.float32] = ((mixture - 1 / G) @ self._axes + noise).astype(np.float32)
        return vector


_here: TableSongs | None = None


def begin(model: PlantedModel, songs: int) -> None:
    """In a process, once."""
    global _here
    _here = TableSongs(model, songs)


def part_of(artists: tuple[int, int]) -> SongsPart:
    assert _here is not None
    return _here.part(*artists)
