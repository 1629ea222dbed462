"""The Taste Profile subset and the Million Song Dataset Challenge's listening data.

(Öman & Choi, section 4) names the Taste Profile as its listening data.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

from fusionrec.errors import SourceError
from fusionrec.formats.batch import Batch, Rejects
from fusionrec.formats.text import LineReader, decode, excerpt, rows_to_batch
from fusionrec.formats.trouble import patient
from fusionrec.schemas import TRIPLETS

MISMATCHES = pa.schema([("song_id", pa.string()), ("track_id", pa.string())])
SONG_TO_TRACKS = pa.schema([("song_id", pa.string()), ("track_ids", pa.list_(pa.string()))])
UNIQUE_TRACKS = pa.schema(
    [
        ("track_id", pa.string()),
        ("song_id", pa.string()),
        ("artist_name", pa.string()),
        ("title", pa.string()),
    ]
)

_TAB, _NEWLINE, _SPACE, _QUOTE, _ZERO, _NINE, _DELETE = 9, 10, 32, 34, 48, 57, 127
_MAX_PLAYS = 2**31 - 1
_FAST_DIGITS = 9  # as many always fit an int32
_INTEGER = re.compile(rb"([+-]?[0-9]+)(?:\.0*)?")
_SEPARATORS = {b",": "commas", b";": "semicolons", b"|": "bars", b" ": "spaces"}
_MISMATCH = re.compile(rb"ERROR: <([^\s<>]+) ([^\s<>]+)>")


@patient
def read_triplets(path: str, start: int = 0, stop: int | None = None) -> Batch:
    """Read `user TAB song TAB plays` lines whose first byte lies in `[start, stop)`.

    The same shape serves `train_triplets.txt`, the Challenge's
    `year1_{valid,test}_triplets_{visible,hidden}.txt` and
    `kaggle_visible_evaluation_triplets.txt`. Blank lines are skipped. Repeated (user, song)
    pairs are returned as they are. Fields may be quoted, and counts written as `1.0`.

    Parameters
    ----------
    path
        Text file or zip archive of one (read whole: `start` must be 0).
    start, stop
        Byte range; `stop=None` means the end of the file.

    Returns
    -------
    Batch
        `table` in schema :data:`fusionrec.schemas.TRIPLETS`, in file order. Damaged lines
        are in `rejects` (`item` is the line number), action `dropped`.

    Raises
    ------
    SourceError
        The file is missing, no usable archive, or its beginning has no line of three fields.
    """
    reader = LineReader(path, start, stop)
    rejects = Rejects()
    tables: list[pa.Table] = []
    read = damaged = shaped = 0
    for block in reader.blocks():
        good, table, odd = _parse_block(block.data)
        rows: list[tuple[str, str, int]] = []
        before: list[int] = []
        last = block.data.count(b"\n") - 1
        for i, line in odd:
            if not line.strip():
                continue
            read += 1
            parsed, three, text_damage = _parse_line(line, cut=block.cut and i == last)
            shaped += three
            damaged += text_damage
            if isinstance(parsed, str):
                item = str(reader.number(block.first + i))
                rejects.add(reader.source, item, parsed, excerpt(line))
            else:
                rows.append(parsed)
                before.append(i)
        read += len(table)
        shaped += len(table)
        tables.append(_interleave(table, good, rows, before))
    reader.note_damage(rejects, read)
    if start == 0 and read and not shaped:
        _check_shape(path)
    table = pa.concat_tables(tables) if tables else TRIPLETS.empty_table()
    return Batch(table, rejects.to_table(), read=read, damaged_text=damaged)


def _parse_block(
    data: bytes,
) -> tuple[npt.NDArray[np.int64], pa.Table, list[tuple[int, bytes]]]:
    """Line positions and table of the plainly good lines, and all other lines."""
    bytes_ = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(bytes_ == _NEWLINE)
    starts = np.concatenate(([0], ends[:-1] + 1))
    tabs = np.flatnonzero(bytes_ == _TAB)
    first_tab = np.searchsorted(tabs, starts)
    good = np.searchsorted(tabs, ends) - first_tab == 2
    # Spaces, quotes, control characters and non-ASCII bytes send their line the slow way, which
    # looks at each field; pyarrow's parser would take some of them for something else.
    strange = (bytes_ >= _DELETE) | (bytes_ <= _SPACE) | (bytes_ == _QUOTE)
    strange[tabs] = strange[ends] = False
    if strange.any():
        good[np.searchsorted(ends, np.flatnonzero(strange))] = False
    lines = np.flatnonzero(good)
    one, two = tabs[first_tab[lines]], tabs[first_tab[lines] + 1]
    digits = np.concatenate(([0], np.cumsum((bytes_ >= _ZERO) & (bytes_ <= _NINE))))
    width = ends[lines] - two - 1
    fine = (one > starts[lines]) & (two > one + 1) & (width > 0) & (width <= _FAST_DIGITS)
    fine &= digits[ends[lines]] - digits[two + 1] == width
    fine &= bytes_[two + 1] != _ZERO  # a count of 0, or one with leading zeros
    good[lines[~fine]] = False
    bad = np.flatnonzero(~good)
    odd = [(int(i), data[starts[i] : ends[i]]) for i in bad]
    if len(bad):
        data = bytes_[np.repeat(good, ends - starts + 1)].tobytes()
    return np.flatnonzero(good), _parse_clean(data), odd


def _parse_clean(data: bytes) -> pa.Table:
    if not data:
        return TRIPLETS.empty_table()
    return pa_csv.read_csv(
        pa.BufferReader(data),
        pa_csv.ReadOptions(
            column_names=TRIPLETS.names, use_threads=False, block_size=len(data) + 1
        ),
        pa_csv.ParseOptions(delimiter="\t", quote_char=False, escape_char=False),
        pa_csv.ConvertOptions(
            column_types=TRIPLETS, null_values=[], strings_can_be_null=False, check_utf8=False
        ),
    )


def _parse_line(line: bytes, cut: bool) -> tuple[tuple[str, str, int] | str, bool, int]:
    """One line: its triplet or the reason why not, whether it has three fields, damaged texts."""
    fields = line.split(b"\t")
    three = len(fields) == 3
    if cut and (len(fields) < 3 or (three and not fields[2])):
        return "line cut short", three, 0
    if not three:
        separator = _other_separator(line)
        reason = f"fields separated by {separator}, not by tabs" if separator else ""
        return reason or "not three tab-separated fields", three, 0
    user, song, plays = map(_unquoted, fields)
    if not user or not song:
        return "empty id", three, 0
    integer = _INTEGER.fullmatch(plays)
    if integer is None:
        return "play count is not an integer", three, 0
    plays = integer[1]
    if plays.startswith(b"-") or not plays.strip(b"+0"):
        return "play count is negative or zero", three, 0
    number = plays.lstrip(b"+0")
    # The length comes first: Python refuses to convert thousands of digits.
    if len(number) > 10 or int(number) > _MAX_PLAYS:
        return "play count too large", three, 0
    (user_id, bad_user), (song_id, bad_song) = decode(user), decode(song)
    return (user_id, song_id, int(number)), three, bad_user + bad_song


def _unquoted(field: bytes) -> bytes:
    """A field without the spaces and the quotes around it."""
    field = field.strip()
    if len(field) > 1 and field[0] == field[-1] == _QUOTE and field.count(b'"') == 2:
        return field[1:-1].strip()
    return field


def _other_separator(line: bytes) -> str | None:
    """What separates user, song and plays in a line without tabs, if anything does."""
    for separator, name in _SEPARATORS.items():
        fields = [*map(_unquoted, line.split(separator))]
        if len(fields) == 3 and all(fields) and _INTEGER.fullmatch(fields[2]):
            return name
    return None


def _interleave(
    table: pa.Table,
    good: npt.NDArray[np.int64],
    rows: list[tuple[str, str, int]],
    positions: list[int],
) -> pa.Table:
    """`table`, whose rows are the lines `good`, with `rows` put in at their line positions."""
    if not rows:
        return table
    columns = zip(*rows, strict=True)
    extra = pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, TRIPLETS, strict=True)], schema=TRIPLETS
    )
    order = np.argsort(np.concatenate((good, positions)), kind="stable")
    return pa.concat_tables([table, extra]).take(order)


def _check_shape(path: str) -> None:
    """Raise unless a line of the file's first block has three fields, so that its shape is right.

    Raises
    ------
    SourceError
        It names what separates the fields instead, if that is clear.
    """
    block = next(LineReader(path).blocks(), None)
    lines = [] if block is None else block.data.split(b"\n")
    if any(line.count(b"\t") == 2 for line in lines):
        return
    separators = {found for line in lines if (found := _other_separator(line))}
    if separators:
        raise SourceError(
            f"{path}: its fields are separated by {' or '.join(sorted(separators))}, where user, "
            "song and plays must be separated by tabs; convert the file"
        )
    raise SourceError(
        f"{path}: no line has the three tab-separated fields user, song and plays; give a "
        "triplets file such as train_triplets.txt"
    )


@patient
def read_mismatches(path: str) -> Batch:
    """Read `sid_mismatches.txt`: (song, track) pairs known to be matched wrongly.

    Returns
    -------
    Batch
        `table` with columns song_id, track_id, one row a line `ERROR: <song track> ...`;
        other lines are rejects, action `dropped`.

    Raises
    ------
    SourceError
        The file is missing or unreadable, or none of its lines is of this shape.
    """
    reader, rejects = LineReader(path), Rejects()
    rows: list[tuple[str, str]] = []
    read = damaged = 0
    for position, line, _ in reader.lines():
        if not line.strip():
            continue
        read += 1
        match = _MISMATCH.match(line)
        if match is None:
            item = str(reader.number(position))
            rejects.add(reader.source, item, "not a mismatch line", excerpt(line))
            continue
        (song, bad_song), (track, bad_track) = decode(match[1]), decode(match[2])
        damaged += bad_song + bad_track
        rows.append((song, track))
    reader.note_damage(rejects, read)
    if read and not rows:
        raise SourceError(
            f"{path}: no line reads 'ERROR: <song track> ...'; give the official sid_mismatches.txt"
        )
    return rows_to_batch(rows, MISMATCHES, rejects, read, damaged)


@patient
def read_song_to_tracks(path: str) -> Batch:
    """Read `taste_profile_song_to_tracks.txt`: the tracks of every song, possibly none.

    Returns
    -------
    Batch
        `table` with columns song_id and track_ids, a list of strings; lines without a song
        or with an empty track between two tabs are rejects, action `dropped`.

    Raises
    ------
    SourceError
        The file is missing or unreadable.
    """
    reader, rejects = LineReader(path), Rejects()
    rows: list[tuple[str, list[str]]] = []
    read = damaged = 0
    for position, line, _ in reader.lines():
        if not line.strip():
            continue
        read += 1
        song, *tracks = (field.strip() for field in line.rstrip().split(b"\t"))
        if not song or not all(tracks):
            rejects.add(reader.source, str(reader.number(position)), "empty id", excerpt(line))
            continue
        texts = [decode(field) for field in (song, *tracks)]
        damaged += sum(bad for _, bad in texts)
        rows.append((texts[0][0], [text for text, _ in texts[1:]]))
    reader.note_damage(rejects, read)
    return rows_to_batch(rows, SONG_TO_TRACKS, rejects, read, damaged)


@patient
def read_unique_tracks(path: str) -> Batch:
    """Read `unique_tracks.txt`: `track<SEP>song<SEP>artist<SEP>title`.

    Returns
    -------
    Batch
        `table` with columns track_id, song_id, artist_name, title; lines with fewer fields
        or without an id are rejects, action `dropped`.

    Raises
    ------
    SourceError
        The file is missing or unreadable, or none of its lines is of this shape.
    """
    reader, rejects = LineReader(path), Rejects()
    rows: list[tuple[str, ...]] = []
    read = damaged = shaped = 0
    for position, line, _ in reader.lines():
        if not line.strip():
            continue
        read += 1
        fields = line.split(b"<SEP>", 3)
        reason = "" if len(fields) == 4 else "not four <SEP>-separated fields"
        shaped += not reason
        if not reason and not (fields[0].strip() and fields[1].strip()):
            reason = "empty id"
        if reason:
            rejects.add(reader.source, str(reader.number(position)), reason, excerpt(line))
            continue
        texts = [decode(field.strip()) for field in fields]
        damaged += sum(bad for _, bad in texts)
        rows.append(tuple(text for text, _ in texts))
    reader.note_damage(rejects, read)
    if read and not shaped:
        raise SourceError(
            f"{path}: no line has four fields divided by <SEP>; give the official unique_tracks.txt"
        )
    return rows_to_batch(rows, UNIQUE_TRACKS, rejects, read, damaged)
