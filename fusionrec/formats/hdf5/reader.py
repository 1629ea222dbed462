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
from fusionrec.errors import SourceError
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

_ROWS_AT_A_TIME = 256  # about 2.5 million numbers a segment array
_SKIPPED_DIRECTORY = "AdditionalFiles"  # holds the summary file, beside the tracks' tree


def read_tracks(
    paths: Sequence[str],
    root: str = "",
    *,
    segments: bool = False,
    watch: Callable[[str], AbstractContextManager[bool]] = lambda path: nullcontext(True),
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
        if it gives False, the file is rejected unread.

    Returns
    -------
    Batch
        `table` in schema :data:`fusionrec.schemas.SONGS` and, if asked for, `segments` in
        :data:`fusionrec.schemas.SEGMENTS`, a row a song in the order of `paths`. Unusable
        files are in `rejects`, action `dropped`; unusable fields, action `nulled`. The
        arrays of a file that has none at all (a one-row summary) are empty.
    """
    songs = SongBatch(segments, len(paths))
    prefix = f"{root.partition('?')[0].rstrip('/')}/" if root else ""

    def name_of(number: int) -> str:
        path = paths[number]
        return path.removeprefix(prefix) if prefix else os.path.basename(path)

    for number, path in enumerate(paths):
        if not _add_directly(songs, number, path):
            item = os.path.splitext(os.path.basename(path))[0]
            row: Row | Damage = Damage("crashes the HDF5 library")
            with watch(path) as allowed:
                if allowed:
                    row = read_by_libhdf5(path, segments, partial(_learn, songs, path))
            songs.add(number, name_of(number), item, row)
    return songs.batch(len(paths), name_of)


def _add_directly(songs: SongBatch, number: int, path: str) -> bool:
    """Read a file without libhdf5, if its layout is known."""
    if not files.is_uri(path):
        return songs.direct.add_file(number, path)
    filesystem, inner = files.resolve(path)
    try:
        with filesystem.open_input_file(inner) as file:
            return songs.direct.add_remote(number, file.size(), file.read_at)
    except OSError:
        return False


def _learn(songs: SongBatch, path: str, file: h5py.File, row: Row) -> None:
    """Learn a file's layout, and try whether compiled code reads it as libhdf5 did."""
    with files.open_binary(path) as raw:
        head = raw.read(HEAD_BYTES)
    if not songs.direct.learn(file, head):
        return
    directly = SongBatch(songs.direct.segments)
    finding = probes.attempt(lambda: _difference(directly, path, row))
    songs.direct.judge(finding)


def _difference(directly: SongBatch, path: str, row: Row) -> str:
    """In what a file read directly is another than the row that libhdf5 read."""
    if not _add_directly(directly, 0, path):
        return ""  # its kind of file goes to libhdf5 anyhow
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


def is_aggregate(path: str) -> bool:
    """Whether the file holds more than one song; False for a damaged one."""
    try:
        with open_file(path) as file:
            return row_count(tables(file)) > 1
    except Damage:
        return False


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


def track_dirs(root: str) -> list[str]:
    """Folders below `root` that hold tracks; see :func:`track_counts`."""
    return [folder for folder, _ in track_counts(root)]


def track_counts(root: str, below: str = "") -> list[tuple[str, int]]:
    """Folders below `root` (or below its `data`, if it has one) that hold `.h5` files.

    One folder is listed at a time, and only its name and number of files are kept.

    Parameters
    ----------
    root
        Local path or URI.
    below
        Begin at this folder, one of :func:`tops`.

    Returns
    -------
    list of (str, int)
        Sorted paths for :func:`track_files`, `A/B/C` in the official tree and `.` for files
        that lie in the top folder itself, and how many tracks each holds.
        `AdditionalFiles` and hidden folders are left out.

    Raises
    ------
    SourceError
        `root` is not a folder.
    """
    base = _base(root)
    found: list[tuple[str, int]] = []
    waiting = [below]
    while waiting:
        folder = waiting.pop()
        where = files.join(base, folder) if folder not in ("", ".") else base
        try:
            folders, names = files.list_folder(where)
        except OSError as error:
            raise _unlisted(where, error) from error
        count = sum(_is_track(name) for name in names)
        if count:
            found.append((folder or ".", count))
        # What lies in the top folder itself is listed as ".", not again with the folders.
        if folder != ".":
            waiting += [
                f"{folder}/{name}" if folder else name for name in folders if _entered(name)
            ]
    return sorted(found)


def tops(root: str) -> list[str]:
    """Where :func:`track_counts` can begin so that all of them together list the whole tree."""
    return [".", *(name for name in files.list_folder(_base(root))[0] if _entered(name))]


def track_folder(root: str, directory: str) -> str:
    """Full path of one folder of :func:`track_dirs`."""
    base = _base(root)
    return base if directory == "." else files.join(base, directory)


def _unlisted(folder: str, error: OSError) -> SourceError:
    return SourceError(
        f"{folder}: cannot be listed ({error.strerror or error}); "
        "check the folder of the HDF5 files"
    )


def _entered(name: str) -> bool:
    return name != _SKIPPED_DIRECTORY and not name.startswith(".")


def track_files(root: str, directory: str) -> list[str]:
    """Full paths, sorted, of the `.h5` files in one folder of :func:`track_dirs`.

    Raises
    ------
    SourceError
        The folder does not exist or cannot be listed.
    """
    folder = track_folder(root, directory)
    try:
        names = files.list_folder(folder)[1]
    except OSError as error:
        raise _unlisted(folder, error) from error
    return [files.join(folder, name) for name in names if _is_track(name)]


def _base(root: str) -> str:
    if not files.is_folder(root):
        raise SourceError(
            f"{root}: no such folder; give the folder that holds the HDF5 tree A/B/C/*.h5"
        )
    data = files.join(root, "data")
    return data if files.is_folder(data) else root


def _is_track(name: str) -> bool:
    return name.endswith(".h5") and not name.startswith(".")


def _unusable(path: str, damage: Damage) -> SourceError:
    detail = f" ({damage.detail})" if damage.detail else ""
    return SourceError(
        f"{path}: {damage.reason}{detail}; give an HDF5 file of the Million Song Dataset with the "
        "tables /metadata/songs, /analysis/songs and /musicbrainz/songs"
    )
