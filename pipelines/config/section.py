"""What all sections of the configuration are made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def key(default: Any, doc: str, **bounds: Any) -> Any:
    """A value with its default, its line of documentation and its bounds."""
    return Field(default, description=doc, **bounds)
