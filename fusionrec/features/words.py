"""Word2Vec over a text field (paper section 3.1.4)."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from fusionrec.errors import ConfigError
from fusionrec.hashing import content_hash, word_hash

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

# `\w` leaves out combining marks, which would cut Hindi words at every vowel sign and
# "İstanbul", lower-cased, after its dot.
_MARKS = "".join(chr(c) for c in range(0x300, 0x1F000) if unicodedata.category(chr(c))[0] == "M")
_WORD = re.compile(rf"\w[\w{_MARKS}]*(?:'\w[\w{_MARKS}]*)*")


def tokenize(text: str | None) -> list[str]:
    """Lower-cased words: letters and digits of any script, with apostrophes inside."""
    if not text:
        return []
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower().replace("’", "'"))


def load_vectors(path: str) -> KeyedVectors:
    """A user's own vectors in the word2vec format, text or binary (``.bin``), gzipped or not.

    Raises
    ------
    ConfigError
        If the file is missing, is a pickle, or is not in the word2vec format.
    """
    from gensim.models import KeyedVectors

    file = _vectors_file(path)
    if file.suffix in (".kv", ".model", ".pkl", ".pickle", ".wordvectors"):
        raise ConfigError(
            f"embed.metadata.vectors: {path}: a pickled model is not loaded, since it could run "
            "code; save it with KeyedVectors.save_word2vec_format"
        )
    try:
        return KeyedVectors.load_word2vec_format(path, binary=".bin" in file.suffixes)
    except (ValueError, EOFError, OSError, MemoryError, OverflowError) as error:
        raise ConfigError(
            f"embed.metadata.vectors: {path}: not in the word2vec format ({error!r}); "
            "text files and .bin files of KeyedVectors.save_word2vec_format are read"
        ) from None


def vectors_fingerprint(path: str) -> str:
    """A hash of the content of a file of vectors, for the keys of what is computed from it.

    Raises
    ------
    ConfigError
        If the file is missing.
    """
    return content_hash([_vectors_file(path)])


def _vectors_file(path: str) -> Path:
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"embed.metadata.vectors: {path}: there is no such file")
    return file


@dataclass(frozen=True)
class FieldWord2Vec:
    """Word vectors of one field.

    Attributes
    ----------
    words
        The words that have a vector.
    vectors
        Float32, shape (words, m).
    """

    words: tuple[str, ...]
    vectors: np.ndarray

    @staticmethod
    def fit(
        texts: Sequence[str | None],
        *,
        dimension: int = 100,
        epochs: int = 10,
        seed: int = 0,
        initial: KeyedVectors | None = None,
        threads: int = 1,
    ) -> FieldWord2Vec:
        """Skip-gram Word2Vec on the field's own texts.

        Parameters
        ----------
        texts
            The field's texts of the training songs.
        dimension, epochs, seed
            m, passes and the seed.
        initial
            Pre-trained vectors; words that occur in both start from them (fine-tuning).
        threads
            On one, the seed decides every bit; more are quicker, and two runs differ a little.

        Raises
        ------
        ConfigError
            If `initial` has another dimension.
        """
        from gensim.models import Word2Vec  # two seconds: for the few workers that need it

        sentences = [tokens for tokens in map(tokenize, texts) if tokens]
        if not sentences:
            return FieldWord2Vec((), np.zeros((0, dimension), np.float32))
        if initial is not None and initial.vector_size != dimension:
            raise ConfigError(
                f"embed.metadata.vectors has {initial.vector_size} dimensions; set "
                f"embed.metadata.dimension to that (it is {dimension})"
            )
        model = Word2Vec(
            vector_size=dimension,
            window=5,
            min_count=1,
            sg=1,
            workers=threads,
            seed=seed,
            hashfxn=word_hash,
        )
        model.build_vocab(sentences)
        if initial is not None:
            for word, row in model.wv.key_to_index.items():
                if word in initial:
                    model.wv.vectors[row] = initial[word]
        model.train(sentences, total_examples=len(sentences), epochs=epochs)
        return FieldWord2Vec(tuple(model.wv.index_to_key), model.wv.vectors.astype(np.float32))

    def transform(self, texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray, int]:
        """Mean of each text's known words.

        Returns
        -------
        tuple
            Float32, shape (n, m), the zero vector for a text without a known word; bool, shape
            (n,), whether any is known; and how many words were not known, in all texts.
        """
        row = {word: i for i, word in enumerate(self.words)}
        means = np.zeros((len(texts), self.vectors.shape[1]), np.float32)
        known = np.zeros(len(texts), bool)
        unknown = 0
        for i, text in enumerate(texts):
            words = tokenize(text)
            rows = [row[word] for word in words if word in row]
            unknown += len(words) - len(rows)
            if rows:
                means[i] = self.vectors[rows].mean(axis=0)
                known[i] = True
        return means, known, unknown

    def to_bytes(self) -> bytes:
        """As safetensors, with the words in its metadata."""
        metadata = {"words": json.dumps(self.words, ensure_ascii=False)}
        content: bytes = save_safetensors({"vectors": self.vectors}, metadata)
        return content

    @staticmethod
    def from_bytes(content: bytes) -> FieldWord2Vec:
        """The inverse of :meth:`to_bytes`."""
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        words = tuple(json.loads(header["__metadata__"]["words"]))
        return FieldWord2Vec(words, load_safetensors(content)["vectors"])
