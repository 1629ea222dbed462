"""Write a corpus with a planted truth in the Million Song Dataset's own formats.

The files and their names are the official ones, damage included: what real corpora get
wrong is injected in counted amounts, so that an ingest report can be checked against
``truth.json``. What was planted lies beside it, in ``truth_songs.tsv`` and
``truth_users.tsv``. Memory does not grow with the corpus beyond a genre mixture a song.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from fusionrec.errors import ConfigError
from fusionrec.formats.sample.files import TEXT_FILES, CorpusWriter
from fusionrec.formats.sample.marker import Marker
from fusionrec.formats.sample.model import (
    HISTORY,
    LEAST_HISTORY,
    LYRICS,
    PREFERENCE_STRENGTH,
    PlantedModel,
)
from fusionrec.formats.sample.words import GENRES

MINIMUM_SONGS = 50
_MARKER = Marker("fusionrec-sample", "a sample corpus")


@dataclass(frozen=True)
class SampleTruth:
    """Sizes and injected damage of a sample corpus, as kept in ``truth.json``.

    Attributes
    ----------
    seed, songs, users
        As asked for; `songs` counts readable tracks.
    artists, tagged_songs
        Artists, and songs whose artist has MusicBrainz tags.
    lyrics_train, lyrics_test
        Songs in each of the musiXmatch files, the test file's cut last line included.
    triplets
        Well-formed lines of the Taste Profile file.
    genres
        The planted genres, in the order of all mixtures and preferences.
    preference_strength
        beta of :func:`fusionrec.formats.sample.model.planted_scores`.
    injected
        How often each kind of damage or oddity occurs:
        ``hdf5_truncated``, ``hdf5_not_hdf5`` (files beside the songs' own);
        ``title_invalid_utf8``, ``title_non_ascii``, ``year_zero``, ``hotttnesss_nan``,
        ``no_mbtags``, ``no_lyrics`` (songs); ``shared_song_ids`` (pairs of tracks);
        ``lyrics_cut_lines``; ``triplet_negative``, ``triplet_not_integer``,
        ``triplet_two_fields``, ``triplet_unknown_song`` (lines, not in `triplets`);
        ``mismatched_songs`` (pairs of this corpus), ``mismatched_foreign``.
    lyrics_share, history
        As asked for.
    """

    seed: int
    songs: int
    users: int
    artists: int
    tagged_songs: int
    lyrics_train: int
    lyrics_test: int
    triplets: int
    genres: tuple[str, ...]
    preference_strength: float
    injected: dict[str, int]
    lyrics_share: float = LYRICS
    history: float = HISTORY


def write_sample(
    out: str | Path,
    *,
    songs: int = 2000,
    users: int = 1000,
    seed: int = 0,
    lyrics: float = LYRICS,
    history: float = HISTORY,
    processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> SampleTruth:
    """Write a sample corpus into the folder `out`; the same arguments give the same bytes.

    Beside the official files, ``truth_songs.tsv`` holds track, song, artist, genre (the
    dominant one), popularity and the mixture (one column a genre) of every track, and
    ``truth_users.tsv`` the user and their preference (one column a genre): what
    :func:`fusionrec.formats.sample.model.planted_scores` takes. ``truth.json`` is written last.

    Parameters
    ----------
    out
        The folder, which is made; an earlier sample in it is replaced.
    songs
        Readable tracks, at least 50.
    users
        Listeners, at least 1.
    seed
        Not negative.
    lyrics
        Share of the songs that have lyrics; the musiXmatch data set has .24 of all.
    history
        Songs that the median listener has played, above 10; the mean is 1.5 times what is above
        10, and 10. No listener has played more than 2,000, or a quarter of all songs.
    processes
        Those that write the songs' HDF5 files, nine tenths of the work. The bytes are the same.
        More than one are spawned, so that a script calls this below ``if __name__ == "__main__"``.
    progress
        Called now and then with the songs and users written since the last call, `songs` +
        `users` in all.

    Raises
    ------
    ConfigError
        A size, a share or the seed is out of bounds, or `out` holds something else.
    ResourceError
        A process that writes was ended.
    """
    check_arguments(songs, users, seed, lyrics, history, processes)
    root = Path(out)
    _MARKER.begin(root)
    if (root / "MillionSong").exists():
        shutil.rmtree(root / "MillionSong")
    for path in TEXT_FILES.values():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
    model = PlantedModel(seed, lyrics=lyrics, history=history)
    sizes = model.artist_sizes(songs)
    corpus = CorpusWriter(root, model, songs, progress or (lambda _: None))
    corpus.write(sizes, users, processes)
    counts, injected = corpus.counts, corpus.injected
    truth = SampleTruth(
        seed=seed,
        songs=songs,
        users=users,
        artists=len(sizes),
        tagged_songs=songs - injected["no_mbtags"],
        lyrics_train=counts["lyrics_train"],
        lyrics_test=counts["lyrics_test"],
        triplets=counts["triplets"],
        genres=GENRES,
        preference_strength=PREFERENCE_STRENGTH,
        injected=dict(sorted(injected.items())),
        lyrics_share=lyrics,
        history=history,
    )
    _MARKER.complete(root, asdict(truth))
    return truth


def check_arguments(
    songs: int, users: int, seed: int, lyrics: float, history: float, processes: int
) -> None:
    """Refuse what is out of bounds, whatever the files' form; see :func:`write_sample`.

    Raises
    ------
    ConfigError
        Names the argument and what it may be.
    """
    at_least = (("songs", songs, MINIMUM_SONGS), ("users", users, 1), ("processes", processes, 1))
    for name, value, least in at_least:
        if value < least:
            raise ConfigError(f"sample: {name} = {value}; use at least {least}")
    if seed < 0:
        raise ConfigError(f"sample: seed = {seed}; use 0 or more")
    if not 0 <= lyrics <= 1:
        raise ConfigError(f"sample: lyrics = {lyrics}; use a share, from 0 to 1")
    if history <= LEAST_HISTORY:
        raise ConfigError(f"sample: history = {history}; use more than {LEAST_HISTORY}")


def read_truth(root: str | Path) -> SampleTruth:
    """The truth of the sample corpus in the folder `root`.

    Raises
    ------
    ConfigError
        `root` holds no sample corpus, or one whose writing was cut short.
    """
    content = _MARKER.read(Path(root))
    content["genres"] = tuple(content["genres"])
    return SampleTruth(**content)
