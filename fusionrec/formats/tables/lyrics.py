"""Songs' words: lyrics as they are written, or counted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.formats.batch import Batch
from fusionrec.formats.tables import lists, values
from fusionrec.formats.tables.reading import columns_of, read_head, read_range
from fusionrec.formats.tables.rows import Rows
from fusionrec.formats.tables.spec import TableSpec
from fusionrec.formats.trouble import patient

SCHEMA = pa.schema(
    [
        ("track_id", pa.string()),
        ("text", pa.string()),
        ("words", pa.list_(pa.string())),
        ("counts", pa.list_(pa.int32())),
    ]
)
"""What :func:`read_lyrics` returns."""

_MOST = 2**31 - 1
_NO_WORD = r"[^\p{L}\p{M}\p{N}']+"
_QUOTES = r"(?:^|\s)'+|'+(?:\s|$)"


@patient
def read_lyrics(path: str, spec: TableSpec, start: int = 0, stop: int | None = None) -> Batch:
    """Read the lyrics of a range that :func:`ranges` gave.

    Words are those of the column `words`, if there is one. Beside a column `counts` they are lists,
    as are the counts: Arrow's, or text, `love|you` beside `3|2`, cut at `spec.separator` or in
    brackets. Without one they are lists, a word as often as it stands there; or, row by row, text
    in brackets, which is such a list; a JSON object of words and counts; or words between white
    space, `love:3 you:2`. Else they are counted in `text`: runs of letters, marks and digits of
    any script, and the apostrophes within them, in lower case. (In scripts without spaces that is
    a phrase.)

    Returns
    -------
    Batch
        `table` in schema :data:`SCHEMA`: track_id is the song's id unless the file has a column
        `track_id`; text is null where there is none; words, each once, in the order of their first
        occurrence. Rows without an id, or whose words and counts do not match, are rejects, action
        `dropped`; those without text and words action `excluded`.

    Raises
    ------
    SourceError
        The file is unreadable, lacks a column, or has one of an unusable type.
    """
    columns = columns_of(path, spec)
    name = "track_id" if "track_id" in columns else "song_id"
    wanted = {label: of for label, of in columns.items() if label == name or label not in _IDS}
    of_floats = values.head_is_of_floats(read_head(path, spec)[columns[name]])
    cleaner = _Cleaner(name, of_floats, spec.separator)
    return read_range(path, spec, wanted, start, stop, cleaner.clean, SCHEMA)


_IDS = ("song_id", "track_id")


class _Cleaner:
    def __init__(self, name: str, of_floats: bool, separator: str) -> None:
        self.name, self.of_floats, self.separator = name, of_floats, separator

    def clean(self, rows: Rows) -> tuple[pa.Table, int]:
        table = rows.table
        alive = rows.alive
        ids, damaged = values.of_column(self.name, values.ids, table[self.name], self.of_floats)
        rows.drop(np.asarray(ids.is_null()), f"empty {self.name}", table[self.name])
        text = pa.nulls(len(table), pa.string())
        if "text" in table.column_names:
            text, of_text = values.of_column("text", values.texts, table["text"])
            damaged += of_text
        if "words" in table.column_names:
            words, counts, of_words = self._given(rows, alive)
            damaged += of_words
        else:
            words = words_of(text)
            counts = np.ones(len(words.flatten()), np.int64)
        words, summed = _each_once(words, counts)
        none = np.asarray(text.is_null()) & (lists.lengths(words) == 0)
        if (none & alive).any():
            rows.note(none & alive, "no lyrics", table[self.name], "excluded")
            alive &= ~none
        found = pa.Table.from_arrays([ids, text, words, summed], schema=SCHEMA)
        return (found if alive.all() else found.filter(pa.array(alive))), damaged

    def _given(
        self, rows: Rows, alive: values.Bools
    ) -> tuple[pa.ListArray, npt.NDArray[np.int64], int]:
        """Words, and how often each is there."""
        column = rows.table["words"]
        given = "counts" in rows.table.column_names
        if not given and values.is_text(values.plain(column).type):
            words, counts, damaged = values.of_column("words", _counted, column)
        else:
            words, damaged = values.of_column("words", lists.texts, column, self.separator)
            counts = np.ones(len(words.flatten()))
        if given:
            numbers = values.of_column(
                "counts", lists.numbers, rows.table["counts"], self.separator
            )
            differ = lists.lengths(numbers) != lists.lengths(words)
            rows.drop(differ, "counts do not match words", rows.table["counts"])
            words = lists.emptied(words, differ)
            numbers = lists.emptied(numbers, differ)
            counts = numbers.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
        with np.errstate(invalid="ignore"):
            sound = (counts == np.floor(counts)) & (counts > 0) & (counts <= _MOST)
        of = np.repeat(np.arange(len(words)), lists.lengths(words))
        wrong = np.zeros(len(words), bool)
        wrong[of[~sound]] = True
        rows.drop(wrong, "counts are not whole numbers above 0", column)
        return words, np.where(sound, counts, 0).astype(np.int64), damaged


def _counted(column: pa.ChunkedArray) -> tuple[pa.ListArray, npt.NDArray[np.float64], int]:
    """Words of text without counts beside it, their counts, and how many values were damaged.

    What becomes of a row must not depend on how others are written.
    """
    text, _ = values.texts(column)
    words, damaged = lists.texts(column, None)
    items = words.flatten()
    of = np.repeat(np.arange(len(words)), lists.lengths(words))
    is_list = values.flags(pc.match_substring_regex(text, r"(?s)^\[.*\]$"))[of]
    is_object = values.flags(pc.match_substring_regex(text, r"(?s)^\{.*\}$"))[of]
    counts = np.ones(len(items))
    with_count = values.flags(pc.match_substring_regex(items, r"(?s)^.+:[^:]*$"))
    with_count &= ~is_list & ~is_object
    if with_count.any():
        told = pc.replace_substring_regex(items, r"(?s)^.*:", "")
        counts = np.where(with_count, values.numbers(told)[0], counts)
        bare = pc.replace_substring_regex(items, r":[^:]*$", "")
        words = lists.rebuilt(words, pc.if_else(pa.array(with_count), bare, items))
    if is_object.any():
        told = lists.numbers(column, None).flatten()
        told = told.to_numpy(zero_copy_only=False).astype(np.float64)
        counts = np.where(is_object, told, counts)
    return words, counts, damaged


def words_of(text: pa.Array) -> pa.ListArray:
    """The words of each text in their order, as :func:`read_lyrics` says; none of a null."""
    lower = pc.utf8_lower(pc.replace_substring(text, "\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    bare = pc.replace_substring_regex(lower, _NO_WORD, " ")
    # Twice: two words share the space between their quotes.
    for _ in range(2):
        bare = pc.replace_substring_regex(bare, _QUOTES, " ")
    trimmed = pc.utf8_trim_whitespace(pc.replace_substring_regex(bare, " +", " "))
    found = lists.plain_lists(pc.split_pattern(trimmed, " "))
    return lists.without_empty(lists.rebuilt(found, _null_if_empty(found.flatten())), None)[0]


def _null_if_empty(items: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(items, ""), pa.scalar(None, pa.string()), items)


def _each_once(
    words: pa.ListArray, counts: npt.NDArray[np.int64]
) -> tuple[pa.ListArray, pa.ListArray]:
    """Each list's words once, in the order of their first occurrence, and their counts' sums."""
    of = np.repeat(np.arange(len(words)), lists.lengths(words))
    items = words.flatten()
    there = np.asarray(items.is_valid())
    items, of, counts = items.filter(pa.array(there)), of[there], counts[there]
    coded = items.dictionary_encode()
    keys = of * max(len(coded.dictionary), 1) + coded.indices.to_numpy().astype(np.int64)
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    sums = np.bincount(which, counts, len(first))
    order = np.argsort(first)
    kept = items.take(pa.array(first[order]))
    lengths = np.bincount(of[first], minlength=len(words))
    summed = np.minimum(sums[order], _MOST).astype(np.int32)
    return lists.of_lengths(kept, lengths), lists.of_lengths(pa.array(summed), lengths)
