"""The command that makes and shows them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import config, lists, recommend
from pipelines.cli.main import main
from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import arguments, overrides
from tests.pipelines.inline import load, without_ray
from tests.pipelines.lists.making import (
    COLD,
    MODELS,
    SILENT,
)


def test_a_list_for_everyone_is_shown_without_ray(small, places, tmp_path) -> None:
    """And so is why somebody has none in the evaluation."""
    workspace = Workspace(str(shutil.copytree(places["blend"], tmp_path / "w")))
    recommend.STAGE.run(load(small, Path(workspace.uri), **MODELS["blend"]))
    users = workspace.read("lists", "lists")["user_id"]
    code = (
        "import sys; from pipelines.cli import main as cli\n"
        "try:\n cli.main(sys.argv[1:])\n"
        "finally:\n print('RAY' if {'ray','torch'} & set(sys.modules) else 'LIGHT')\n"
        " print('QUICK' if not {'pandas','scipy.linalg'} & set(sys.modules) else 'SLOW')"
    )

    def told(user: int, *words: str) -> subprocess.CompletedProcess[str]:
        asked = ["recommend", "-w", workspace.uri, "--user", users[user].as_py(), *words]
        return subprocess.run(
            [sys.executable, "-c", code, *asked], capture_output=True, text=True, check=False
        )

    done = told(COLD, "-n", "5", "--why")
    assert done.returncode == 0
    assert "LIGHT" in done.stdout
    assert "list for everyone" in done.stdout
    assert done.stdout.count("% │") == 5
    alone = told(COLD, "-n", "5")
    assert "QUICK" in alone.stdout
    assert alone.stdout.count("% │") == 5
    none = told(SILENT, "--for", "evaluation")
    assert "QUICK" in none.stdout
    assert none.returncode == 2
    assert "LIGHT" in none.stdout
    assert "left the user out (no play of a known song)" in none.stderr


def test_the_command_makes_and_shows_them(finished, corpus, ray_session, tmp_path, capsys) -> None:
    """By tasks of Ray, the same as without."""

    def told(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["recommend", *words])
        assert not end.value.code
        return str(capsys.readouterr().out)

    place = Path(shutil.copytree(finished, tmp_path / "w"))
    asked = {"lists__top": 20, "lists__per_artist": 1, "lists__users_per_shard": 150}
    assert "fallback by" in told("--for", "everyone", *arguments(corpus, place, **asked))
    workspace = Workspace(str(place))
    found = workspace.read("lists", "lists")
    assert found.num_rows == workspace.require("ingest")["counts"]["users"]
    assert workspace.require("lists")["counts"]["short"] == 0
    workspace.delete("lists")
    with without_ray():
        lists.STAGE.run(config.load(None, overrides(corpus, place, **asked)))
    assert workspace.read("lists", "lists").equals(found)
    user = found["user_id"][5].as_py()
    for whose, title in (("everyone", "list for everyone"), ("evaluation", "of the evaluation")):
        shown = told("-w", str(place), "--user", user, "-n", "3", "--for", whose)
        assert title in " ".join(shown.split())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--for", "all", "--user", "U"], "--for all: must be everyone or evaluation"),
        (["--for", "everyone", "--like", "a - b"], "leave it out with --like"),
        (["--set", "lists.years=[1999, 1990]"], "must be [from, to]: 1999 is after 1990"),
        (["--set", "lists.tags=[rock, ' ']"], "has an empty tag: leave it out"),
    ],
)
def test_what_cannot_be_asked(tmp_path, capsys, asked, message) -> None:
    with pytest.raises(SystemExit) as end:
        main(["recommend", "-w", str(tmp_path), *asked])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
