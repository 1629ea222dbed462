"""From songs to labels and feature vectors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from pydantic import field_validator

from fusionrec.features.pretraining.settings import MlmSettings
from fusionrec.models.settings import FusionSettings
from pipelines.config.section import Gpus, Section
from pipelines.config.section import key as _key

BuiltIn = Literal["metadata", "lyrics", "audio"]
"""What a song is embedded from; each is a module of `pipelines.embed`."""

BUILT_IN: tuple[BuiltIn, ...] = get_args(BuiltIn)

Modality = str
"""One of these, or the key of `source.tables.features` whose vectors of one's own it is."""

TAKEN = frozenset(
    {
        *("terms", "tags", "artist", "album", "names", "titles", "year", "encoder"),
        *("lists", "walks", "links", "fame", "all", "word2vec", "reports"),
        *("progress", "gpus", "choices", "lease", "kept_results"),
    }
)
"""What vectors of one's own cannot be called: similarities and modalities of signals, whose names a
reason has side by side with theirs, and what else lies beside them in the results of embed."""


def check_modalities(key: str, modalities: Iterable[str], own: Iterable[str]) -> None:
    """Raise a ValueError for a modality that there is not.

    Parameters
    ----------
    key
        Where the modalities are named.
    own
        Keys of `source.tables.features`, or none where the source is no tables.
    """
    known = (*BUILT_IN, *own)
    for modality in modalities:
        if modality not in known:
            raise ValueError(
                f"{key} names the modality {modality!r}: there are {', '.join(known)}; vectors of "
                "your own are named by source.tables.features, where source.format is not msd"
            )


class LabelConfig(Section):
    """Tags into classes (paper 3.1.1, 3.1.2, 5.1)."""

    embedding: Literal["multihot", "word2vec"] = _key("word2vec", "label embedding f")
    source: Literal["mbtags", "terms"] = _key(
        "mbtags", "MusicBrainz tags (the paper's) or Echo Nest terms"
    )
    k: int = _key(6, "number of classes", ge=2, le=1000)
    dimension: int = _key(100, "m, the Word2Vec label embedding's size", ge=2, le=2000)
    epochs: int = _key(20, "Word2Vec passes over the tag lists", ge=1)
    fit_on: Literal["train", "all"] = _key(
        "train", "songs that Word2Vec and K-Means see; `all` is the `paper` protocol's"
    )


class MetadataConfig(Section):
    """Metadata features (paper 3.1.4)."""

    dimension: int = _key(100, "size of each field's Word2Vec", ge=2, le=2000)
    epochs: int = _key(10, "Word2Vec passes over a field", ge=1)
    threads: int = _key(
        1, "threads of a field's Word2Vec; with more than one, two runs differ a little", ge=1
    )
    vectors: str | None = _key(
        None, "word2vec file (text or .bin) to start each field's Word2Vec from"
    )


class LyricsConfig(Section):
    """Lyrics features (paper 3.1.5, 5.2)."""

    encoder: str = _key(
        "FacebookAI/roberta-base",
        "hub name or local folder of the transformer (of one with a decoder, the encoder half), "
        "or `pretrain` for one trained on the corpus",
    )
    long: Literal["cut", "windows"] = _key(
        "cut",
        "of lyrics as text that are longer than the encoder takes: the beginning, or the mean of "
        "windows of that length, by their tokens; bags are not meant",
    )
    tfidf: Literal["sklearn", "printed"] = _key(
        "sklearn", "TfidfVectorizer's weights, or the formula as the paper prints it"
    )
    words: int = _key(
        128, "most significant words of a bag (not of a text) that are encoded", ge=1, le=5000
    )
    pooling: Literal["cls", "mean", "last"] = _key(
        "cls",
        "the first token's vector (CLS), the mean over tokens, or the last token's; a causal "
        "model's first token sees no other, so there cls is refused",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = _key(
        "auto", "the encoder's precision; auto: bfloat16 where a trial shows that it pays"
    )
    token_budget: int | None = _key(
        None, "tokens in one batch; null for 4,096 on a CPU and 65,536 on a GPU", ge=16
    )
    compiled: bool = _key(
        False,
        "compile the model with torch.compile, for architectures that cannot be packed "
        "(RoBERTa's and BERT's can, which is quicker)",
    )
    num_gpus: Gpus = _key(
        "auto",
        "GPUs of one encoder actor; auto: one where the cluster has or may bring a GPU that "
        "PyTorch sees; 0 runs it on the CPU",
    )

    @field_validator("dtype", mode="before")
    @classmethod
    def _exact_enough(cls, value: object) -> object:
        if value == "int8":
            raise ValueError(
                "8-bit integers are not offered: on a pre-trained encoder the worst cosine to "
                "float32 was .985 to .995, whatever the processor; take auto or bfloat16"
            )
        return value


class EmbedConfig(Section):
    """Modalities into vectors."""

    modalities: tuple[Modality, ...] = _key(
        ("metadata", "lyrics"),
        "the modalities that are embedded and fused: metadata, lyrics, audio, and keys of "
        "source.tables.features",
        min_length=1,
    )
    metadata: MetadataConfig = MetadataConfig()
    lyrics: LyricsConfig = LyricsConfig()


class PretrainConfig(Section):
    """The small RoBERTa of `embed.lyrics.encoder: pretrain` (masked-word modelling)."""

    workers: int = _key(
        1, "Ray Train data-parallel workers; 0 trains in one task without Ray Train", ge=0
    )
    num_gpus: Gpus = _key(
        "auto",
        "GPUs of one worker; auto: one each where the cluster has or may bring as many as there "
        "are workers; 0 trains on CPUs",
    )
    hidden_size: int = _key(MlmSettings.hidden_size, "width of the encoder", ge=8)
    layers: int = _key(MlmSettings.layers, "transformer layers", ge=1)
    heads: int = _key(MlmSettings.heads, "attention heads; divides hidden_size", ge=1)
    positions: bool = _key(
        MlmSettings.positions,
        "the encoder sees words with their counts and the place of each; false: the words "
        "alone, as a set",
    )
    epochs: int = _key(MlmSettings.epochs, "passes over the bags", ge=1)
    batch_size: int = _key(MlmSettings.batch_size, "bags in a batch, over all workers", ge=1)
    learning_rate: float = _key(MlmSettings.learning_rate, "AdamW's peak rate", gt=0)
    mask_probability: float = _key(
        MlmSettings.mask_probability, "share of the tokens that are to be predicted", gt=0, lt=1
    )
    heldout_share: float = _key(
        MlmSettings.heldout_share,
        "share of the bags that only measure the perplexity",
        gt=0,
        le=0.5,
    )
    dtype: Literal["auto", "float32", "bfloat16"] = _key(
        MlmSettings.dtype,
        "precision of the matrix products; auto: bfloat16 where the hardware has it",
    )
    max_bags: int = _key(50_000, "bags used at most, chosen by hash", ge=1)


Operator = Literal["concatenate", "add", "multiply", "max", "min", "mean", "gated"]


class FuseConfig(Section):
    """Scaling, PCA and the fusion operator (paper 3.2, 5.3)."""

    modalities: tuple[Modality, ...] | None = _key(
        None, "the modalities that are fused; all of embed.modalities, if null", min_length=1
    )
    variance: float = _key(0.95, "share of the variance PCA keeps", gt=0, le=1)
    operator: Operator = _key(
        FusionSettings.operator,
        "how the modalities become one vector; `gated`: a mean with learned weights for each song",
    )
    align: Literal["project", "pad", "truncate"] = _key(
        FusionSettings.align,
        "bring the modalities to one size, for all operators but concatenate: by a learned "
        "projection, or by padding or truncating their principal components",
    )
    width: int = _key(FusionSettings.width, "that size under `project`", ge=1, le=10_000)
    missing: Literal["neutral", "learned", "drop"] = _key(
        FusionSettings.absent,
        "a modality that a song does not have is left out of the operator (in concatenate, the "
        "training mean stands there), replaced by a learned vector, or the song is left out "
        "(and counted)",
    )

    @property
    def blockwise(self) -> bool:
        """PCA is fitted for each modality, and the network sees their borders.

        Otherwise, as in the paper, PCA is fitted on the concatenation.
        """
        return self.operator != "concatenate" or self.missing == "learned"
