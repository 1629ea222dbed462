"""Bad input ends in one line that names what is wrong, where and what to do; exit code 2."""

import json
import shutil
from pathlib import Path

import pytest

from fusionrec.schemas import SCHEMA_VERSION
from pipelines.cli import main as cli
from tests.pipelines.conftest import arguments, result


def run(capsys, *command: str) -> tuple[int, str]:
    """Exit code and standard error of one command; standard error is one line of ours."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["--quiet", *command])
    return int(caught.value.code or 0), capsys.readouterr().err


def complaint(capsys, *command: str) -> str:
    code, error = run(capsys, *command)
    lines = [line for line in error.splitlines() if line.startswith("fusionrec: ")]
    assert code == 2, error
    assert len(lines) == 1, error
    assert "Traceback" not in error
    return lines[0]


def damage_root(root: Path) -> None:
    shutil.rmtree(root)


def damage_songs(root: Path) -> None:
    shutil.rmtree(root / "MillionSong")
    (root / "MillionSong").mkdir()


def damage_every_track(root: Path) -> None:
    for path in (root / "MillionSong").rglob("*.h5"):
        path.write_bytes(b"not HDF5")


def damage_many_tracks(root: Path) -> None:
    for path in sorted((root / "MillionSong").rglob("*.h5"))[:10]:
        path.write_bytes(path.read_bytes()[:3000])


def damage_lyrics_missing(root: Path) -> None:
    (root / "musixmatch" / "mxm_dataset_train.txt").unlink()


def damage_lyrics_vocabulary(root: Path) -> None:
    path = root / "musixmatch" / "mxm_dataset_train.txt"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if not line.startswith(b"%")))


def damage_lyrics_two_vocabularies(root: Path) -> None:
    path = root / "musixmatch" / "mxm_dataset_test.txt"
    path.write_bytes(path.read_bytes().replace(b"\n%", b"\n%somethingelse,", 1))


def damage_lyrics_lines(root: Path) -> None:
    path = root / "musixmatch" / "mxm_dataset_train.txt"
    path.write_bytes(path.read_bytes().replace(b":1,", b":x,"))


def damage_plays_missing(root: Path) -> None:
    (root / "tasteprofile" / "train_triplets.txt").unlink()


def damage_plays_format(root: Path) -> None:
    (root / "tasteprofile" / "train_triplets.txt").write_text("user,song,plays\na,b,1\n" * 50)


def damage_plays_counts(root: Path) -> None:
    path = root / "tasteprofile" / "train_triplets.txt"
    lines = path.read_text().splitlines()
    bad = [line.rsplit("\t", 1)[0] + "\t-1" for line in lines[: len(lines) // 2]]
    path.write_text("\n".join(bad + lines[len(lines) // 2 :]) + "\n")


def damage_mismatches_missing(root: Path) -> None:
    (root / "tasteprofile" / "sid_mismatches.txt").unlink()


def nothing(root: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("damage", "settings", "message"),
    [
        (damage_root, {}, "does not exist; set source.root"),
        (damage_songs, {}, "holds no .h5 file; set source.songs"),
        (damage_every_track, {"ingest__max_reject_share": 1}, "no readable track among"),
        (damage_many_tracks, {}, "more than ingest.max_reject_share 0.1 allows"),
        (damage_lyrics_missing, {}, "mxm_dataset_train.txt: does not exist"),
        (damage_lyrics_vocabulary, {}, "vocabulary"),
        (damage_lyrics_two_vocabularies, {}, "its vocabulary differs from that of"),
        (damage_lyrics_lines, {}, "lyrics rejected, more than ingest.max_reject_share"),
        (damage_plays_missing, {}, "train_triplets.txt: does not exist"),
        (damage_plays_format, {}, "train_triplets.txt"),
        (damage_plays_counts, {}, "play count is negative or zero"),
        (damage_mismatches_missing, {}, "sid_mismatches.txt: does not exist"),
        (nothing, {"source__songs": "truth.json"}, "must be a folder, a .h5 or a .db file"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_damaged_source(
    ray_session, own_corpus, tmp_path, capsys, damage, settings, message
) -> None:
    damage(own_corpus)
    line = complaint(capsys, "ingest", *arguments(own_corpus, tmp_path / "ws", **settings))
    assert message in line
    assert not list((tmp_path / "ws" / "ingest").glob("**/manifest.json"))


@pytest.mark.parametrize(
    ("command", "settings", "message"),
    [
        ("label", {"label__k": 900}, "label.k"),
        (
            "embed",
            {"embed__lyrics__encoder": "/nowhere/at/all"},
            "embed.lyrics.encoder",
        ),
        ("embed", {"embed__metadata__vectors": "/nowhere.txt"}, "/nowhere.txt"),
    ],
)
def test_a_stage_that_cannot_work(
    ray_session, finished, corpus, tmp_path, capsys, command, settings, message
) -> None:
    place = tmp_path / "ws"
    shutil.copytree(finished, place)
    line = complaint(capsys, command, *arguments(corpus, place, **settings))
    assert message in line


def test_a_stage_before_its_inputs(ray_session, corpus, tmp_path, capsys) -> None:
    line = complaint(capsys, "train", *arguments(corpus, tmp_path / "ws"))
    assert "not finished; run `fusionrec ingest` first" in line


def test_a_workspace_of_another_schema_version(finished, corpus, tmp_path, capsys) -> None:
    place = tmp_path / "ws"
    shutil.copytree(finished, place)
    manifest = result(place, "train") / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "schema_version": SCHEMA_VERSION + 1}))
    line = complaint(capsys, "recommend", *arguments(corpus, place))
    assert f"schema version {SCHEMA_VERSION + 1}" in line


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (["--user", "nobody"], "no such user"),
        (["--like", "Nobody - Nothing"], "no such song"),
        (["--like", "Nobody"], 'write it as "artist - title"'),
        (["--like", "a - b", "--user", "c"], "give one of them"),
    ],
)
def test_a_question_without_an_answer(finished, capsys, question, message) -> None:
    assert message in complaint(capsys, "recommend", "-w", str(finished), *question)


def test_a_question_to_an_empty_workspace(tmp_path, capsys) -> None:
    line = complaint(capsys, "recommend", "-w", str(tmp_path / "none"), "--user", "x")
    assert "run `fusionrec recommend` first" in line


def test_a_sample_into_a_folder_in_use(tmp_path, capsys) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    assert str(tmp_path) in complaint(capsys, "sample", "--out", str(tmp_path))
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_an_unknown_option_and_an_unknown_command(capsys) -> None:
    for command in (["run", "--wokspace", "x"], ["trian"]):
        code, _ = run(capsys, *command)
        assert code == 2


def test_a_cluster_that_does_not_answer(tmp_path) -> None:
    import subprocess
    import sys

    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from pipelines.config import ClusterConfig\nfrom pipelines.runtime import session\n"
            "try:\n session.start(ClusterConfig(address='127.0.0.1:1'))\n"
            "except Exception as e:\n print(type(e).__name__, e)",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "InputError cluster.address '127.0.0.1:1': no Ray cluster answers there" in done.stdout
