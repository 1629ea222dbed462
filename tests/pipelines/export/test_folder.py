"""The folder: what is replaced, what stays, and what is left of an export that fails."""

from pathlib import Path

import faiss
import pyarrow.parquet as pq
import pytest

from fusionrec.errors import ConfigError, StageError
from pipelines.export import Asked, export, folder, write
from pipelines.opened import Recommender
from tests.pipelines.export.reading import main_to_the_end


def test_an_earlier_export_is_replaced_if_asked_for(undisturbed, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    out.mkdir()  # an empty folder is no hindrance
    assert main_to_the_end("-w", undisturbed, "-o", out) == 0
    capsys.readouterr()
    (out / "songs.parquet").write_text("of an earlier one")
    assert main_to_the_end("-w", undisturbed, "-o", out) == 2
    told = capsys.readouterr().err
    assert told == (
        f"fusionrec: --out {out}: has an export: name a new folder, or replace it (--force)\n"
    )
    (out / "notes.txt").write_text("mine")
    assert main_to_the_end("-w", undisturbed, "-o", out, "--force") == 2
    assert capsys.readouterr().err == (
        f"fusionrec: --out {out}: has notes.txt beside an export: move that elsewhere, or name a "
        "new folder\n"
    )
    (out / "notes.txt").unlink()
    assert main_to_the_end("-w", undisturbed, "-o", out, "--force") == 0
    assert pq.read_table(out / "songs.parquet").num_rows > 100
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


EXPORT = '{"format": "fusionrec export", "songs": {"file": "songs.parquet"}, "index": null}'


@pytest.mark.parametrize("before", [{}, {"manifest.json": EXPORT, "songs.parquet": "songs"}])
def test_what_comes_into_the_folder_meanwhile_stays(tmp_path, before) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, text in before.items():
        (out / name).write_text(text)

    def written() -> None:
        with folder.replacing(out, force=True) as new:
            (new / "songs.parquet").write_text("new songs")
            (out / "notes.txt").write_text("mine")

    says = r"has notes\.txt beside an export" if before else "has files that are of no export"
    with pytest.raises(ConfigError, match=says):
        written()
    found = {path.name: path.read_text() for path in out.iterdir()}
    assert found == {**before, "notes.txt": "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_a_link_it_is_what_it_leads_to_that_is_replaced(tmp_path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    (real / "out").mkdir(parents=True)
    link.symlink_to(real / "out")
    for text in ("first", "second"):
        with folder.replacing(link, force=True) as new:
            (new / "manifest.json").write_text(EXPORT)
            (new / "songs.parquet").write_text(text)
    assert link.is_symlink()
    assert (real / "out" / "songs.parquet").read_text() == "second"
    assert [path.name for path in real.iterdir()] == ["out"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_no_folder_takes_the_place_of_a_mount_point(tmp_path, monkeypatch) -> None:
    with pytest.raises(ConfigError, match=r"--out /proc: is a mount point.*: name a folder below"):
        folder.refuse_taken(Path("/proc"), force=True)

    def busy(*_: object) -> None:  # one that does not look like it
        raise OSError(16, "Device or resource busy")

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(Path, "rename", busy)
    with (
        pytest.raises(ConfigError, match=r"out: is a mount point.*: name a folder below it"),
        folder.replacing(tmp_path / "out", force=False),
    ):
        pass


def test_what_is_no_export_is_never_replaced(undisturbed, tmp_path, capsys) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text("[]")
    assert main_to_the_end("-w", undisturbed, "-o", tmp_path / "mine", "--force") == 2
    assert "has files that are of no export" in capsys.readouterr().err
    assert main_to_the_end("-w", undisturbed, "-o", tmp_path / "mine/manifest.json", "--force") == 2
    assert "is a file: name a new folder" in capsys.readouterr().err
    assert main_to_the_end("-w", undisturbed, "-o", "s3://bucket/export") == 2
    assert "must be a local folder" in capsys.readouterr().err
    assert main_to_the_end("-w", undisturbed, "-o", tmp_path / "mine/manifest.json/x") == 2
    assert "cannot be written (Not a directory)" in capsys.readouterr().err
    assert (tmp_path / "mine" / "manifest.json").read_text() == "[]"


def test_of_an_export_that_fails_nothing_is_left(undisturbed, tmp_path, monkeypatch) -> None:
    ranked, out = Recommender.open(undisturbed).ranked, tmp_path / "out"
    export(ranked, Asked(out))
    before = (out / "manifest.json").read_bytes()

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(faiss, "write_index", fails)
    with pytest.raises(ConfigError, match=r"songs\.faiss: cannot be written \(No space left"):
        export(ranked, Asked(out, "faiss", force=True))
    with monkeypatch.context() as patch:
        patch.setattr(write, "write_songs", None)  # the network comes first
        patch.setattr("fusionrec.models.as_onnx.difference", lambda *_: 0.1)
        with pytest.raises(StageError, match=r"network\.onnx: differs by 1\.0e-01 from torch, wh"):
            export(ranked, Asked(out, onnx=True, force=True))
    monkeypatch.setattr(write, "write_users", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export(ranked, Asked(out, force=True))
    assert (out / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
