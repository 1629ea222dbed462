"""What an export needs and has not, in one line."""

import shutil
import sys
from pathlib import Path

import pytest

from fusionrec.errors import ConfigError, WorkspaceError
from pipelines.export import Asked, export
from pipelines.opened import Recommender
from tests.pipelines.export.reading import main_to_the_end


@pytest.mark.parametrize(
    ("missing", "asked", "says"),
    [
        ("faiss", {"index": "faiss"}, r"^--index: needs the package faiss-cpu: pip install "),
        ("onnx", {"onnx": True}, r"^--onnx: needs the package onnx: pip install 'fusionrec\["),
        ("onnxscript", {"onnx": True}, r"^--onnx: needs the package onnxscript: "),
    ],
)
def test_packages_are_named_before_anything_is_written(
    undisturbed, tmp_path, monkeypatch, missing, asked, says
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=says):
        export(Recommender.open(undisturbed).ranked, Asked(tmp_path / "out", **asked))
    assert not [*tmp_path.iterdir()]


def test_what_is_not_finished_is_named(undisturbed, tmp_path, capsys) -> None:
    assert main_to_the_end("-w", tmp_path / "empty", "-o", tmp_path / "out") == 2
    assert "not finished; run `fusionrec " in capsys.readouterr().err
    assert main_to_the_end("-w", undisturbed, "-o", tmp_path / "out", "--model", "blend") == 2
    assert "blend: this stage is not finished" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    place = Path(shutil.copytree(undisturbed, tmp_path / "w"))
    ranked = Recommender.open(place).ranked
    shutil.rmtree(place / "train")
    with pytest.raises(WorkspaceError, match=r"train: this stage is not finished"):
        export(ranked, Asked(tmp_path / "out", onnx=True))
