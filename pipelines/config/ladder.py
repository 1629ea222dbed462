"""The ladder from the paper's method to the best one."""

from __future__ import annotations

from pydantic import field_validator, model_validator

from pipelines.config.blend import BlendRun
from pipelines.config.compare import FusionRun, Method, is_own
from pipelines.config.section import Section, key


class Rung(Section):
    """A method, and what is new in it."""

    change: str = key("", "what it changes of the rung that it is compared with")
    method: Method = key("fusion", "the method, as in compare.methods")
    fusion: FusionRun | None = key(None, "the network, where the method is `fusion`")
    blend: BlendRun | None = key(None, "the blend, where the method is `blend`")
    beside: bool = key(
        False, "not on the way up: compared with the rung before, but no rung is compared with it"
    )

    @field_validator("method", mode="before")
    @classmethod
    def _is_built_in(cls, method: object) -> object:
        if isinstance(method, str) and is_own(method):
            raise ValueError(
                "a rung is a built-in method; put one of your own into compare.methods instead, "
                "and into compare.against what it is compared with"
            )
        return method

    @model_validator(mode="after")
    def _has_what_its_method_is(self) -> Rung:
        for name, given in (("fusion", self.fusion), ("blend", self.blend)):
            if (given is not None) != (self.method == name):
                raise ValueError(f"a rung has `{name}` if its method is {name}, and only then")
        if self.method == "classes":
            raise ValueError("method classes is of networks: it is no rung of its own")
        return self

    @property
    def name(self) -> str:
        """Its row in the comparison."""
        run = self.fusion or self.blend
        return run.name if run else self.method


class LadderConfig(Section):
    """From the faithful paper to the best, one change a rung; else as `compare` has it."""

    rungs: tuple[Rung, ...] = key(
        (
            Rung(change="the paper", fusion=FusionRun()),
            Rung(
                change="the network hears audio",
                fusion=FusionRun(modalities=("metadata", "lyrics", "audio")),
            ),
            Rung(
                change="what users play instead of classes, by ridge regression",
                method="linear-features",
            ),
            Rung(
                change="songs like those that the user played, by terms",
                method="blend",
                blend=BlendRun(signals=("neighbours-terms",), context=False, other_plays=False),
            ),
            Rung(
                change="all content signals, blended",
                method="blend",
                blend=BlendRun(context=False, other_plays=False),
            ),
            Rung(
                change="without context: plays of other songs",
                method="blend",
                blend=BlendRun(context=False),
                beside=True,
            ),
            Rung(
                change="context of the artists",
                method="blend",
                blend=BlendRun(other_plays=False),
            ),
            Rung(change="plays of other songs", method="blend", blend=BlendRun()),
        ),
        "the rungs from the lowest up; one whose modalities are not embedded is left out",
        min_length=2,
    )

    @model_validator(mode="after")
    def _distinct(self) -> LadderConfig:
        names = [rung.name for rung in self.rungs]
        if len(set(names)) < len(names):
            raise ValueError("rungs has a method twice")
        if self.rungs[0].beside:
            raise ValueError("the first of the rungs can not be beside: there is none before it")
        return self
