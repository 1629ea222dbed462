"""The HDF5 files of the sample corpus, which are nine tenths of its work: here or in processes."""

from __future__ import annotations

import math
import multiprocessing
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from uuid import UUID

import numpy as np

from fusionrec.errors import ResourceError
from fusionrec.formats.hdf5.writer import write_track
from fusionrec.formats.sample.ids import Identifiers, track_path
from fusionrec.formats.sample.model import Artist, PlantedModel, Song

DETAILS = 101
"""Generator stream of what the files add to the planted model, whose streams are smaller."""

_BATCH = 100  # files that a process is given at a time
_WAITING = 4  # batches for each process that are not yet written


@dataclass(frozen=True)
class Track:
    """What one file is written from, beside what is drawn for it."""

    index: int
    artist: Artist
    song: Song
    song_id: str
    title: bytes
    similar: list[bytes]


class TrackFiles(AbstractContextManager["TrackFiles"]):
    """Writes the file of each track that it is given; all are there once it is closed.

    Parameters
    ----------
    root
        The corpus's folder.
    model, ids
        What the corpus is drawn from.
    processes
        Those that write; 1 is this one. The bytes are the same.
    """

    def __init__(self, root: Path, model: PlantedModel, ids: Identifiers, processes: int) -> None:
        self._here = _Here(root, model, ids)
        self._pool: ProcessPoolExecutor | None = None
        if processes > 1:
            # A fork would take over whatever locks the caller's threads hold.
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(processes, spawn, _begin, (root, model, ids))
        self._room = _WAITING * processes
        self._waiting: deque[Future[None]] = deque()
        self._batch: list[Track] = []

    def write(self, track: Track) -> None:
        """Write the file, or have it written; wait where the processes are far behind.

        Raises
        ------
        ResourceError
            A process that writes has ended, here or when the last files are waited for.
        """
        if self._pool is None:
            self._here.write(track)
            return
        self._batch.append(track)
        if len(self._batch) == _BATCH:
            self._hand_over(self._pool)

    def _hand_over(self, pool: ProcessPoolExecutor, room: int | None = None) -> None:
        try:
            self._waiting.append(pool.submit(_write, self._batch))
            self._batch = []
            while len(self._waiting) > (self._room if room is None else room):
                self._waiting.popleft().result()
        except BrokenProcessPool as error:
            raise ResourceError(
                "sample: a process that writes songs was ended, as by a system whose memory is "
                "full; use fewer --processes"
            ) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is None:
            return
        try:
            if error is None:
                self._hand_over(self._pool, room=0)
        finally:
            self._pool.shutdown(cancel_futures=True)


class _Here:
    """Writes files in this process."""

    def __init__(self, root: Path, model: PlantedModel, ids: Identifiers) -> None:
        self._root = root
        self._model = model
        self._ids = ids
        self._folders: set[Path] = set()

    def write(self, track: Track) -> None:
        artist, song, index = track.artist, track.song, track.index
        track_id = self._ids.track(index)
        path = self._root / track_path(track_id)
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        rng = np.random.default_rng([self._model.seed, DETAILS, index])
        write_track(
            path,
            metadata={
                "artist_7digitalid": artist.index + 1,
                "artist_familiarity": round(min(0.4 + 0.1 * math.log(artist.popularity), 1.0), 8),
                "artist_hotttnesss": round(min(0.3 + 0.15 * math.log(artist.popularity), 1.1), 8),
                "artist_id": self._ids.artist(artist.index).encode(),
                "artist_latitude": math.nan,
                "artist_location": artist.location.encode(),
                "artist_longitude": math.nan,
                "artist_mbid": str(UUID(self._ids.digest("artist", artist.index)[:32])).encode(),
                "artist_name": artist.name.encode(),
                "artist_playmeid": -1,
                "release": song.release.encode(),
                "release_7digitalid": int(rng.integers(1, 900_000)),
                "song_hotttnesss": song.hotttnesss,
                "song_id": track.song_id.encode(),
                "title": track.title,
                "track_7digitalid": index + 1,
            },
            analysis={
                "analysis_sample_rate": 22050,
                "audio_md5": self._ids.digest("audio", index)[:32].encode(),
                "duration": song.duration,
                "end_of_fade_in": round(float(rng.exponential(0.4)), 3),
                "key": song.key,
                "key_confidence": round(float(rng.random()), 3),
                "loudness": song.loudness,
                "mode": song.mode,
                "mode_confidence": round(float(rng.random()), 3),
                "start_of_fade_out": round(song.duration * 0.96, 3),
                "tempo": song.tempo,
                "time_signature": song.time_signature,
                "time_signature_confidence": round(float(rng.random()), 3),
                "track_id": track_id.encode(),
            },
            musicbrainz={"year": song.year},
            arrays=self._model.audio(song, index)
            | {
                "metadata/artist_terms": np.array([t.encode() for t in artist.terms], "S256"),
                "metadata/artist_terms_freq": artist.term_freqs,
                "metadata/artist_terms_weight": artist.term_weights,
                "metadata/similar_artists": np.array(track.similar, "S20"),
                "musicbrainz/artist_mbtags": np.array([t.encode() for t in artist.mbtags], "S256"),
                "musicbrainz/artist_mbtags_count": artist.mbtag_counts,
            },
        )


_here: _Here | None = None


def _begin(root: Path, model: PlantedModel, ids: Identifiers) -> None:
    """In a process of the pool, once."""
    global _here
    _here = _Here(root, model, ids)


def _write(tracks: list[Track]) -> None:
    assert _here is not None
    for track in tracks:
        _here.write(track)
