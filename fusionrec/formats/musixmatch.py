"""The musiXmatch bags of words: text files, zip archives of them, and `mxm_dataset.db`.

(Öman & Choi, section 3.1.5) take their lyrics features from these bags. A bag with one
damaged entry is dropped whole, as its other counts are then in doubt too.
"""

from __future__ import annotations

import os
import sqlite3
from itertools import groupby

import numpy as np
import pyarrow as pa

from fusionrec.errors import SourceError
from fusionrec.formats.batch import Batch, Rejects
from fusionrec.formats.msd_sqlite import connect, unusable
from fusionrec.formats.musixmatch_lines import (
    MAX_COUNT,
    TRACK,
    Bag,
    bags_to_table,
    parse_block,
    parse_line,
)
from fusionrec.formats.text import LineReader, decode, excerpt
from fusionrec.formats.trouble import is_trouble, patient
from fusionrec.schemas import LYRICS

_MAX_WORDS = 2**15
_WORDS_ADVICE = "give mxm_dataset.db, which has the tables words and lyrics"
_LYRICS_OF_RANGE = """
    SELECT track_id, mxm_tid, word, count FROM lyrics
    WHERE track_id IN (
        SELECT DISTINCT track_id FROM lyrics
        WHERE track_id IS NOT NULL ORDER BY track_id LIMIT ? OFFSET ?
    )
    ORDER BY track_id, rowid
"""


@patient
def read_vocabulary(path: str) -> list[str]:
    """Read the words that a musiXmatch file's indices refer to.

    Parameters
    ----------
    path
        `mxm_dataset_{train,test}.txt`, a zip archive of one, or `mxm_dataset.db`.

    Returns
    -------
    list of str
        Index 1 of the text format is position 0 here.

    Raises
    ------
    SourceError
        The file is missing or unreadable, or has no vocabulary of at most 32,768 words.
    """
    if _is_database(path):
        connection = connect(path)
        try:
            rows = connection.execute("SELECT word FROM words ORDER BY rowid").fetchall()
        except sqlite3.Error as error:
            raise unusable(path, error, _WORDS_ADVICE) from error
        finally:
            connection.close()
        words = [row[0] if isinstance(row[0], bytes) else str(row[0]).encode() for row in rows]
    else:
        words = []
        for _, line, _ in LineReader(path).lines():
            if line.startswith(b"%"):
                words = line[1:].strip().split(b",")
            if line.strip() and not line.startswith(b"#"):
                break
    if not any(words) or len(words) > _MAX_WORDS:
        raise SourceError(
            f"{path}: no vocabulary (a line '%word,word,...' before the first track, or a table "
            f"words) of 1 to {_MAX_WORDS:,} words; give a musiXmatch file as published"
        )
    return [decode(word)[0] for word in words]


@patient
def read_lyrics(path: str, start: int = 0, stop: int | None = None) -> Batch:
    """Read the bags whose line's first byte lies in `[start, stop)`.

    Comments, the vocabulary and blank lines are skipped.

    Parameters
    ----------
    path
        Text file, or zip archive of one (read whole: `start` must be 0).
    start, stop
        Byte range; `stop=None` means the end of the file.

    Returns
    -------
    Batch
        `table` in schema :data:`fusionrec.schemas.LYRICS`, in file order. Damaged lines are
        in `rejects`, action `dropped`; `item` is the track id, or the line number where
        that is damaged too. An unreadable mxm id is null, action `nulled`.

    Raises
    ------
    SourceError
        The file is missing, unreadable, or has no vocabulary.
    """
    num_words = len(read_vocabulary(path))
    reader, rejects = LineReader(path, start, stop), Rejects()
    tables: list[pa.Table] = []
    read = 0
    for block in reader.blocks():
        good, table, odd = parse_block(block.data, num_words)
        read += len(table)
        last = block.data.count(b"\n") - 1
        bags: list[Bag] = []
        positions: list[int] = []
        for i, line in odd:
            if not line.strip() or line[:1] in (b"#", b"%"):
                continue
            read += 1
            parsed = parse_line(line, num_words, cut=block.cut and i == last)
            if isinstance(parsed, Bag):
                bags.append(parsed)
                positions.append(i)
                if parsed.mxm_id is None:
                    detail = excerpt(line)
                    rejects.add(reader.source, parsed.track_id, "bad mxm id", detail, "nulled")
                continue
            track = line.split(b",", 1)[0]
            known = TRACK.fullmatch(track)
            item = track.decode("ascii") if known else str(reader.number(block.first + i))
            rejects.add(reader.source, item, parsed, excerpt(line[-60:] if known else line))
        if bags:
            order = np.argsort(np.concatenate((good, positions)), kind="stable")
            table = pa.concat_tables([table, bags_to_table(bags)]).take(order)
        tables.append(table)
    reader.note_damage(rejects, read)
    table = pa.concat_tables(tables) if tables else LYRICS.empty_table()
    return Batch(table, rejects.to_table(), read=read)


@patient
def num_lyrics_db(path: str) -> int:
    """Number of distinct tracks in `mxm_dataset.db`, the range of :func:`read_lyrics_db`.

    Raises
    ------
    SourceError
        The file is missing, no SQLite database, or lacks the table lyrics.
    """
    connection = connect(path)
    try:
        return int(connection.execute("SELECT COUNT(DISTINCT track_id) FROM lyrics").fetchone()[0])
    except sqlite3.Error as error:
        raise unusable(path, error, _WORDS_ADVICE) from error
    finally:
        connection.close()


@patient
def read_lyrics_db(path: str, start: int, stop: int) -> Batch:
    """Read the bags of the tracks `[start, stop)` of `mxm_dataset.db`.

    Tracks count from 0 in ascending order of track id (byte order); the words of a bag are
    in the order of their rows. Both parts, train and test, are read.

    Parameters
    ----------
    path
        The database.
    start, stop
        Range of tracks, out of :func:`num_lyrics_db`.

    Returns
    -------
    Batch
        As of :func:`read_lyrics`; `item` of a reject is the track id.

    Raises
    ------
    SourceError
        The file is missing, no SQLite database, or lacks the tables words and lyrics.
    """
    positions = {word: i for i, word in enumerate(read_vocabulary(path))}
    rejects = Rejects()
    bags: list[Bag] = []
    source = os.path.basename(path)
    read = 0
    connection = connect(path)
    try:
        if start == 0:
            anonymous = "SELECT COUNT(*) FROM lyrics WHERE track_id IS NULL"
            (lost,) = connection.execute(anonymous).fetchone()
            if lost:
                rejects.add(source, "NULL", "bad track id", f"{lost} rows")
        rows = connection.execute(_LYRICS_OF_RANGE, (max(0, stop - start), start))
        for track, entries in groupby(rows, key=lambda row: row[0]):
            read += 1
            track_id = _text(track)
            parsed = _parse_entries(track_id, list(entries), positions)
            if isinstance(parsed, Bag):
                bags.append(parsed)
                if parsed.mxm_id is None:
                    rejects.add(source, track_id, "bad mxm id", action="nulled")
            else:
                rejects.add(source, track_id, *parsed)
    except sqlite3.Error as error:
        if not read or is_trouble(error):
            raise unusable(path, error, _WORDS_ADVICE) from error
        item = f"tracks {start + read - 1} to {stop}"
        rejects.add(source, item, "unreadable database rows", str(error))
    finally:
        connection.close()
    return Batch(bags_to_table(bags), rejects.to_table(), read=read)


def _parse_entries(
    track_id: str, entries: list[tuple[object, ...]], positions: dict[str, int]
) -> Bag | tuple[str, str]:
    """A track's rows (track_id, mxm_tid, word, count): its bag, or a reason and its detail."""
    if not TRACK.fullmatch(track_id.encode()):
        return "bad track id", track_id
    bag: dict[int, int] = {}
    for _, _, raw, count in entries:
        word = _text(raw)
        position = positions.get(word)
        if position is None:
            return "word not in vocabulary", word
        if position in bag:
            return "word repeated", word
        if not isinstance(count, int) or count < 1:
            return "bad count", f"{word}: {_text(count)}"
        bag[position] = min(count, MAX_COUNT)
    mxm = entries[0][1]
    mxm_id = mxm if isinstance(mxm, int) and 0 <= mxm < 2**31 else None
    return Bag(track_id, mxm_id, list(bag), list(bag.values()))


def _text(value: object) -> str:
    return decode(value)[0] if isinstance(value, bytes) else str(value)


def _is_database(path: str) -> bool:
    return path.lower().endswith((".db", ".sqlite", ".sqlite3"))
