"""The blend of signals: what is blended, and how its weights are learned."""

from __future__ import annotations

from fusionrec.signals.settings import BlendSettings
from pipelines.config.section import Section
from pipelines.config.section import key as _key


class BlendRun(Section):
    """What a blend is made of."""

    signals: tuple[str, ...] | None = _key(
        None,
        "the signals by name; null for all, with those of the context if it is used",
        min_length=1,
    )
    context: bool = _key(
        True,
        "use what others say of the artist: similar artists, hotttnesss, familiarity; without it, "
        "a song is what it is alone (audio, lyrics, names, year, tags, terms)",
    )
    other_plays: bool = _key(
        True, "learn also from the plays of songs that are not in the catalogue"
    )

    @property
    def name(self) -> str:
        """Its name in tables."""
        kinds = "content+context" if self.context else "content"
        what = kinds if self.signals is None else "+".join(self.signals)
        return f"blend {what}, other plays" if self.other_plays else f"blend {what}"


class BlendConfig(BlendRun):
    """The blend that `recommend.model: blend` ranks by."""

    rank: int = _key(
        BlendSettings.rank,
        "dimensions of the blend's vectors; its signals side by side have four times as many",
        ge=1,
        le=4096,
    )
    # All eigenvectors of a dense matrix of so many songs are computed.
    landmarks: int = _key(
        BlendSettings.landmarks,
        "songs, those with most listeners, that a similarity's features are made of",
        ge=1,
        le=16_384,
    )
    tune: bool = _key(
        BlendSettings.tune,
        "choose the signals' own settings on the inner folds; else they are as the method has them",
    )
    users: int = _key(
        BlendSettings.users, "users of each inner fold that the weights are learned from", ge=1
    )
    # A signal's scores are of a list less their mean: of one song alone, nothing.
    others: int = _key(BlendSettings.others, "songs sampled against those that they played", ge=2)
