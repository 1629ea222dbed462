"""Methods of one's own and lists made elsewhere, beside those of the comparison."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from fusionrec.errors import ConfigError, FusionrecError, MethodError, SourceError
from fusionrec.formats import user_lists
from pipelines import compare
from pipelines.cli import results
from pipelines.compare import external, own, own_code
from pipelines.compare.folds import Fold, fold_workspace, read_evaluation, read_factors
from pipelines.config import Config
from pipelines.ingest.by_user import user_ids_of
from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import arguments
from tests.pipelines.inline import SMALL, load, without_ray

ROOT = Path(__file__).parents[2]
COMPARE = {
    "embed__modalities": "[metadata, audio]",
    "ingest__segments": "stats",
    "compare__splits": "[song]",
    "compare__test_folds": "[0, 1]",
    "compare__fusion": "[{k: 3, modalities: [metadata]}]",
    "compare__blends": "[]",
    "compare__seeds": 2,
    "compare__resamples": 100,
    "compare__wmf": "{factors: 8}",
}

MODULE = '''
import numpy as np
import pyarrow.compute as pc

from fusionrec.methods import ColdStart, Vectors

class Popular:
    """The built-in `popularity`, from what a method of one's own is given."""

    seeded = False

    def __call__(self, given):
        artists = pc.fill_null(given.songs["artist_id"], "").combine_chunks().dictionary_encode()
        code = artists.indices.to_numpy()
        total = np.bincount(code, np.asarray(given.plays.sum(axis=0)).ravel())
        score = np.log1p(total)[code][given.candidates]
        return Vectors(np.ones((len(given.users), 1)), score[:, None])

def leak(given):
    columns = np.unique(given.plays.tocoo().coords[1])
    assert len(columns) and not np.isin(columns, given.candidates).any()
    assert np.isin(columns, np.concatenate([given.train, given.validation])).all()
    assert len(given.songs) == given.plays.shape[1] == len(given.fused.x)
    assert sorted(given.features) == ["audio", "metadata"]
    assert all(not f.x[~f.present].any() and f.present.any() for f in given.features.values())
    assert len(given.user_ids) == given.plays.shape[0]
    assert (np.diff(given.plays[given.users].indptr) > 0).all()
    assert "song_hotttnesss" not in given.songs.column_names
    random = np.random.default_rng(given.seed)
    sizes = len(given.users), len(given.candidates)
    return Vectors(*(random.standard_normal((n, 4)).astype("float32") for n in sizes))

def boom(given):
    return {}["no such"]

def shapes(given):
    return Vectors(np.ones((3, 2)), np.ones((len(given.candidates), 2)))

NUMBER = 1
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the user's own code lies, in a package of one's own."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "tried_here.py").write_text(MODULE)
    (folder / "broken_here.py").write_text("import nothing_of_this_name\n")
    return folder


@pytest.fixture
def there(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


@pytest.fixture(scope="module")
def place(small, folder, tmp_path_factory) -> Path:
    """A workspace with a comparison of built-in methods only."""
    place = tmp_path_factory.mktemp("own") / "w"
    run(configured(small, place, compare__methods="[popularity, wmf]"))
    return place


def configured(corpus: Path, place: Path, **more: object) -> Config:
    return load(corpus, place, **{**COMPARE, **more})


def run(config: Config) -> dict:
    with without_ray():
        compare.STAGE.run(config)
    text = (Path(config.workspace) / "compare" / "comparison.json").read_text()
    return json.loads(text)["song"]


def rows(table: dict) -> dict:
    return {row["name"]: row for row in table["rows"]}


def rankings(place: Path) -> dict[str, int]:
    files = (place / "methods").glob("*/manifest.json")
    return {file.parent.name: file.stat().st_mtime_ns for file in files}


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


def test_the_readmes_example_runs(small, place, there) -> None:
    text = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```python\n(# mine\.py\n.*?)```", text, re.DOTALL)
    (there / "mine.py").write_text(block)
    found = rows(run(configured(small, place, compare__methods="[random, mine:Nearest]")))
    assert found["mine:Nearest"]["seeds"] == 1
    assert found["mine:Nearest"]["lift"] > 1


# --- lists made elsewhere -----------------------------------------------------------------


@pytest.fixture(scope="module")
def of_wmf(small, place) -> dict[str, list[str]]:
    """The lists of `wmf` of both folds, one list a user."""
    lists: dict[str, list[str]] = {}
    for number in (0, 1):
        chosen = Fold("song", number).config(configured(small, place))
        fold = fold_workspace(chosen, Workspace(str(place)))
        X, Y = read_factors(fold, "all")
        songs = fold.read("ingest", "songs", ["song_id"])["song_id"].to_pylist()
        ids = user_ids_of(fold, 0, len(X)).to_pylist()
        evaluation = read_evaluation(fold)
        for user in evaluation.users:
            order = np.argsort(-(Y[evaluation.candidates] @ X[user]), kind="stable")
            lists.setdefault(ids[user], []).extend(
                songs[song] for song in evaluation.candidates[order]
            )
    return lists


def written(path: Path, lists: dict[str, list[str]]) -> Path:
    table = pa.table({"user_id": list(lists), "song_ids": list(lists.values())})
    pq.write_table(table, path)
    return path


def test_lists_of_a_method_are_worth_as_much_as_it(small, place, of_wmf, tmp_path) -> None:
    file = written(tmp_path / "lists.parquet", of_wmf)
    more = {"compare__methods": "[random, wmf]", "compare__external": f"{{theirs: {file}}}"}
    table = run(configured(small, place, **more, compare__against="theirs"))
    found = rows(table)
    for name in ("average_precision", "auc", "recall", "ndcg", "low", "high", "diversity"):
        assert found["theirs"][name] == pytest.approx(found["wmf"][name], rel=1e-4), name
    assert found["theirs"]["seeds"] == 1
    assert table["against"] == "theirs"
    assert table["external"]["theirs"] == {
        "lists": len(of_wmf),
        **dict.fromkeys(("unknown_users", "unknown_songs"), 0),
        **dict.fromkeys(("without_list", "without_candidate"), 0),
    }


def test_what_lists_leave_out_counts_as_nothing(small, place, of_wmf, tmp_path) -> None:
    """Half of the users, the first three songs of each fold, and ids of nowhere."""
    candidates = [
        set(fold.read("ingest", "songs", ["song_id"])["song_id"].to_numpy()[e.candidates])
        for number in (0, 1)
        for fold in [
            fold_workspace(
                Fold("song", number).config(configured(small, place)), Workspace(str(place))
            )
        ]
        for e in [read_evaluation(fold)]
    ]
    cut = {}
    for user, songs in list(of_wmf.items())[::2]:
        firsts = [[s for s in songs if s in fold][:3] for fold in candidates]
        cut[user] = [
            s for first in firsts for s in (first[:1] + ["SOUNKNOWN"] * (not cut) + first[1:])
        ]
        cut[user] = list(dict.fromkeys(cut[user]))
    file = written(tmp_path / "cut.parquet", {**cut, "nobody": ["SOUNKNOWN"]})
    more = {"compare__methods": "[wmf]", "compare__external": f"{{theirs: {file}}}"}
    table = run(configured(small, place, **more))
    row, notes = rows(table)["theirs"], table["external"]["theirs"]
    assert row["auc"] is None
    assert notes["unknown_users"] == notes["unknown_songs"] == 1
    precision = []
    for number in (0, 1):
        chosen = Fold("song", number).config(configured(small, place))
        fold = fold_workspace(chosen, Workspace(str(place)))
        evaluation = read_evaluation(fold)
        songs = fold.read("ingest", "songs", ["song_id"])["song_id"].to_numpy()
        ids = user_ids_of(fold, 0, int(evaluation.users.max()) + 1).to_pylist()
        relevant = evaluation.relevant
        for place_, user in enumerate(evaluation.users):
            wanted = relevant.songs[relevant.indptr[place_] : relevant.indptr[place_ + 1]]
            liked = set(songs[evaluation.candidates[wanted]])
            own_list = [s for s in cut.get(ids[user], []) if s in candidates[number]]
            hits = np.array([song in liked for song in own_list], float)
            found = (np.cumsum(hits) / np.arange(1, len(hits) + 1) * hits).sum()
            precision.append(found / min(len(liked), 500))
    assert row["average_precision"] == pytest.approx(np.mean(precision))
    assert row["low"] <= row["average_precision"] <= row["high"]
    without = notes["without_list"]
    assert 0 < without < table["folds"]["users"]
    text = (place / "compare" / "comparison.md").read_text()
    assert f"{without} without a list and 0 without a candidate in it, which score 0" in text
    line = next(line for line in text.splitlines() if line.startswith("| theirs"))
    assert [cell.strip() for cell in line.split("|")][6] == ""  # AUC


def test_a_changed_file_computes_only_its_lists(small, place, of_wmf, tmp_path) -> None:
    file = written(tmp_path / "first.parquet", of_wmf)
    more = {"compare__methods": "[wmf]", "compare__external": f"{{theirs: {file}}}"}
    chosen = configured(small, place, **more)
    run(chosen)
    before = rankings(place)
    run(configured(small, place, **{**more, "compare__external": f"{{another name: {file}}}"}))
    assert rankings(place) == before
    written(file, {user: songs[::-1] for user, songs in of_wmf.items()})
    run(chosen)
    again = rankings(place)
    assert {name: again[name] for name in before} == before
    assert len(again) == len(before) + 2


@pytest.mark.parametrize(
    ("external", "message"),
    [
        ("{theirs: /no/such.parquet}", "/no/such.parquet: there is no such file"),
        ("{theirs: lists.txt}", "lists.txt: name it .parquet, .jsonl or .csv"),
        ("{wmf: FILE}", "compare.external has 'wmf', the name of a method"),
        ("{'a|b': FILE}", "is to be a row's name"),
        ("{theirs: FILE}", "FILE: user_id of row 2: 'someone' as in row 1"),
    ],
)
def test_lists_that_cannot_be_read_end_it_first(small, place, tmp_path, external, message) -> None:
    file = tmp_path / "lists.parquet"
    pq.write_table(pa.table({"user_id": ["someone"] * 2, "song_ids": [["a"], ["b"]]}), file)
    given = external.replace("FILE", str(file))
    with pytest.raises(FusionrecError) as caught:
        run(configured(small, place, compare__methods="[wmf]", compare__external=given))
    assert isinstance(caught.value, ConfigError | SourceError)
    assert message.replace("FILE", str(file)) in str(caught.value)


def test_lists_of_strangers_are_listed_as_not_computed(small, place, tmp_path, monkeypatch) -> None:
    file = written(tmp_path / "lists.parquet", {"nobody": ["SOUNKNOWN"]})
    more = {"compare__methods": "[wmf]", "compare__external": f"{{theirs: {file}}}"}
    table = run(configured(small, place, **more))
    assert "has a list; is user_id of this corpus?" in table["failed"]["theirs"]
    assert list(rows(table)) == ["wmf"]
    shown = Console(file=io.StringIO(), width=300)
    table["failed"]["theirs"] = "[red]: no [/such] thing"
    for each in tables_of({"song": table}, monkeypatch):
        shown.print(each)
    assert "[red]: no [/such] thing" in shown.file.getvalue()


def tables_of(summaries: dict, monkeypatch) -> list:
    monkeypatch.setattr(results, "comparison", lambda workspace: summaries)
    return results.comparison_tables(Workspace("unread"))


def test_lists_that_change_before_they_are_read_end_it(
    small, place, of_wmf, tmp_path, monkeypatch
) -> None:
    """No result is stored by the hash of a file that it was not made from."""
    file = written(tmp_path / "lists.parquet", of_wmf)
    found = user_lists.fingerprint

    def then_changed(path: str) -> str:
        monkeypatch.setattr(user_lists, "fingerprint", found)
        value = found(path)
        written(file, {user: songs[:1] for user, songs in of_wmf.items()})
        return value

    before = rankings(place)
    monkeypatch.setattr(user_lists, "fingerprint", then_changed)
    more = {"compare__methods": "[wmf]", "compare__external": f"{{theirs: {file}}}"}
    with pytest.raises(SourceError) as caught:
        run(configured(small, place, **more, recommend__top=90))
    assert str(caught.value) == (
        f"compare.external.theirs: {file} changed, or this node has another one; "
        "run the command again"
    )
    assert rankings(place) == before


def test_a_path_is_of_the_folder_of_the_command(small, place, of_wmf, tmp_path, monkeypatch):
    written(tmp_path / "lists.parquet", of_wmf)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = external.located({"a": "lists.parquet", "b": "~/lists.parquet", "c": "s3://b/c.csv"})
    assert paths["a"] == paths["b"] == str(tmp_path / "lists.parquet")
    assert paths["c"] == "s3://b/c.csv"
    more = {"compare__methods": "[wmf]", "compare__external": "{theirs: ~/lists.parquet}"}
    assert "theirs" in rows(run(configured(small, place, **more)))


def test_lists_without_a_candidate_of_a_fold_have_the_measures_of_the_others(
    small, place, of_wmf, tmp_path
) -> None:
    """What no fold defines is left empty, and the file is JSON, which has no NaN."""
    chosen = Fold("song", 0).config(configured(small, place))
    fold = fold_workspace(chosen, Workspace(str(place)))
    songs = fold.read("ingest", "songs", ["song_id"])["song_id"].to_numpy()
    of_fold = set(songs[read_evaluation(fold).candidates])
    first = {user: [song for song in own if song in of_fold] for user, own in of_wmf.items()}
    whole = written(tmp_path / "first.parquet", first)
    nothing = written(tmp_path / "none.parquet", {user: [] for user in of_wmf})
    more = {
        "compare__methods": "[wmf]",
        "compare__external": f"{{first: {whole}, nothing: {nothing}}}",
    }
    table = run(configured(small, place, **more))
    json.dumps(table, allow_nan=False)
    found = rows(table)
    alone = run(configured(small, place, **more, compare__test_folds="[0]"))
    json.dumps(alone, allow_nan=False)
    for name in ("coverage", "diversity", "novelty", "popularity_bias"):
        assert found["nothing"][name] is None or name == "coverage"
        if name != "coverage":  # which is 0 in the other fold
            assert found["first"][name] == rows(alone)["first"][name], name
    assert found["first"]["coverage"] == rows(alone)["first"]["coverage"] / 2
    assert found["first"]["auc"] is found["nothing"]["auc"] is None
    for manifest in (place / "methods").glob("*/manifest.json"):
        json.dumps(json.loads(manifest.read_text())["counts"], allow_nan=False)
    line = next(
        line
        for line in (place / "compare" / "comparison.md").read_text().splitlines()
        if line.startswith("| nothing") and line.count("|") == 9
    )
    assert [cell.strip() for cell in line.split("|")][3:7] == [""] * 4
