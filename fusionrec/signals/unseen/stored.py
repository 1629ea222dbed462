"""An encoder of unseen songs as named arrays and JSON, and again from these: no code is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fusionrec.signals import readers
from fusionrec.signals.unseen import parts
from fusionrec.signals.unseen.encoder import Placed, UnseenSongs
from fusionrec.signals.unseen.read import Catalogued
from fusionrec.signals.unseen.references import Groups, References

Arrays = dict[str, NDArray[Any]]

_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        UnseenSongs,
        Placed,
        Catalogued,
        References,
        Groups,
        readers.Bags,
        readers.Texts,
        readers.Words,
        readers.Vectors,
        readers.Numbers,
        parts.ByLandmarks,
        parts.ByGroup,
        parts.ByNumbers,
        parts.MeansByTerms,
        parts.Attention,
    )
}


def as_arrays(encoder: UnseenSongs) -> tuple[Any, Arrays]:
    """Its description, for JSON, and the arrays that this names."""
    arrays: Arrays = {}
    return _packed(encoder, "", arrays), arrays


def of_arrays(description: Any, arrays: Mapping[str, NDArray[Any]]) -> UnseenSongs:
    """From what :func:`as_arrays` gave."""
    found = _unpacked(description, arrays)
    assert isinstance(found, UnseenSongs)
    return found


def _packed(value: Any, path: str, arrays: Arrays) -> Any:
    def part(name: Any, of: Any) -> Any:
        return _packed(of, f"{path}.{name}" if path else str(name), arrays)

    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.ndarray):
        arrays[path] = np.ascontiguousarray(value)
        return {"array": path}
    if isinstance(value, csr_array):
        names = ("data", "indices", "indptr")
        arrays.update({f"{path}.{name}": getattr(value, name) for name in names})
        return {"sparse": path, "shape": list(value.shape)}
    if isinstance(value, pa.Array):
        arrays[f"{path}.lengths"] = pc.binary_length(value).to_numpy().astype(np.int32)
        joined = b"".join(value.cast(pa.large_binary()).to_pylist())
        arrays[f"{path}.bytes"] = np.frombuffer(joined, np.uint8)
        return {"texts": path}
    if isinstance(value, tuple):
        return [part(number, each) for number, each in enumerate(value)]
    if isinstance(value, Mapping):
        return {"each": {name: part(name, each) for name, each in value.items()}}
    kind = type(value).__name__
    return {"is": kind, **{f.name: part(f.name, getattr(value, f.name)) for f in fields(value)}}


def _unpacked(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(value, list):
        return tuple(_unpacked(each, arrays) for each in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "sparse" in value:
        names = ("data", "indices", "indptr")
        columns = tuple(arrays[f"{value['sparse']}.{name}"] for name in names)
        return csr_array(columns, shape=tuple(value["shape"]))
    if "texts" in value:
        lengths, content = (arrays[f"{value['texts']}.{name}"] for name in ("lengths", "bytes"))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        buffers = (pa.py_buffer(np.ascontiguousarray(part)) for part in (offsets, content))
        return pa.StringArray.from_buffers(len(lengths), *buffers)
    if "each" in value:
        return {name: _unpacked(each, arrays) for name, each in value["each"].items()}
    kind = _KINDS[value["is"]]
    return kind(**{name: _unpacked(each, arrays) for name, each in value.items() if name != "is"})
