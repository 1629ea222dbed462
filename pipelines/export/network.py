"""The network that a workspace has trained, as ONNX, compared with torch on its songs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fusionrec.errors import ConfigError, StageError
from fusionrec.tables import flags, matrix
from pipelines.export.folder import refused
from pipelines.opened.stored import on_taste
from pipelines.runtime.workspace import Workspace

if TYPE_CHECKING:
    from fusionrec.models.as_onnx import OnnxForm

NETWORK = "network.onnx"

COMPARED = 64
"""Songs by which it is compared; and by one alone."""


def require_onnx() -> None:
    """See that what writes ONNX is installed.

    Raises
    ------
    ConfigError
        It is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--onnx: needs the package {error.name}: pip install 'fusionrec[export]', or leave it "
            "out"
        ) from None


def write_network(workspace: Workspace, file: Path) -> dict[str, Any]:
    """Write the network of the workspace's training.

    Returns
    -------
    dict
        What a manifest says of it.

    Raises
    ------
    StageError
        The file says something else than torch of songs of the workspace.
    """
    from fusionrec.models.as_onnx import OPSET, allowed, difference, to_onnx

    train, fuse = workspace.require("train"), workspace.require("fuse")
    form = _form(workspace)
    content = to_onnx(form)
    songs = _some(workspace)
    x, present = matrix(songs["vector"]), flags(songs["blocks"])
    found, most = 0.0, allowed(form, x, present)
    for rows in {1, len(x)} if len(x) else ():
        found = max(found, difference(content, form, x[:rows], present[:rows]))
    if not found <= most:
        raise StageError(
            f"{NETWORK}: differs by {found:.1e} from torch, where rounding explains {most:.1e}: "
            "install the versions of onnx, onnxscript and torch that constraints.txt names"
        )
    with refused(file):
        file.write_bytes(content)
    return {
        "opset": OPSET,
        "train": train["key"],
        "fuse": fuse["key"],
        "modalities": fuse["content"]["settings"]["modalities"],
        "blocks": list(form.network.fusion.settings.blocks),
        "inputs": list(form.inputs),
        "outputs": list(form.outputs),
        "compared_songs": len(x),
        "largest_difference": found,
        "allowed_difference": most,
    }


def _form(workspace: Workspace) -> OnnxForm:
    from fusionrec.models.as_onnx import OnnxForm
    from pipelines.opened import models

    if not on_taste(workspace):
        return OnnxForm.of(models.load_network(workspace))
    about = workspace.read_json("train", "users", "about.json")
    if about["objective"] == "factors":
        return OnnxForm.of(models.load_factor_tower(workspace))
    return OnnxForm.of(models.load_ranking_model(workspace))


def _some(workspace: Workspace) -> pa.Table:
    """Fused features of the first songs that have any."""
    found: list[pa.Table] = []
    for part in workspace.parts("fuse", "fused"):
        table = workspace.read_part("fuse", "fused", part)
        found.append(table.filter(table["present"]).slice(0, COMPARED))
        if sum(each.num_rows for each in found) >= COMPARED:
            break
    return pa.concat_tables(found).slice(0, COMPARED)
