"""Lyrics of new songs, by the words, the weights and the encoder of a workspace."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fusionrec import schemas
from fusionrec.errors import DataError
from fusionrec.formats.tables.lyrics import words_of
from fusionrec.tables import matrix
from pipelines.runtime.workspace import Workspace
from pipelines.words import stored_weights

log = logging.getLogger("fusionrec")

_PRETRAIN, _TEXTS = "pretrain", "lyrics_text"
_MOST = int(np.iinfo(np.int16).max)
"""At which counts are capped, as those of the sources."""


@dataclass(frozen=True)
class NewLyrics:
    """What encodes them, each part read when it is first needed."""

    workspace: Workspace

    def vectors(
        self, given: pa.Table, songs: pa.Table, *, tell: bool = True
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Vectors, float32 (n, H), zeros without lyrics; and which songs have them, bool (n,).

        Parameters
        ----------
        given
            Columns `words` and `counts`, or `text`; none of them: no song has lyrics. A text is
            read as it stands where the corpus's texts were, and the song's words are not looked
            at; else it is read by its words.
        songs
            Column `song_id`, row by row the same songs, each once.
        tell
            Whether words that the corpus does not have are counted in the log.
        """
        ids = songs["song_id"].combine_chunks()
        text = _text(given)
        as_text = self._as_text(text)
        bags = self._bags(_words(given, text), ids, as_text, tell)
        if not bags.num_rows and not as_text.any():
            dimension = self.workspace.require("embed")["counts"]["lyrics"]["dimension"]
            return np.zeros((len(songs), dimension), np.float32), np.zeros(len(songs), bool)
        # Imported here: they bring torch and transformers with them.
        from fusionrec.features.lyrics.shard import features, prepare
        from fusionrec.features.lyrics.tokens import usual_budget

        settings, (tokenizer, read, encoder) = self._settings, self._encoder
        # Whose lyrics they are is told by the song's own id: a track's may be missing.
        tracks = pa.table({"track_id": ids})
        texts = pa.table({"track_id": ids, "text": text}, schema=schemas.LYRICS_TEXT)
        prepared = prepare(
            tracks,
            bags,
            tokenizer,
            self._weights if bags.num_rows else np.zeros(len(self._vocabulary)),
            scheme=settings["tfidf"],
            words=settings["words"],
            token_budget=usual_budget("cpu"),
            texts=texts.filter(pa.array(as_text)),
            read=read,
        )
        batches = iter([prepared.batches])
        (found,) = encoder.encode_batches(batches, pooling=settings["pooling"])
        lengths = prepared.batches.tokens.lengths
        table = features(ids, prepared.rows, found, lengths)
        present = table["present"].to_numpy(zero_copy_only=False)
        return matrix(table["vector"]), present

    def counts(self, given: pa.Table, songs: pa.Table) -> csr_array:
        """Counts of the corpus's words, float32 (n, words): an empty row of a song without lyrics.

        Of a text, those of its words, whatever the encoder reads.

        Parameters
        ----------
        given, songs
            As of :meth:`vectors`.
        """
        ids = songs["song_id"].combine_chunks()
        bags = self._bags(_words(given, _text(given)), ids, np.zeros(len(ids), bool))
        rows = pc.index_in(bags["track_id"], value_set=ids).to_numpy()
        lengths = pc.list_value_length(bags["words"]).to_numpy()
        places = (np.repeat(rows, lengths), pc.list_flatten(bags["words"]).to_numpy())
        counts = pc.list_flatten(bags["counts"]).to_numpy().astype(np.float32)
        return csr_array((counts, places), shape=(len(ids), len(self._vocabulary)))

    def present(self, given: pa.Table, songs: pa.Table) -> NDArray[np.bool_]:
        """Which songs have lyrics, as :meth:`vectors` tells it, bool (n,); nothing is encoded."""
        ids, text = songs["song_id"].combine_chunks(), _text(given)
        as_text = self._as_text(text)
        bags = self._bags(_words(given, text), ids, as_text, tell=False)
        has = pc.is_in(ids, value_set=bags["track_id"].combine_chunks())
        return np.asarray(as_text | np.array(has), bool)

    def _as_text(self, text: pa.Array) -> NDArray[np.bool_]:
        """Which songs are read as text, as the corpus's texts were."""
        if not self._reads_text:
            return np.zeros(len(text), bool)
        return np.array(pc.not_equal(pc.utf8_trim_whitespace(text), ""))

    # --- of the workspace ------------------------------------------------------------------

    @cached_property
    def _settings(self) -> dict[str, Any]:
        embed = self.workspace.require("embed")
        settings = dict(embed["content"]["settings"]["embed"]["lyrics"])
        # What was decided for all of the songs, where the config left it open.
        if "lyrics_precision" in embed["choices"]:
            settings["dtype"] = embed["choices"]["lyrics_precision"][0]
        return settings

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        return stored_weights(self.workspace, self._settings["tfidf"])

    @cached_property
    def _vocabulary(self) -> pa.Array:
        return self.workspace.read("ingest", "vocabulary")["word"].combine_chunks()

    @cached_property
    def _reads_text(self) -> bool:
        """Whether the corpus's lyrics went to the encoder as they are written."""
        of_texts = bool(self.workspace.parts("ingest", _TEXTS))
        return of_texts and self._settings["encoder"] != _PRETRAIN

    @cached_property
    def _encoder(self) -> tuple[Any, Any, Any]:
        """What makes token ids of words, and of texts if the encoder reads them; the encoder."""
        from fusionrec.features.lyrics.encoder import load_encoder
        from fusionrec.features.lyrics.pieces import WordTokenizer
        from fusionrec.features.lyrics.recipes import recipe_of, text_tokenizer_of

        with self._encoder_folder() as name:
            recipe = recipe_of(name, tuple(self._vocabulary.to_pylist()))
            long = self._settings.get("long", "cut")
            read = text_tokenizer_of(name, long) if self._reads_text else None
            encoder = load_encoder(name, device="cpu", dtype=self._settings["dtype"])
        return WordTokenizer(recipe), read, encoder

    @contextmanager
    def _encoder_folder(self) -> Iterator[str]:
        """The encoder's name, or a folder that holds the workspace's own for a while."""
        if self._settings["encoder"] != _PRETRAIN:
            yield self._settings["encoder"]
            return
        with tempfile.TemporaryDirectory() as scratch:
            for info in self.workspace.files("pretrain", "model"):
                content = self.workspace.read_bytes("pretrain", "model", info.base_name)
                (Path(scratch) / info.base_name).write_bytes(content)
            yield scratch

    # --- of the songs ----------------------------------------------------------------------

    def _bags(
        self,
        words: Iterator[Counter[str]],
        ids: pa.Array,
        as_text: NDArray[np.bool_],
        tell: bool = True,
    ) -> pa.Table:
        """Bags of the words that the workspace knows, as the schema of lyrics has them.

        Of the songs that are not read as text.
        """
        of_songs = zip(ids.to_pylist(), words, as_text.tolist(), strict=True)
        bags = [(song, self._known(found)) for song, found, read in of_songs if not read]
        unknown = sum(lost for _, (_, lost) in bags)
        if unknown and tell:
            log.warning("song_vectors: %s words of the lyrics are not in the vocabulary", unknown)
        spoken = [(song, bag) for song, (bag, _) in bags if bag]
        columns = {
            "track_id": [song for song, _ in spoken],
            "mxm_id": [0] * len(spoken),
            "words": [list(bag) for _, bag in spoken],
            "counts": [[min(count, _MOST) for count in bag.values()] for _, bag in spoken],
        }
        return pa.table(columns, schema=schemas.LYRICS)

    def _known(self, words: Counter[str]) -> tuple[dict[int, int], int]:
        """Counts by position in the vocabulary, ascending, and how many words are not in it."""
        rows = pc.index_in(pa.array(list(words), pa.string()), value_set=self._vocabulary)
        found = dict(zip(rows.to_pylist(), words.values(), strict=True))
        known = {row: found[row] for row in sorted(row for row in found if row is not None)}
        return known, rows.null_count


def _words(given: pa.Table, text: pa.Array) -> Iterator[Counter[str]]:
    """What words each song has, and how often: those that are given, or else those of the text.

    Raises
    ------
    DataError
        Words have no counts, or other than one each, or something is no word or no count.
    """
    if "words" not in given.column_names:
        yield from map(Counter, words_of(text).to_pylist())
        return
    if "counts" not in given.column_names:
        raise DataError(
            "songs: column words has no column counts beside it: give how often each is"
        )
    pairs = zip(given["words"].to_pylist(), given["counts"].to_pylist(), strict=True)
    for row, (words, counts) in enumerate(pairs, 1):
        for name, found in (("words", words), ("counts", counts)):
            if found is not None and not isinstance(found, list):
                raise DataError(f"songs: row {row}: {name} is {found!r}: give a list")
        if len(words or ()) != len(counts or ()):
            raise DataError(
                f"songs: row {row}: {len(words or ())} words and {len(counts or ())} counts: give "
                "one count for each word"
            )
        bag: Counter[str] = Counter()
        for word, count in zip(words or (), counts or (), strict=True):
            if not isinstance(word, str):
                raise DataError(f"songs: row {row}: a word is {word!r}: give words as text")
            if not isinstance(count, int | float) or not (count >= 1 and count == count // 1):
                raise DataError(
                    f"songs: row {row}: the count of {word} is {count!r}: give a whole number of 1 "
                    "or more"
                )
            bag[word] += int(count)
        yield bag


def _text(given: pa.Table) -> pa.Array:
    """Lyrics as they are written, "" of a song without."""
    if "text" not in given.column_names:
        return pa.array([""] * given.num_rows, pa.string())
    column = given["text"]
    kind = column.type
    if not (pa.types.is_null(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(f"songs: column text is of type {kind}: give lyrics as text")
    return pc.fill_null(column.cast(pa.string()), "").combine_chunks()
