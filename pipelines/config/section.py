"""What all sections of the configuration are made of."""

from __future__ import annotations

from dataclasses import fields
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

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
