"""The Million Song Dataset's HDF5 files: one a track, aggregates of many, and summaries.

They carry the metadata of (Öman & Choi, section 3.1.4), the MusicBrainz tags of section 3.1
and the segment analysis that stands in for the audio the authors lacked (section 6).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import h5py

from fusionrec import probes
from fusionrec.errors import FusionrecError, SourceError
from fusionrec.formats import files
from fusionrec.formats.batch import Batch
from fusionrec.formats.hdf5.access import (
    Damage,
    Row,
    SongFile,
    open_file,
    read_rows,
    row_count,
    tables,
)
from fusionrec.formats.hdf5.layout import HEAD_BYTES
from fusionrec.formats.hdf5.song_batch import SongBatch
from fusionrec.formats.trouble import patient, patiently

_ROWS_AT_A_TIME = 256  # about 2.5 million numbers a segment array


def read_tracks(
    paths: Sequence[str],
    root: str = "",
    *,
    segments: bool = False,
    watch: Callable[[str], AbstractContextManager[str]] = lambda path: nullcontext(""),
) -> Batch:
    """Read per-track files.

    Parameters
    ----------
    paths
        Files of one row each.
    root
        Folder that the rejects name the files from; "" names them without their folders.
    segments
        Read the segment arrays too.
    watch
        Entered around every call of libhdf5, which a damaged file can crash, process and all;
        what it gives says why the file is to be rejected unread, if it is not "".

    Returns
    -------
    Batch
        `table` in schema :data:`fusionrec.schemas.SONGS` and, if asked for, `segments` in
        :data:`fusionrec.schemas.SEGMENTS`, a row a song in the order of `paths`. Unusable
        files are in `rejects`, action `dropped`; unusable fields, action `nulled`. The
        arrays of a file that has none at all (a one-row summary) are empty.

    Raises
    ------
    UnavailableError
        The environment does not give a file: see :mod:`fusionrec.formats.trouble`.
    """
    songs = SongBatch(segments, len(paths))
    prefix = f"{root.partition('?')[0].rstrip('/')}/" if root else ""

    def name_of(number: int) -> str:
        path = paths[number]
        return path.removeprefix(prefix) if prefix else os.path.basename(path)

    for number, path in enumerate(paths):
        row = patiently(files.shown(path), partial(_read_track, songs, number, path, watch))
        if row is not None:
            item = os.path.splitext(os.path.basename(path))[0]
            songs.add(number, name_of(number), item, row)
    return songs.batch(len(paths), name_of)


def _read_track(
    songs: SongBatch,
    number: int,
    path: str,
    watch: Callable[[str], AbstractContextManager[str]],
) -> Row | Damage | None:
    """What libhdf5 reads of a file, or None if it was read, and added, without libhdf5."""
    if _add_directly(songs, number, path):
        return None
    with watch(path) as refusal:
        if refusal:
            return Damage("workers died while they read it", refusal)
        return read_by_libhdf5(path, songs.direct.segments, partial(_learn, songs, path))


def _add_directly(songs: SongBatch, number: int, path: str) -> bool:
    """Read a file without libhdf5, if its layout is known."""
    if not files.is_uri(path):
        return songs.direct.add_file(number, path)
    if not songs.direct.knows_layouts:
        return False
    try:
        with files.SteadyFile(path) as file:
            return songs.direct.add_remote(number, file.length, file.read_at)
    except OSError:
        return False  # missing, as libhdf5's reader will say


def _learn(songs: SongBatch, path: str, file: h5py.File, row: Row) -> None:
    """Learn a file's layout, and try whether compiled code reads it as libhdf5 did."""
    with files.SteadyFile(path) as raw:
        head = raw.read_at(HEAD_BYTES, 0)
    directly = SongBatch(songs.direct.segments)
    learnt = read = False
    trouble: list[Exception] = []

    def trial() -> str:
        nonlocal learnt, read
        try:
            learnt = songs.direct.learn(file, head)
            read = learnt and _add_directly(directly, 0, path)
        except (FusionrecError, MemoryError) as error:
            trouble.append(error)
        return _difference(directly, path, row) if read else ""

    finding = probes.attempt(trial)
    if read or not finding.works:
        songs.direct.judge(finding)
    elif learnt:
        # Its kind of file goes to libhdf5 anyhow, or the disk failed: another file will tell.
        songs.direct.forget()
    if trouble:
        raise trouble[0]


def _difference(directly: SongBatch, path: str, row: Row) -> str:
    """In what a file, just read directly, is another than the row that libhdf5 read."""
    by_libhdf5 = SongBatch(directly.direct.segments)
    by_libhdf5.add(0, path, path, row)
    found, expected = directly.batch(1, lambda _: path), by_libhdf5.batch(1)
    for part in ("table", "segments", "rejects"):
        # As texts: to Arrow, NaN is not equal to NaN.
        both = [getattr(batch, part) for batch in (found, expected)]
        ours, theirs = (table if table is None else str(table.to_pylist()) for table in both)
        if ours != theirs:
            return f"its {part} of {os.path.basename(path)} is not that of libhdf5"
    return ""


def read_by_libhdf5(
    path: str, segments: bool, learn: Callable[[h5py.File, Row], None] | None = None
) -> Row | Damage:
    """Read one per-track file by libhdf5; `learn` is called on it if it has no fault."""
    try:
        with open_file(path) as file:
            track = SongFile(file, segments)
            if track.count != 1:
                detail = f"{track.count} rows: read it as an aggregate file"
                raise Damage(*(("more than one row", detail) if track.count else ("no rows",)))
            row = track.rows(0, 1)[0]
            if learn and not isinstance(row, Damage):
                learn(file, row)
    except Damage as damage:
        return damage
    return row


@patient
def num_rows(path: str) -> int:
    """Number of songs in an HDF5 file of any of the three kinds.

    Raises
    ------
    SourceError
        The file is missing, damaged, or lacks one of the three tables.
    """
    try:
        with open_file(path) as file:
            return row_count(tables(file))
    except Damage as damage:
        raise _unusable(path, damage) from damage


@patient
def is_aggregate(path: str) -> bool:
    """Whether the file holds more than one song; False for a damaged one."""
    try:
        with open_file(path) as file:
            return row_count(tables(file)) > 1
    except Damage:
        return False


@patient
def read_aggregate(path: str, start: int, stop: int, *, segments: bool = False) -> Batch:
    """Read the rows `[start, stop)` of an aggregate or summary file.

    Parameters
    ----------
    path
        File as `create_aggregate_file.py` or `create_summary_file.py` of MSongsDB write it.
    start, stop
        Range of rows, out of :func:`num_rows`.
    segments
        Read the segment arrays too; only the slices of these rows are read.

    Returns
    -------
    Batch
        As of :func:`read_tracks`; the lists of a summary file are empty. A row whose `idx_`
        fields do not ascend within their arrays is a reject, action `dropped`.

    Raises
    ------
    SourceError
        The file is missing, damaged as a whole, or lacks one of the three tables.
    """
    output = SongBatch(segments)
    source = os.path.basename(path)
    try:
        with open_file(path) as file:
            songs = SongFile(file, segments)
            start, stop = max(start, 0), min(stop, songs.count)
            for first in range(start, stop, _ROWS_AT_A_TIME):
                rows = read_rows(songs, first, min(first + _ROWS_AT_A_TIME, stop))
                for i, row in enumerate(rows, first):
                    output.add(i, source, f"row {i}", row)
    except Damage as damage:
        raise _unusable(path, damage) from damage
    return output.batch(max(0, stop - start))


def _unusable(path: str, damage: Damage) -> SourceError:
    detail = f" ({damage.detail})" if damage.detail else ""
    return SourceError(
        f"{path}: {damage.reason}{detail}; give an HDF5 file of the Million Song Dataset with the "
        "tables /metadata/songs, /analysis/songs and /musicbrainz/songs"
    )
