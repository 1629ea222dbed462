"""Methods of one's own, beside those of the comparison."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fusionrec.errors import ConfigError, MethodError
from pipelines import compare
from pipelines.compare import own, own_code
from tests.pipelines.compare.comparing import (
    COMPARE,
    MODULE,
    configured,
    rankings,
    rows,
    run,
    written,
)
from tests.pipelines.conftest import arguments
from tests.pipelines.inline import SMALL

ROOT = Path(__file__).parents[3]

METHODS = "[popularity, wmf, tried_here:Popular, tried_here:leak]"


def test_one_of_ones_own_takes_part_like_any_other(small, place, there) -> None:
    chosen = configured(
        small, place, compare__methods=METHODS, compare__against="tried_here:Popular"
    )
    table = run(chosen)
    found = rows(table)
    mine, built_in = found["tried_here:Popular"], found["popularity"]
    for name in ("average_precision", "low", "high", "auc", "ndcg", "coverage"):
        assert mine[name] == built_in[name], name
    assert (mine["seeds"], found["tried_here:leak"]["seeds"]) == (1, 2)
    assert table["against"] == "tried_here:Popular"
    pairs = {(row["a"], row["b"]) for row in table["differences"]}
    assert ("popularity", "tried_here:Popular") in pairs
    assert all("p_holm" in row for row in table["differences"])
    assert "tried_here:leak" in (place / "compare" / "comparison.md").read_text()


def test_an_edit_computes_only_its_methods(small, place, there) -> None:
    module = there / "edited_here.py"
    module.write_text(MODULE)
    chosen = configured(small, place, compare__methods="[popularity, wmf, edited_here:Popular]")
    before = rows(run(chosen))
    computed = rankings(place)
    run(chosen)
    assert rankings(place) == computed
    module.write_text(MODULE.replace("np.log1p(total)[code]", "-np.log1p(total)[code]"))
    after = rows(run(chosen))
    again = rankings(place)
    assert {name: again[name] for name in computed} == computed
    assert len(again) == len(computed) + 2  # a fold each
    name = "edited_here:Popular"
    assert after[name]["average_precision"] < before[name]["average_precision"]
    assert after["popularity"]["average_precision"] == before["popularity"]["average_precision"]


def test_all_code_of_a_package_counts(there) -> None:
    package = there / "package_here" / "inner"
    package.mkdir(parents=True)
    for file in (package / "__init__.py", package.parent / "__init__.py"):
        file.write_text("")
    (package / "methods.py").write_text("from package_here.helper import Popular\n")
    (package.parent / "helper.py").write_text(MODULE)
    name = "package_here.inner.methods:Popular"
    found = own.find(name)
    assert found.folder == str(there)
    assert found.code == own.fingerprint(name)
    (package.parent / "helper.py").write_text(MODULE + "\n")
    assert own.fingerprint(name) != found.code
    assert own.find(name).code == own.fingerprint(name)


def test_an_edit_of_what_two_modules_share_is_seen_by_both(there) -> None:
    package = there / "shared_here"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("value = 1\n")
    for name in ("a", "b"):
        (package / f"{name}.py").write_text(
            "from shared_here.helper import value\n\ndef f(given):\n    return value\n"
        )
    assert called("shared_here.a:f") == 1
    (package / "helper.py").write_text("value = 22\n")
    assert called("shared_here.b:f") == called("shared_here.a:f") == 22


def called(name: str) -> object:
    found = own.find(name)
    code = own_code.code_of(name, name.partition(":")[0], found.folder)
    return own_code.imported(found, code)(None)


def test_an_edit_of_the_same_size_and_time_is_seen(there, monkeypatch) -> None:
    """Python's own stored bytecode would be taken for that of the new file."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    package = there / "quick_here"
    package.mkdir()
    module, inner = there / "quick_one.py", package / "inner.py"
    (package / "__init__.py").write_text("")
    for number in (1, 2, 3):
        for file in (module, inner):
            file.write_text(f"def f(given):\n    return {number}\n")
            os.utime(file, (1e9, 1e9))
        if number == 1:  # as anything else imports them
            environment = {k: v for k, v in os.environ.items() if "BYTECODE" not in k}
            subprocess.run(
                [sys.executable, "-c", "import quick_one, quick_here.inner"],
                cwd=there,
                env={**environment, "PYTHONPATH": str(there)},
                check=True,
            )
            assert list((there / "__pycache__").glob("quick_one.*"))
            continue
        assert called("quick_one:f") == called("quick_here.inner:f") == number


def test_an_editors_locks_are_no_code(there) -> None:
    package = there / "locked_here"
    package.mkdir()
    (package / "__init__.py").write_text("def f(given):\n    return 1\n")
    before = own.find("locked_here:f").code
    (package / ".#a.py").symlink_to("someone@somewhere.1234")
    (package / "gone.py").symlink_to("nowhere.py")
    assert own.find("locked_here:f").code == before


def test_code_that_cannot_be_read_is_named(there, monkeypatch) -> None:
    def refused(files):
        raise PermissionError(13, "Permission denied", str(files[0]))

    monkeypatch.setattr(own_code, "content_hash", refused)
    with pytest.raises(ConfigError, match=r"tried_here.py cannot be read \(Permission denied\)"):
        own.find("tried_here:leak")


def test_a_module_that_hides_ones_own_is_named(there, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # a process that is started beside it would take it for Python's
    (tmp_path / "colorsys.py").write_text("def f(given):\n    return 1\n")
    for name in ("f", "ONE_THIRD"):
        with pytest.raises(ConfigError) as caught:
            own.find(f"colorsys:{name}")
        where = rf"{re.escape(os.__file__.replace('os.py', 'colorsys.py'))}, which hides "
        assert re.search(where + re.escape(str(tmp_path / "colorsys.py")), str(caught.value))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("not_here:Name", "names 'not_here:Name', but there is no module 'not_here': start the"),
        ("tried_here:Nothing", "'tried_here' has no 'Nothing'"),
        ("tried_here:NUMBER", "cannot be called: it is a int"),
        ("broken_here:Name", "cannot be imported: ModuleNotFoundError: No module named 'nothing"),
        ("poplarity", "compare.methods.0 is 'poplarity': no such method: name one of random,"),
        ("tried_here:", "compare.methods.0 is 'tried_here:': no such method"),
    ],
)
def test_what_cannot_be_found_ends_it_before_it_begins(
    small, tmp_path, there, method, message
) -> None:
    with pytest.raises(ConfigError) as caught:
        run(configured(small, tmp_path / "w", compare__methods=[method]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w" / "ingest").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("boom", "seed 0: KeyError: 'no such' (tried_here.py, line"),
        ("shapes", "seed 0: V is of shape (3, 2): it must be ("),
    ],
)
def test_what_fails_is_named_with_fold_and_seed(small, place, there, name, message) -> None:
    with pytest.raises(MethodError) as caught:
        run(configured(small, place, compare__methods=[f"tried_here:{name}"]))
    assert str(caught.value).startswith(f"tried_here:{name} on fold 0 of the split by song, ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rung_is_no_method_of_ones_own(small, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"put one of your own into compare.methods instead"):
        configured(small, tmp_path, ladder__rungs="[{method: random}, {method: 'a:B'}]")


@pytest.mark.slow
def test_workers_import_what_the_driver_found(
    small, place, there, of_wmf, tmp_path, ray_session
) -> None:
    """From a folder that Ray was not started in; a worker outlives an edit."""
    module = there / "worked_here.py"
    more = {
        "compare__methods": "[popularity, wmf, worked_here:Popular]",
        "compare__external": f"{{theirs: {written(tmp_path / 'lists.parquet', of_wmf)}}}",
        "recommend__top": 100,  # another test may have ranked the same lists
    }
    chosen = configured(small, place, **more)
    found = []
    for sign in ("", "-"):
        module.write_text(MODULE.replace("np.log1p(total)", f"{sign}np.log1p(total)"))
        compare.STAGE.run(chosen)
        table = json.loads((place / "compare" / "comparison.json").read_text())["song"]
        found.append(rows(table)["worked_here:Popular"]["average_precision"])
    assert found[0] == rows(table)["popularity"]["average_precision"] > found[1]
    theirs = rows(table)["theirs"]["average_precision"]
    assert theirs == pytest.approx(rows(table)["wmf"]["average_precision"], rel=1e-4)
    module.write_text(MODULE.replace("return Vectors(np.ones", "return 1 / 0 + Vectors(np.ones"))
    with pytest.raises(
        MethodError, match=r"fold [01] of the split by song, seed 0: ZeroDiv"
    ) as got:
        compare.STAGE.run(chosen)
    assert "return 1 / 0" in str(got.value.__cause__)


@pytest.mark.slow
def test_workers_import_from_the_folder_of_the_command(small, place, folder) -> None:
    """As installed, with Ray: the traceback of a failed method comes with --debug alone."""
    chosen = {**SMALL, **COMPARE, "compare__test_folds": "[0]"}
    lines = {}
    for name in ("leak", "boom"):
        given = arguments(small, place, **chosen, compare__methods=f"[tried_here:{name}]")
        done = subprocess.run(
            # Not `python -m`, which would have the folder in its path.
            [sys.executable, "-c", COMMAND, "--debug", "compare", *given, "--json"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        lines[name] = done.stdout, done.stderr
        assert done.returncode == (0 if name == "leak" else 2), done.stderr
    assert "tried_here:leak" in lines["leak"][0]
    traceback, _, last = lines["boom"][1].strip().rpartition("\n")
    assert 'return {}["no such"]' in traceback
    # Whichever of the two seeds fails first.
    start = "fusionrec: tried_here:boom on fold 0 of the split by song, seed [01]: KeyError"
    assert re.match(start, last)


COMMAND = "import sys; sys.path.remove(''); from pipelines.cli.main import main; main()"
