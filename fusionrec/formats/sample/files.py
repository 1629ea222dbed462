"""The files of the sample corpus: songs, lyrics, annotations, listening, and their damage."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from fusionrec.formats.sample.ids import Identifiers, track_path
from fusionrec.formats.sample.model import Artist, G, Listening, PlantedModel, Song
from fusionrec.formats.sample.similarity import SimilarArtists
from fusionrec.formats.sample.tracks import DETAILS, Track, TrackFiles
from fusionrec.formats.sample.words import GENRES, TAGTRAUM_NAMES

TEXT_FILES = {
    "tracks": "AdditionalFiles/unique_tracks.txt",
    "years": "AdditionalFiles/tracks_per_year.txt",
    "tags": "AdditionalFiles/unique_mbtags.txt",
    "lyrics_train": "musixmatch/mxm_dataset_train.txt",
    "lyrics_test": "musixmatch/mxm_dataset_test.txt",
    "plays": "tasteprofile/train_triplets.txt",
    "mismatches": "tasteprofile/sid_mismatches.txt",
    "genres": "tagtraum/msd_tagtraum_cd1.cls",
    "truth_songs": "truth_songs.tsv",
    "truth_users": "truth_users.tsv",
}
"""Every text file of the corpus below its root."""

_ODDITIES = 100  # generator stream; the model's are smaller
_STEP = 100  # items between two reports of progress
_FOREIGN_MISMATCHES = 10
_BAD_BYTES = b" \xff\xe9\xfe"  # each invalid in UTF-8: three U+FFFD when replaced


@dataclass(frozen=True)
class Oddities:
    """Songs, by index, that something is wrong with."""

    twins: dict[int, int]  # the second track of a song id -> the first
    bad_title: int
    mismatched: frozenset[int]


def choose_oddities(seed: int, sizes: NDArray[np.int64]) -> Oddities:
    """Choose disjoint songs for each oddity, given every artist's number of songs."""
    rng = np.random.default_rng([seed, _ODDITIES])
    songs = int(sizes.sum())
    several = (np.cumsum(sizes) - sizes)[sizes >= 2]
    firsts = rng.choice(several, min(len(several), 2 + songs // 1000), replace=False)
    others = np.setdiff1d(np.arange(songs), np.concatenate([firsts, firsts + 1]))
    chosen = rng.choice(others, 3 + songs // 400, replace=False)
    twins = {int(first) + 1: int(first) for first in firsts}
    return Oddities(twins, int(chosen[0]), frozenset(int(i) for i in chosen[1:]))


class CorpusWriter:
    """Writes all files of one corpus and counts what it writes.

    Attributes
    ----------
    counts
        Lines of ``lyrics_train``, ``lyrics_test`` and well-formed ``triplets``.
    injected
        Damage and oddities by kind, see :class:`fusionrec.formats.sample.corpus.SampleTruth`.
    """

    def __init__(
        self, root: Path, model: PlantedModel, songs: int, report: Callable[[int], None]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self._root = root
        self._model = model
        self._songs = songs
        self._report = report
        self._ids = Identifiers(model.seed, tracks=songs + 2)  # two files are broken
        self._mixtures = np.zeros((songs, G), dtype=np.float32)
        self._popularity = np.zeros(songs, dtype=np.float32)
        self._files: dict[str, IO[bytes]] = {}
        self._tags: set[str] = set()

    def write(self, sizes: NDArray[np.int64], users: int, processes: int = 1) -> None:
        """Write every file.

        Parameters
        ----------
        sizes
            Songs of each artist, shape (artists,).
        users
            Listeners.
        processes
            Those that write the songs' HDF5 files.
        """
        with ExitStack() as stack:
            for name, path in TEXT_FILES.items():
                self._files[name] = stack.enter_context((self._root / path).open("wb"))
            with TrackFiles(self._root, self._model, self._ids, processes) as self._tracks:
                self._write_songs(sizes, choose_oddities(self._model.seed, sizes))
            self._write_foreign()
            self._write_plays(users)

    def _line(self, file: str, text: str | bytes) -> None:
        self._files[file].write((text.encode() if isinstance(text, str) else text) + b"\n")

    def _write_songs(self, sizes: NDArray[np.int64], oddities: Oddities) -> None:
        for part in ("train", "test"):
            self._files[f"lyrics_{part}"].write(
                f"# {part.upper()}ING SET\n# made-up bags of words in the musiXmatch format:\n"
                "# track_id,mxm track id,<word idx>:<cnt>,... where <word idx> starts at 1\n"
                f"%{','.join(self._model.words)}".encode()
            )
        self._line(
            "truth_songs", "\t".join(("track", "song", "artist", "genre", "popularity", *GENRES))
        )
        similarity = SimilarArtists(self._model, len(sizes))
        index = 0
        for number, size in enumerate(sizes):
            artist = self._model.artist(number)
            similar = [self._ids.artist(other).encode() for other in similarity.of(number).tolist()]
            self._tags.update(artist.mbtags)
            song = self._model.song(artist, index, 0, accent=False)
            for position in range(size):
                if index not in oddities.twins:
                    accent = index % 25 == 7
                    song = self._model.song(artist, index, position, accent=accent)
                self._write_song(artist, song, index, oddities, similar)
                index += 1
                if index % _STEP == 0:
                    self._report(_STEP)
        self._report(index % _STEP)
        for tag in sorted(self._tags):
            self._line("tags", tag)
        self._files["lyrics_train"].write(b"\n")
        # The real test file in circulation ends in mid-pair.
        self._files["lyrics_test"].write(f",{len(self._model.words)}:".encode())
        self.injected["lyrics_cut_lines"] = 1

    def _write_song(
        self, artist: Artist, song: Song, index: int, oddities: Oddities, similar: list[bytes]
    ) -> None:
        track = self._ids.track(index)
        first = oddities.twins.get(index, index)
        song_id = self._ids.song(first)
        title = song.title.encode() + (_BAD_BYTES if index == oddities.bad_title else b"")
        self._mixtures[index] = song.mixture
        # Listening data name songs, not tracks: the twin's plays are the first track's.
        self._popularity[index] = song.popularity if first == index else 0.0
        for kind, present in (
            ("title_invalid_utf8", index == oddities.bad_title),
            ("shared_song_ids", first != index),
            ("title_non_ascii", not song.title.isascii()),
            ("year_zero", song.year == 0),
            ("hotttnesss_nan", math.isnan(song.hotttnesss)),
            ("no_mbtags", not artist.mbtags),
            ("no_lyrics", not song.has_lyrics),
            ("mismatched_songs", index in oddities.mismatched),
        ):
            self.injected[kind] += int(present)

        self._tracks.write(Track(index, artist, song, song_id, title, similar))
        by = b"<SEP>".join([artist.name.encode(), title])
        self._line("tracks", f"{track}<SEP>{song_id}<SEP>".encode() + by)
        if song.year:
            self._line("years", f"{song.year}<SEP>{track}<SEP>".encode() + by)
        if song.has_lyrics:
            self._write_lyrics(song, index, track)
        self._write_annotation(song, index, track)
        if index in oddities.mismatched:
            pair = f"ERROR: <{song_id} {track}> ".encode()
            by = by.replace(b"<SEP>", b"  -  ")
            self._line("mismatches", pair + by + b"  !=  Somebody Else  -  Something Else")
        planted = [float(self._popularity[index]), *song.mixture.tolist()]
        genre = GENRES[int(song.mixture.argmax())]
        self._line(
            "truth_songs",
            "\t".join([track, song_id, self._ids.artist(artist.index), genre, *_decimals(planted)]),
        )

    def _write_lyrics(self, song: Song, index: int, track: str) -> None:
        written = self.counts["lyrics_train"] + self.counts["lyrics_test"]
        part = "lyrics_test" if written % 10 == 0 else "lyrics_train"
        self.counts[part] += 1
        bag = self._model.lyrics(song.mixture, index)
        pairs = ",".join(f"{word + 1}:{bag[word]}" for word in np.flatnonzero(bag))
        # The newline comes before a line, so that the test file's last can be cut.
        self._files[part].write(f"\n{track},{7 * index + 11},{pairs}".encode())

    def _write_annotation(self, song: Song, index: int, track: str) -> None:
        rng = np.random.default_rng([self._model.seed, DETAILS, index, 1])
        if rng.random() < 0.2:
            return
        order = np.argsort(-song.mixture, kind="stable")
        genres = [int(order[0]) if rng.random() < 0.9 else int(rng.integers(G))]
        if song.mixture[order[1]] > 0.3 and int(order[1]) not in genres:
            genres.append(int(order[1]))
        self._line("genres", "\t".join([track, *(TAGTRAUM_NAMES[genre] for genre in genres)]))

    def _write_foreign(self) -> None:
        """Two broken track files, and mismatched pairs of songs the corpus does not have."""
        whole = (self._root / track_path(self._ids.track(0))).read_bytes()
        for extra, kind, content in (
            (0, "hdf5_truncated", whole[: len(whole) // 2]),
            (1, "hdf5_not_hdf5", b"<html><body>503 Service Unavailable</body></html>\n"),
        ):
            path = self._root / track_path(self._ids.track(self._songs + extra))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            self.injected[kind] += 1
        for number in range(_FOREIGN_MISMATCHES):
            song = self._ids.song(self._songs + 1000 + number)
            track = f"TRZZZZ{chr(ord('A') + number)}{song[7:]}"
            names = f"Foreign Artist {number}  -  Here  !=  Other Artist {number}  -  There"
            self._line("mismatches", f"ERROR: <{song} {track}> {names}")
            self.injected["mismatched_foreign"] += 1

    def _write_plays(self, users: int) -> None:
        listening = Listening(self._model, self._mixtures, self._popularity)
        self._line("truth_users", "\t".join(("user", *GENRES)))
        damaged = min(5, 1 + users // 200)
        for user in range(users):
            user_id = self._ids.user(user)
            preference = self._model.preference(user)
            self._line("truth_users", "\t".join([user_id, *_decimals(preference.tolist())]))
            songs, plays = listening.history(user, preference)
            for song, count in zip(songs.tolist(), plays.tolist(), strict=True):
                self._line("plays", f"{user_id}\t{self._ids.song(song)}\t{count}")
            self.counts["triplets"] += len(songs)
            if user < damaged:
                self._damage_plays(user, user_id, self._ids.song(int(songs[0])))
            if (user + 1) % _STEP == 0:
                self._report(_STEP)
        self._report(users % _STEP)

    def _damage_plays(self, user: int, user_id: str, song: str) -> None:
        stranger = self._ids.song(self._songs + 5000 + user)
        for kind, fields in (
            ("triplet_negative", (user_id, song, "-3")),
            ("triplet_not_integer", (user_id, song, "2.5")),
            ("triplet_two_fields", (user_id, song)),
            ("triplet_unknown_song", (user_id, stranger, "2")),
        ):
            self._line("plays", "\t".join(fields))
            self.injected[kind] += 1


def _decimals(numbers: list[float]) -> list[str]:
    return [f"{number:.6g}" for number in numbers]
