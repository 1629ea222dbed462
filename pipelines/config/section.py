"""What all sections of the configuration are made of."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
