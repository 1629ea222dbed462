"""What all sections of the configuration are made of."""

from __future__ import annotations

import math
from dataclasses import fields
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any, info: ValidationInfo) -> Any:
        """`--set source.plays=x.txt` is the list of that one file."""
        kind = cls.model_fields[info.field_name].annotation if info.field_name else None
        kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        is_list = any(get_origin(k) is tuple and get_args(k)[1:] == (Ellipsis,) for k in kinds)
        return (value,) if is_list and isinstance(value, str | int | float) else value

    def fill(self, settings: type[Settings], **others: Any) -> Settings:
        """The method's settings: `others`, and every other field from the key of its name.

        The method knows no configuration, so its settings are dataclasses of their own.

        Raises
        ------
        AttributeError, TypeError
            The section lacks a key for a field, or the settings a field that `others` names:
            no field is left at its default without a word.
        """
        names = {field.name for field in fields(settings)} - set(others)
        return settings(**{name: getattr(self, name) for name in names}, **others)


def key(default: Any, doc: str, **bounds: Any) -> Any:
    """A value with its default, its line of documentation and its bounds."""
    return Field(default, description=doc, **bounds)


def _as_gpus(value: object) -> float | str:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if value == "auto":
        return "auto"
    if number < 0 or not math.isfinite(number) or (number > 1 and number != int(number)):
        raise ValueError(
            "must be auto, 0 for CPUs, a share of a GPU (0.5), or a whole number of them"
        )
    return float(number)


Gpus = Annotated[float | Literal["auto"], BeforeValidator(_as_gpus)]
"""GPUs of one worker; `auto` is settled when the stage begins (:mod:`pipelines.runtime.gpus`)."""
