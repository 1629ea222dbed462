"""The same corpus as tables: CSV files and an array of vectors, as a shop of one's own has them.

Songs, listeners, words and who played what how often are those of
:func:`fusionrec.formats.sample.corpus.write_sample` of the same arguments; columns are called
otherwise than fusionrec does, some ids and titles have letters beyond ASCII, and a few rows are
damaged, in counted amounts. Beside them songs have a day on which they were added, plays a time
after it, and songs a vector of the planted mixture with noise, as an audio model would give.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from fusionrec.errors import ResourceError
from fusionrec.formats.sample.corpus import check_arguments
from fusionrec.formats.sample.ids import Identifiers
from fusionrec.formats.sample.marker import Marker
from fusionrec.formats.sample.model import HISTORY, LYRICS, G, Listening, PlantedModel
from fusionrec.formats.sample.pool import in_order
from fusionrec.formats.sample.table_songs import (
    DAYS,
    FIRST_DAY,
    SONG_COLUMNS,
    SOUND,
    SongsPart,
    TableSongs,
    begin,
    part_of,
    song_id,
    writer,
)
from fusionrec.formats.sample.words import GENRES

PLAY_COLUMNS = ("uid", "track", "listens", "ts")
LYRICS_COLUMNS = ("track", "words")

_MARKER = Marker("fusionrec-sample-tables", "a sample corpus in tables")
_DAY = 86_400  # seconds
_FADES = 120.0  # days after which a song is played e times less often
_TIMES = 114  # generator stream
_ARTISTS = 50  # a part, which is what a process draws at a time
_STEP = 100  # users between two reports of progress


@dataclass(frozen=True)
class TablesTruth:
    """Sizes and injected damage, as kept in ``truth.json``.

    Attributes
    ----------
    seed, users
        As asked for.
    songs
        Songs with a row of their own in ``songs.csv``: as asked for, less the second tracks of
        song ids that two share.
    lyrics, vectors, plays
        Sound rows of ``lyrics.csv``, ``sound.npy`` and ``plays.csv``.
    genres
        The planted genres, in the order of all mixtures and preferences.
    injected
        Damaged rows by kind. ``song_repeated``, ``year_not_a_number`` (nothing else is wrong with
        that row) of songs; ``lyrics_unknown_song``; ``vector_nan``, ``vector_unknown_song``;
        ``play_negative``, ``play_not_a_number``, ``play_two_fields``, ``play_unknown_song``, none
        of them in `plays`, and ``play_without_time``, whose time is no time.
    """

    seed: int
    songs: int
    users: int
    lyrics: int
    vectors: int
    plays: int
    genres: tuple[str, ...]
    injected: dict[str, int]


def write_tables(
    out: str | Path,
    *,
    songs: int = 2000,
    users: int = 1000,
    seed: int = 0,
    lyrics: float = LYRICS,
    history: float = HISTORY,
    processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> TablesTruth:
    """Write the tables into the folder `out`; the same arguments give the same bytes.

    ``songs.csv``, ``plays.csv``, ``lyrics.csv`` (words as ``love:3 you:2``) and ``sound.npy``
    (float32, a row an id of ``sound_ids.txt``); then ``truth_songs.tsv``, ``truth_users.tsv``, of
    the same columns as those of the official form but for the tracks, and ``truth.json``, last.

    Parameters
    ----------
    out
        The folder, which is made; an earlier sample of this form in it is replaced.
    songs, users, seed, lyrics, history
        As for :func:`fusionrec.formats.sample.corpus.write_sample`.
    processes
        Those that draw the songs; the bytes are the same. Listeners are drawn by one.
    progress
        Called now and then with the songs and users written since the last call.

    Raises
    ------
    ConfigError
        A size, a share or the seed is out of bounds, or `out` holds something else.
    ResourceError
        A process that draws was ended.
    """
    check_arguments(songs, users, seed, lyrics, history, processes)
    root = Path(out)
    _MARKER.begin(root)
    model = PlantedModel(seed, lyrics=lyrics, history=history)
    corpus = _Tables(root, model, songs, progress or (lambda _: None))
    truth = corpus.write(users, processes)
    _MARKER.complete(root, asdict(truth))
    return truth


def read_tables_truth(root: str | Path) -> TablesTruth:
    """The truth of the tables in the folder `root`.

    Raises
    ------
    ConfigError
        `root` holds no such sample, or one whose writing was cut short.
    """
    content = _MARKER.read(Path(root))
    content["genres"] = tuple(content["genres"])
    return TablesTruth(**content)


def user_id(ids: Identifiers, user: int) -> str:
    """The id of listener number `user`; of some not in ASCII."""
    return f"zoë-{ids.user(user)}" if user % 10 == 3 else ids.user(user)


class _Tables:
    """Writes all files of one corpus, and counts what it writes."""

    def __init__(
        self, root: Path, model: PlantedModel, songs: int, report: Callable[[int], None]
    ) -> None:
        self._root = root
        self._model = model
        self._report = report
        self._songs = songs
        self._of = TableSongs(model, songs)
        self._injected: Counter[str] = Counter()

    def write(self, users: int, processes: int) -> TablesTruth:
        with ExitStack() as stack:

            def opened(name: str) -> TextIO:
                path = self._root / name
                return stack.enter_context(path.open("w", encoding="utf-8", newline=""))

            songs, with_lyrics, vectors, listening = self._write_songs(opened, processes)
            plays = self._write_plays(opened, users, listening)
        return TablesTruth(
            seed=self._model.seed,
            songs=songs,
            users=users,
            lyrics=with_lyrics,
            vectors=vectors,
            plays=plays,
            genres=GENRES,
            injected=dict(sorted(self._injected.items())),
        )

    def _write_songs(
        self, opened: Callable[[str], TextIO], processes: int
    ) -> tuple[int, int, int, Listening]:
        of = self._of
        names = {"songs": SONG_COLUMNS, "lyrics": LYRICS_COLUMNS}
        files = {name: opened(f"{name}.csv") for name in names}
        for name, columns in names.items():
            writer(files[name]).writerow(columns)
        truth, vector_ids = opened("truth_songs.tsv"), opened("sound_ids.txt")
        writer(truth, "\t").writerow(("song", "artist", "genre", "popularity", *GENRES))
        vectors = of.kept - len(of.missing)
        sound = np.lib.format.open_memmap(
            self._root / "sound.npy", "w+", np.dtype("<f4"), (vectors + 2, SOUND)
        )
        mixtures, popularity = np.zeros((self._songs, G), np.float32), np.zeros(self._songs, "f4")
        written = with_lyrics = row = track = 0
        for part in self._parts(processes):
            files["songs"].write(part.songs)
            files["lyrics"].write(part.lyrics)
            truth.write(part.truth)
            vector_ids.writelines(f"{song_id(of.ids, i)}\n" for i in part.indices.tolist())
            sound[row : row + len(part.sound)] = part.sound
            end = track + len(part.popularity)
            mixtures[track:end], popularity[track:end] = part.mixtures, part.popularity
            written, with_lyrics = written + part.written, with_lyrics + part.with_lyrics
            row, track = row + len(part.sound), end
            self._report(len(part.popularity))
        self._injected["year_not_a_number"] = 1
        name, stranger = song_id(of.ids, of.first), "no-such-track"
        again = (name, "", "a second row of this song", *("",) * (len(SONG_COLUMNS) - 3))
        writer(files["songs"]).writerow(again)
        self._injected["song_repeated"] = 1
        writer(files["lyrics"]).writerow((stranger, "love:3 you:2"))
        self._injected["lyrics_unknown_song"] = 1
        vector_ids.write(f"{song_id(of.ids, min(of.missing))}\n{stranger}\n")
        sound[row], sound[row + 1] = np.nan, 0.5
        self._injected["vector_nan"] = self._injected["vector_unknown_song"] = 1
        sound.flush()
        return written, with_lyrics, vectors, Listening(self._model, mixtures, popularity)

    def _parts(self, processes: int) -> Iterator[SongsPart]:
        artists = len(self._of.sizes)
        ranges = [(at, min(at + _ARTISTS, artists)) for at in range(0, artists, _ARTISTS)]
        try:
            yield from in_order(part_of, ranges, processes, begin, (self._model, self._songs))
        except BrokenProcessPool as error:
            raise ResourceError(
                "sample: a process that draws songs was ended, as by a system whose memory is "
                "full; use fewer --processes"
            ) from error

    def _write_plays(
        self, opened: Callable[[str], TextIO], users: int, listening: Listening
    ) -> int:
        of, seed = self._of, self._model.seed
        rows, truth = writer(opened("plays.csv")), writer(opened("truth_users.tsv"), "\t")
        rows.writerow(PLAY_COLUMNS)
        truth.writerow(("user", *GENRES))
        damaged, written = min(5, 1 + users // 200), 0
        for user in range(users):
            name, preference = user_id(of.ids, user), self._model.preference(user)
            truth.writerow((name, *(f"{share:.6g}" for share in preference.tolist())))
            songs, plays = listening.history(user, preference)
            seconds = play_times(seed, user, of.added[songs])
            stamps = np.datetime_as_string(FIRST_DAY.astype("datetime64[s]") + seconds)
            times = [f"{stamp}Z" for stamp in stamps.tolist()]
            order = np.argsort(seconds, kind="stable").tolist()
            first = order[0]
            if user < damaged:
                times[first] = "yesterday"
            names = [song_id(of.ids, song) for song in songs.tolist()]
            rows.writerows((name, names[at], int(plays[at]), times[at]) for at in order)
            written += len(songs)
            if user < damaged:
                for kind, fields in (
                    ("play_negative", (name, names[first], "-3", times[order[-1]])),
                    ("play_not_a_number", (name, names[first], "often", times[order[-1]])),
                    ("play_two_fields", (name, names[first])),
                    ("play_unknown_song", (name, f"no-such-track-{user}", "2", times[order[-1]])),
                ):
                    rows.writerow(fields)
                    self._injected[kind] += 1
                self._injected["play_without_time"] += 1
            if (user + 1) % _STEP == 0:
                self._report(_STEP)
        self._report(users % _STEP)
        return written


def play_times(seed: int, user: int, days: NDArray[np.int64]) -> NDArray[np.int64]:
    """When a listener first played each song, in seconds after the first day began.

    A listener comes on some day of the first half. A song is first played after both, and the
    likelier the sooner: by an exponential that ends with the last day.

    Parameters
    ----------
    days
        On which the songs were added, shape (n,).
    """
    rng = np.random.default_rng([seed, _TIMES, user])
    begun = np.maximum(days, rng.integers(0, DAYS // 2)).astype(np.float64)
    within = 1.0 - np.exp(-(DAYS - begun) / _FADES)
    after = -_FADES * np.log1p(-rng.random(len(days)) * within)
    seconds: NDArray[np.int64] = ((begun + after) * _DAY).astype(np.int64)
    return np.minimum(seconds, DAYS * _DAY - 1)
