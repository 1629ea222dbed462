"""The reference of all keys of the configuration, made of its own types."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from inspect import getdoc
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as bounds
from pydantic.fields import FieldInfo

from pipelines.config import Config
from pipelines.config.section import Section

_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "`true` or `false`"}

_HEAD = "| key | may be | default | meaning |\n|---|---|---|---|\n"

INTRODUCTION = """\
# Configuration

Every key, with its default and what it may be; `fusionrec config --keys` lists the same. A key is
given in a YAML file (`--config my.yaml`), where sections are nested, or on the command line as
`--set section.key=value`, whose value is YAML, too. Keys that are not given have their defaults,
and an unknown key is an error. `fusionrec config` prints what a file and overrides come to.
"""


def page() -> str:
    """Markdown with a heading for each section and each key."""
    own = [_entry(name, field) for name, field in _keys(Config)]
    parts = [INTRODUCTION, "## Of the whole run { #top }\n", *own]
    for name, section in _sections(Config):
        about = _prose((getdoc(section) or "").partition("\n\n")[0])
        parts.append(f"## `{name}` {{ #{name} }}\n\n{about}\n")
        parts += [_entry(f"{name}.{key}", field) for key, field in _keys(section)]
    return "\n".join(parts)


def _keys(section: type[Section]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        if not isinstance(field.default, Section):
            yield name, field


def _sections(section: type[Section], prefix: str = "") -> Iterator[tuple[str, type[Section]]]:
    for name, field in section.model_fields.items():
        if isinstance(field.default, Section):
            yield f"{prefix}{name}", type(field.default)
            yield from _sections(type(field.default), f"{prefix}{name}.")


def _entry(name: str, field: FieldInfo) -> str:
    about = _prose(field.description or "")
    text = f"### `{name}` {{ #{name} }}\n\n{about}\n\n{_kind(field)}. Default: {_default(field)}\n"
    for part in _parts(field.annotation):
        text += f"\nAn entry{_of(part)} has:\n\n{_HEAD}"
        for key, inner in part.model_fields.items():
            cells = (f"`{key}`", _kind(inner), _default(inner), _prose(inner.description or ""))
            text += f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
    return text


def _of(part: type[Section]) -> str:
    about = (getdoc(part) or "").partition("\n")[0].rstrip(".")
    return f" ({about[:1].lower()}{about[1:]})" if about else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    default = _plain(field.get_default(call_default_factory=True, validated_data={}))
    return f"`{json.dumps(default, ensure_ascii=False)}`"


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _parts(annotation: Any) -> Iterator[type[Section]]:
    """The sections in lists and mappings of a type."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from _parts(inner)


def _kind(field: FieldInfo) -> str:
    limits = [
        f"{word} {getattr(limit, name):,}"
        for limit in field.metadata
        for name, word in _BOUNDS.items()
        if isinstance(limit, bounds.BaseMetadata) and getattr(limit, name, None) is not None
    ]
    text = _type(field.annotation)
    # What is not a number is told last, so that the bounds are those of the number.
    text, or_null, _ = text.partition(" or `null`") if limits else (text, "", "")
    bounded = f", {' and '.join(limits)}" if limits else ""
    return _capital(f"{text}{bounded}{',' if or_null else ''}{or_null}")


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in _NAMES:
        return _NAMES[annotation]
    if annotation in (None, NoneType):
        return "`null`"
    if origin is Annotated:
        return _type(inner[0])
    if origin is Literal:
        return _joined([f"`{json.dumps(value).strip(chr(34))}`" for value in inner])
    if origin in (Union, UnionType):
        return _joined(dict.fromkeys(_type(kind) for kind in inner))
    if origin in (tuple, list):
        kinds = [kind for kind in inner if kind is not Ellipsis]
        if len(kinds) == len(inner) > 1 and origin is tuple:
            return f"a list of {len(kinds)}: {', '.join(map(_type, kinds))}"
        return f"a list, each {_type(kinds[0])}"
    if origin is dict or (origin is not None and "Mapping" in str(origin)):
        return f"a mapping from {_type(inner[0])} to {_type(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "an entry (below)"
    raise TypeError(f"{annotation!r}: say in {__name__} how a value of this type is described")


def _joined(kinds: Iterable[str]) -> str:
    *first, last = kinds
    return f"{', '.join(first)} or {last}" if first else last


def _capital(text: str) -> str:
    """Text as a sentence begins, but for names of files and the like."""
    word = text.partition(" ")[0].rstrip(",.:;")
    return text if re.search(r"\W|_", word) else text[:1].upper() + text[1:]


def _prose(text: str) -> str:
    """Text of a docstring or a key as a sentence of Markdown, on one line."""
    text = " ".join(re.sub(r":[a-z]+:`~?([^`]*)`", r"`\1`", text).split())
    spans = re.split(r"(`[^`]*`)", text)
    escaped = [s if s.startswith("`") else re.sub(r"([*_<\[\]])", r"\\\1", s) for s in spans]
    return _capital("".join(escaped).removesuffix(".")) + "." if text else ""
