"""Reading, overriding, checking and writing a configuration."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import ValidationError

from fusionrec.errors import ConfigError
from pipelines.config.section import Section
from pipelines.config.tree import Config

Override = Annotated[str, "section.key=value"]


def load(path: str | Path | None = None, overrides: Sequence[Override] = ()) -> Config:
    """Read YAML from a path or URI, apply ``section.key=value`` overrides, check the result.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no mapping, or a key or value is wrong.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(_text(str(path)))
        except FileNotFoundError:
            raise ConfigError(
                f"{path}: there is no such config file; pass an existing YAML file to --config"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read ({error})") from None
        except yaml.YAMLError as error:
            where = " ".join(str(error).split())
            raise ConfigError(f"{path}: is not valid YAML: {where}") from None
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError(f"{path}: must be a mapping of sections, not {type(loaded).__name__}")
        tree = loaded or {}
    for override in overrides:
        _apply(tree, override)
    return from_dict(tree, source=str(path) if path else "configuration")


def _text(path: str) -> str:
    if "://" not in path:
        return Path(path).read_text(encoding="utf-8")
    from fusionrec.formats import files  # pyarrow takes a third of a second

    with files.open_binary(path) as file:
        return file.read().decode()


def from_dict(tree: Mapping[str, Any], *, source: str = "configuration") -> Config:
    """Check a plain mapping; see :func:`load`."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(source, e) for e in error.errors())) from None


def replaced(config: Config, values: Mapping[str, Any]) -> Config:
    """The config with other values under some dotted names.

    Raises
    ------
    ConfigError
        If a name or a value is wrong.
    """
    tree = config.model_dump(mode="json")
    for name, value in values.items():
        *sections, key = name.split(".")
        node = tree
        for section in sections:
            node = node[section]
        node[key] = value
    return from_dict(tree)


def to_yaml(config: Config) -> str:
    """The resolved tree as YAML that :func:`load` takes."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def describe(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every key of the tree as (dotted name, default, documentation)."""
    for name, field in section.model_fields.items():
        if isinstance(field.default, Section):
            yield from describe(type(field.default), f"{prefix}{name}.")
        else:
            default = field.get_default(call_default_factory=True, validated_data={})
            yield f"{prefix}{name}", default, field.description or ""


def _apply(tree: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {override!r}: write it as section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML") from None
    if isinstance(value, str):
        value = _number(value)
    node = tree
    for key in keys[:-1]:
        child = node.get(key)
        if child is None:
            child = node[key] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override!r}: {key!r} is a value, not a section")
        node = child
    node[keys[-1]] = value


def _number(text: str) -> str | float:
    # YAML 1.1 reads 1e-3 as a string, which nobody who types it means.
    try:
        return float(text) if "e" in text.lower() and text[:1] in "+-.0123456789" else text
    except ValueError:
        return text


def _explain(source: str, error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    dotted = ".".join(path)
    if error["type"] == "extra_forbidden":
        known = [name for name, _, _ in describe()] + list(Config.model_fields)
        near = difflib.get_close_matches(dotted, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "; `fusionrec config` lists all keys"
        return f"{source}: unknown key {dotted!r}{hint}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "tuple_type":
        message = "must be a list, as [a, b]"
    if not dotted:
        return f"{source}: {message}"
    return f"{source}: {dotted} is {error['input']!r}: {message}"
