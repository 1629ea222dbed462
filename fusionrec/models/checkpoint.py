"""One file for the whole state of a training: safetensors, with JSON in its metadata.

Such a file appears by one rename, so a checkpoint is whole or absent.
"""

from __future__ import annotations

import json
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

Tensors = dict[str, Tensor]


def pack(tensors: Tensors, state: dict[str, Any]) -> bytes:
    """Tensors and a JSON-able state as the content of a safetensors file."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content: bytes = save(whole, {"state": json.dumps(state)})
    return content


def unpack(content: bytes) -> tuple[Tensors, dict[str, Any]]:
    """The inverse of :func:`pack`."""
    # The format: the header's length in 8 bytes, then the header, which is JSON.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return load(content), json.loads(header["__metadata__"]["state"])


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    """The tensors under names that begin with `prefix`."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def without(prefix: str, tensors: Tensors) -> Tensors:
    """The inverse of :func:`prefixed`; tensors of other names are left out."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def optimiser_tensors(state: dict[str, Any]) -> Tensors:
    """The tensors of an optimiser's `state_dict()`, named "<parameter>.<quantity>"."""
    return {
        f"{number}.{name}": value
        for number, values in state["state"].items()
        for name, value in values.items()
    }


def with_tensors(state: dict[str, Any], tensors: Tensors) -> dict[str, Any]:
    """An optimiser's `state_dict()` with the tensors of :func:`optimiser_tensors`."""
    values: dict[int, Tensors] = {}
    for name, tensor in tensors.items():
        number, _, quantity = name.partition(".")
        values.setdefault(int(number), {})[quantity] = tensor
    return {**state, "state": values}
