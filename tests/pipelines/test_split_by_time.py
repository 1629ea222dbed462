"""A split by time: times beside the plays, and nothing learned of what lies at the cut or later."""

from __future__ import annotations

import ast
import csv
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipelines
from fusionrec.errors import ConfigError, DataError, SourceError
from fusionrec.hashing import stable_hash
from pipelines import blend, compare, recommend, split, train
from pipelines import config as config_module
from pipelines.cli.remarks import LeftOut, left_out
from pipelines.compare.context import Context
from pipelines.compare.folds import Fold, fold_workspace, read_evaluation
from pipelines.compare.jobs import folds
from pipelines.config import Config
from pipelines.ingest import STAGE as INGEST
from pipelines.ingest import by_user, plays
from pipelines.known_plays import Division, divided_plays, known_other_plays, known_plays
from pipelines.run import run, stages
from pipelines.runtime.workspace import MANIFEST, Workspace
from pipelines.train.plays import read_plays
from pipelines.tune.shared import _validation_users
from tests.pipelines.beside import TASTE, timeless
from tests.pipelines.inline import load, without_ray

START, DAY = 1_500_000_000, 86_400
BY_TIME = {"split__by": "time", "recommend__protocol": "oord", "recommend__model": "blend"}


def times_of(users: list[str], songs: list[str]) -> list[int | None]:
    """When plays were, by their ids: half of the songs are old, the others come one by one."""

    def share(texts: list[str], purpose: str) -> np.ndarray:
        return stable_hash(texts, seed=0, purpose=purpose).astype(np.float64) / 2**64

    pairs = [f"{user} {song}" for user, song in zip(users, songs, strict=True)]
    born = np.maximum(share(songs, "born") * 2 - 1, 0) * 1_000
    day = born + share(pairs, "played") * (1_000 - born)
    unknown = (share(pairs, "unknown") < 0.03) | (share(songs, "unknown") < 0.03)
    return [
        None if missing else START + int(each * DAY)
        for each, missing in zip(day, unknown, strict=True)
    ]


@pytest.fixture(scope="module")
def corpus(small, tmp_path_factory) -> Path:
    """The small corpus with plays of songs outside of it."""
    place = Path(shutil.copytree(small, tmp_path_factory.mktemp("outside") / "corpus"))
    file = place / "tasteprofile/train_triplets.txt"
    users = sorted({line.split("\t")[0] for line in file.read_text().splitlines()})
    generator = np.random.default_rng(0)
    with file.open("a") as triplets:
        for user in users[:50]:
            for song in sorted(generator.choice(30, 8, replace=False)):
                print(f"{user}\tSOOTHER{song:011}\t{generator.integers(1, 9)}", file=triplets)
    return place


@pytest.fixture(scope="module")
def untimed(corpus, tmp_path_factory) -> Path:
    """Its ingest from a source without times."""
    place = tmp_path_factory.mktemp("untimed") / "w"
    with without_ray():
        INGEST.run(load(corpus, place))
    return place


@pytest.fixture(scope="module", autouse=True)
def _timed_source(untimed) -> Iterator[None]:
    """As a source of tables with a timestamp: the reader's rows have a time."""
    read = plays._read_plays_shard

    def timed(shard: Any) -> Any:
        tables, report = read(shard)
        raw = tables["raw_plays"]
        users = tables["raw_users"]["user_id"].take(raw["user"]).to_pylist()
        songs = tables["raw_played"]["song_id"].take(raw["song"]).to_pylist()
        times = pa.array(times_of(users, songs), pa.int64())
        return {**tables, "raw_plays": raw.append_column("time", times)}, report

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plays, "_read_plays_shard", timed)
        patched.setattr(split, "TIMELESS", ())
        yield


def readers(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """From now on, who reads each artifact of plays: the first file above the workspace."""
    found: Counter[tuple[str, str]] = Counter()
    names = {*by_user.ARTIFACTS, *by_user.TIMES.values()}
    home = Path(pipelines.__file__).parent
    beneath = {home / "ingest" / "by_user.py", *(home / "runtime").glob("*.py"), Path(__file__)}
    read_part = Workspace.read_part

    def noted(self: Workspace, stage: str, artifact: str, *more: Any, **options: Any) -> pa.Table:
        if artifact in names:
            frame = sys._getframe(1)
            while Path(frame.f_code.co_filename) in beneath:
                frame = frame.f_back  # type: ignore[assignment]
            found[artifact, Path(frame.f_code.co_filename).name] += 1
        return read_part(self, stage, artifact, *more, **options)

    monkeypatch.setattr(Workspace, "read_part", noted)
    return found


@pytest.fixture(scope="module")
def place(corpus, tmp_path_factory) -> Path:
    """A finished run by a blend, and trainings on taste, under a split by time."""
    place = tmp_path_factory.mktemp("time") / "w"
    with without_ray():
        finish(corpus, place)
    return place


def finish(corpus: Path, place: Path) -> None:
    run(load(corpus, place, **BY_TIME))
    for objective in ("factors", "ranking"):
        train.STAGE.run(load(corpus, place, **of_taste(objective)), current=False)


def of_taste(objective: str) -> dict[str, object]:
    return {**BY_TIME, **TASTE, "train__objective": objective}


def table_of(workspace: Workspace, artifact: str) -> pd.DataFrame:
    """Plays of the catalogue or others with ids and times."""
    songs = "songs" if artifact == "plays" else "other_songs"
    ids = workspace.read("ingest", songs)["song_id"].to_pylist()
    users = workspace.read("ingest", "users")["user_id"].to_pylist()
    table = workspace.read("ingest", artifact).to_pandas()
    table["time"] = workspace.read("ingest", by_user.TIMES[artifact])["time"].to_pylist()
    table["user_id"] = [users[code] for code in table["user"]]
    table["song_id"] = [ids[code] for code in table["song"]]
    return table


# --- times beside the plays --------------------------------------------------------------


@pytest.mark.parametrize("a_part", [1 << 14, 8])
def test_each_play_keeps_its_time(corpus, untimed, tmp_path, monkeypatch, a_part) -> None:
    """And all else is what a source without times gives."""
    monkeypatch.setattr(by_user, "USERS_A_PART", a_part)
    monkeypatch.setattr(by_user, "PLAYS_A_PIECE", 50)
    with without_ray():
        INGEST.run(load(corpus, tmp_path / "w", ingest__bytes_per_shard=2 << 10))
    workspace, before = Workspace(str(tmp_path / "w")), Workspace(str(untimed))
    for artifact in by_user.ARTIFACTS:
        assert workspace.read("ingest", artifact).equals(before.read("ingest", artifact))
        assert not before.parts("ingest", by_user.TIMES[artifact])
        names = workspace.parts("ingest", artifact)
        assert workspace.parts("ingest", by_user.TIMES[artifact]) == names
        for name in names:
            assert by_user.timed_plays(workspace, artifact, name).num_columns == 4
        table = table_of(workspace, artifact)
        expected = times_of(table["user_id"].tolist(), table["song_id"].tolist())
        assert table["time"].isna().sum() == expected.count(None) > 0
        assert table["time"].fillna(-1).tolist() == [-1 if t is None else t for t in expected]
    counts = workspace.require("ingest")["counts"]
    assert counts["plays"] == before.require("ingest")["counts"]["plays"]


def test_a_source_some_of_whose_files_have_no_times_has_nulls(
    corpus, tmp_path, monkeypatch
) -> None:
    coded = plays._coded

    def without_some(run: Any, users: Any, songs: Any, shard: Any) -> dict[str, pa.Table]:
        tables = coded(run, users, songs, shard)
        drop = shard.part % 2
        return {n: t.drop_columns(["time"]) if drop else t for n, t in tables.items()}

    monkeypatch.setattr(plays, "_coded", without_some)
    with without_ray():
        INGEST.run(load(corpus, tmp_path / "w", ingest__bytes_per_shard=2 << 10))
    workspace = Workspace(str(tmp_path / "w"))
    times = workspace.read("ingest", "play_times")["time"]
    assert len(times) == workspace.read("ingest", "plays").num_rows
    assert 0.3 * len(times) < times.null_count < 0.7 * len(times)


# --- the parts ---------------------------------------------------------------------------


def test_new_songs_are_the_test_part(place) -> None:
    workspace = Workspace(str(place))
    counts = workspace.require("split")["counts"]
    table = table_of(workspace, "plays")
    timed = table.dropna(subset="time")
    cut = counts["cut"]
    share = (timed["time"] >= cut).mean()
    assert 0.2 <= share < 0.2 + 2 / len(timed)
    first = timed.groupby("song")["time"].min()
    part = pd.Series(workspace.read("split", "split")["part"].to_pylist())
    assert set(part.index[part == "test"]) == set(first.index[first >= cut])
    assert set(part.index[part == "validation"]) == set(
        first.index[(first >= counts["validation_cut"]) & (first < cut)]
    )
    assert abs((part == "validation").sum() - 0.1 * (first < cut).sum()) <= 1
    assert workspace.read("split", "split")["fold"].unique().to_pylist() == [-1]
    late, new = timed["time"] >= cut, timed["song"].map(first) >= cut
    assert counts["plays_before_cut"] == (~late).sum()
    assert counts["plays_of_new_songs"] == new.sum() > 20
    assert counts["plays_after_cut"] == (late & ~new).sum() > 20
    assert counts["plays_without_time"] == table["time"].isna().sum() > 20
    assert counts["songs_without_time"] == len(part) - len(first) > 0
    others = table_of(workspace, "other_plays")
    assert counts["other_plays_before_cut"] == (others["time"] < cut).sum() > 20
    assert counts["other_plays_left_out"] == (~(others["time"] < cut)).sum() > 20
    found = left_out({name: workspace.require(name)["counts"] for name in ("ingest", "split")})
    plays, after = len(table), counts["plays_after_cut"]
    assert LeftOut("plays", after, plays, "at the cut or later, of songs known before") in found


def test_a_moment_is_a_cut(corpus, place, tmp_path) -> None:
    """The same parts, however it is written; songs without tags stay out."""
    copy = Path(shutil.copytree(place, tmp_path / "w"))
    cut = Workspace(str(place)).require("split")["counts"]["cut"]
    date = Workspace(str(place)).require("split")["counts"]["cut_date"]
    keys = set()
    with without_ray():
        for moment in (cut, f"'{date}'", date):
            manifest = split.STAGE.run(load(corpus, copy, **BY_TIME, split__cut=moment))
            keys.add(manifest["key"])
            parts = Workspace(str(copy)).read("split", "split")
            assert parts.equals(Workspace(str(place)).read("split", "split"))
        assert len(keys) == 1
        tagged = load(corpus, copy, **BY_TIME, split__require_tags="true", label__source="mbtags")
        counts = split.STAGE.run(tagged)["counts"]
        assert counts["cut"] == cut
        assert counts["left_out_without_tags"] > 0
        with pytest.raises(DataError, match="no song is new at 2030-01-01T00:00:00Z or later"):
            split.STAGE.run(load(corpus, copy, **BY_TIME, split__cut="2030-01-01"))


def test_a_source_without_times_cannot_be_split_by_them(corpus, untimed, tmp_path) -> None:
    copy = Path(shutil.copytree(untimed, tmp_path / "w"))
    chosen = load(corpus, copy, **BY_TIME)
    with without_ray(), pytest.raises(SourceError, match=r"columns: \{timestamp: NAME\}"):
        split.STAGE.run(chosen)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(split, "TIMELESS", ("msd",))
        for check, more in (
            (split.STAGE.check, BY_TIME),
            (compare.STAGE.check, {**COMPARE, "compare__splits": "[time]"}),
        ):
            with pytest.raises(ConfigError, match="read them from tables with a timestamp"):
                check(load(corpus, copy, **more))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("recommend.protocol=heldout", "set recommend.protocol: oord"),
        ("split.folds=4", "set split.cut or split.test_share"),
        ("split.test_fold=1", "split.test_fold is 1, but split.by: time is one cut"),
        ("split.cut=soon", "split.cut is 'soon': write a date"),
        ("split.cut=2020", "write 2020 as a date"),
        ("split.test_share=1", "split.test_share is 1: Input should be less than 1"),
    ],
)
def test_what_means_nothing_under_a_cut_is_refused(more, message) -> None:
    base = ["split.by=time", "recommend.protocol=oord"]
    assert config_module.load(None, base).split.cut is None
    with pytest.raises(ConfigError, match=message):
        config_module.load(None, [*base, more])


def test_a_cut_survives_the_file_that_a_config_is_written_to(tmp_path) -> None:
    base = ["split.by=time", "recommend.protocol=oord"]
    for text in ("2020-01-31", "2020-01-31T10:00:00", "2020-01-31T10:00:00+02:00", "1580428800"):
        chosen = config_module.load(None, [*base, f"split.cut={text}"])
        file = tmp_path / "config.yaml"
        file.write_text(config_module.to_yaml(chosen))
        assert config_module.load(str(file), []) == chosen
        assert str(chosen.split.cut) == text


# --- what is known -----------------------------------------------------------------------


def test_what_is_known_is_what_was_played_before_the_cut(place) -> None:
    workspace = Workspace(str(place))
    cut = workspace.require("split")["counts"]["cut"]
    part = np.array(workspace.read("split", "split")["part"].to_pylist())
    table, others = table_of(workspace, "plays"), table_of(workspace, "other_plays")
    before, new = table["time"] < cut, part[table["song"]] == "test"
    division = Division.read(workspace)
    columns = ["user", "song", "plays"]

    def same(found: pa.Table, expected: pd.DataFrame) -> bool:
        return bool((found.to_pandas().to_numpy() == expected[columns].to_numpy()).all())

    assert same(known_plays(workspace, division), table[before])
    assert not (before & new).any()
    # All of a test song's plays that have a time are at the cut or later.
    expected = table[before | (new & table["time"].notna())]
    assert same(divided_plays(workspace, division), expected)
    assert same(known_other_plays(workspace, division), others[others["time"] < cut])
    some = expected[(expected["user"] >= 7) & (expected["user"] < 31)]
    assert same(divided_plays(workspace, division, 7, 31), some)
    seen = read_plays(workspace, 7, 31)
    assert seen.counts.sum() == some["plays"][part[some["song"]] != "test"].sum()


def test_lists_are_judged_by_new_songs_and_made_of_old_plays(place) -> None:
    workspace = Workspace(str(place))
    cut = workspace.require("split")["counts"]["cut"]
    table = table_of(workspace, "plays")
    part = np.array(workspace.read("split", "split")["part"].to_pylist())
    lists = workspace.read("recommend", "recommendations").to_pylist()
    assert len(lists) > 20
    for row in lists:
        own = table[table["user"] == row["user"]]
        old = own[own["time"] < cut].groupby("song")["plays"].sum()
        assert dict(zip(row["profile"], row["profile_plays"], strict=True)) == old.to_dict()
        late = own[own["time"].notna() & (part[own["song"]] == "test")]
        assert set(row["relevant_songs"]) == set(late["song_id"])


def test_a_search_is_judged_by_validation_songs_at_their_own_cut(corpus, place) -> None:
    workspace = Workspace(str(place))
    counts = workspace.require("split")["counts"]
    config = load(corpus, place, **BY_TIME)
    users = _validation_users(config, workspace)
    table = table_of(workspace, "plays")
    part = pd.Series(workspace.read("split", "split")["part"].to_pylist())
    usable = workspace.read("fuse", "fused")["present"].to_pylist()
    table = table[[usable[song] for song in table["song"]]]
    kinds = table["song"].map(part)
    old = table[(kinds == "train") & (table["time"] < counts["validation_cut"])]
    new = table[(kinds == "validation") & (table["time"] < counts["cut"])]
    judges = set(old["user"]) & set(new["user"])
    assert len(users.profiles.sizes) == len(judges) > 5
    assert users.profiles.plays.sum() == old[old["user"].isin(judges)]["plays"].sum()
    assert users.relevant.plays.sum() == new[new["user"].isin(judges)]["plays"].sum()


# --- no leak -----------------------------------------------------------------------------

LEARNED = ("split", "label", "pretrain", "embed", "fuse", "train", "blend", "recommend", "evaluate")


def files_of(place: Path) -> dict[str, bytes]:
    """What every result after the ingest holds, byte by byte, without what a clock measured."""
    found = {}
    for stage in LEARNED:
        for result in sorted(each for each in (place / stage).iterdir() if each.is_dir()):
            for file in sorted(result.rglob("*")):
                name = str(file.relative_to(place))
                if not file.is_file() or file.name == MANIFEST or set(_TOLD) & set(file.parts):
                    continue
                found[name] = file.read_bytes()
                if file.suffix == ".json":
                    told = timeless(json.loads(found[name]))
                    if isinstance(told, dict):
                        told.pop("songs_per_second", None)
                    found[name] = json.dumps(told).encode()
                elif file.name == "epochs.csv":
                    rows = csv.DictReader(file.read_text().splitlines())
                    found[name] = json.dumps(timeless(list(rows))).encode()
    return found


_TOLD = ("tensorboard", "checkpoints")
"""Folders of what a training says on its way, with the time."""


def change_what_is_later(workspace: Workspace) -> int:
    """Plays at the cut or later, or without a time: other counts and, of old songs, other songs."""
    cut = workspace.require("split")["counts"]["cut"]
    part = np.array(workspace.read("split", "split")["part"].to_pylist())
    plays = table_of(workspace, "plays")
    old = np.sort(plays[plays["time"] < cut]["song"].unique())  # the others have no time, or later
    following = np.arange(len(part))
    following[old] = np.roll(old, 1)
    changed = 0
    for artifact in by_user.ARTIFACTS:
        for name in workspace.parts("ingest", artifact):
            table = by_user.timed_plays(workspace, artifact, name)
            user, song, count = (c.to_numpy() for c in table.columns[:3])
            time = table["time"].fill_null(cut).to_numpy()
            late = time >= cut
            changed += late.sum()
            count = np.where(late, 7 * count + 5, count)
            if artifact == "plays":
                song = np.where(late, following[song], song)
                # Whose it is counts of a new song: those of old ones are another user's.
                user = np.where(late & (part[song] != "test"), user.min(), user)
            arrays = [pa.array(each, pa.int32()) for each in (user, song, count)]
            order = pa.array(np.lexsort((song, user)))
            rows = pa.table(arrays, schema=table.schema.remove(3)).take(order)
            pq.write_table(rows, workspace.path("ingest", artifact, name))
            times = table.select(["time"]).take(order)
            pq.write_table(times, workspace.path("ingest", by_user.TIMES[artifact], name))
    return int(changed)


def test_nothing_depends_on_what_is_played_at_the_cut_or_later(
    corpus, place, tmp_path, monkeypatch
) -> None:
    """No part of songs, vector, signal, training, profile or list; and who reads plays is known."""
    before = files_of(place)
    kinds = {Path(name).parts[0] for name in before}
    assert kinds == set(LEARNED)
    trainings = {Path(name).parts[1] for name in before if name.startswith("train/")}
    assert len(trainings) == 3
    copy = Path(shutil.copytree(place, tmp_path / "w"))
    workspace = Workspace(str(copy))
    assert change_what_is_later(workspace) > 100
    for stage in LEARNED:
        workspace.delete(stage)
    found = readers(monkeypatch)
    with without_ray():
        finish(corpus, copy)
    after = files_of(copy)
    assert after.keys() == before.keys()
    different = [name for name in before if before[name] != after[name]]
    assert not different
    assert {file for _, file in found} == {"split.py", "known_plays.py"}
    assert {artifact for artifact, _ in found} == {*by_user.ARTIFACTS, *by_user.TIMES.values()}


READERS = {
    "ingest/by_user.py": "all readers end here",
    "known_plays.py": "the door",
    "split.py": "when songs were first played",
    "lists/known.py": "everybody's lists",
    "opened/catalogue.py": "what is shown of everybody's lists",
    "opened/ranked.py": "everybody's lists: how many listeners a song has, of all plays",
    "update/lists.py": "everybody's lists, brought up to date",
    "update/numbering.py": "everybody's lists, brought up to date: new plays by the run's numbers",
    "update/users.py": "everybody's lists, brought up to date: all plays of who has new ones",
}
"""Who may read plays as they are, and why."""


def _reads_plays(tree: ast.AST) -> bool:
    names = {*by_user.ARTIFACTS, *by_user.TIMES.values()}
    raw = {"plays_of", "plays_of_users", "timed_plays", "ARTIFACTS", "TIMES"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "pipelines.ingest.by_user":
            imported = {each.name for each in node.names}
        else:
            imported = set()
        if raw & imported:
            return True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = [each.value for each in node.args if isinstance(each, ast.Constant)]
            if given[:1] == ["ingest"] and names & set(map(str, given)):
                return True
        if isinstance(node, ast.FunctionDef):
            for default in node.args.defaults:
                if isinstance(default, ast.Constant) and default.value in names:
                    return True
    return False


def test_plays_are_read_through_one_door() -> None:
    home = Path(pipelines.__file__).parent
    found = {
        str(file.relative_to(home))
        for file in home.rglob("*.py")
        if _reads_plays(ast.parse(file.read_text()))
    }
    assert found - {"ingest/plays.py"} == READERS.keys()


# --- comparisons -------------------------------------------------------------------------

COMPARE = {
    "compare__splits": "[song, time]",
    "compare__methods": "[random, popularity, wmf, popularity-oracle, linear-features]",
    "compare__test_folds": "[0, 1]",
    "compare__fold_seeds": 2,
    "compare__resamples": 100,
    "compare__wmf": "{factors: 4}",
    "split__folds": 4,
}


def test_a_comparison_has_one_fold_of_time(corpus, place, tmp_path) -> None:
    """With the same cut as a run of its own; no method sees what is later."""
    copy = Path(shutil.copytree(place, tmp_path / "w"))
    chosen = load(corpus, copy, **COMPARE)
    of_time = [fold for fold in folds(chosen) if fold.by == "time"]
    assert of_time == [Fold("time", 0)]
    assert len(folds(chosen)) == 5
    with without_ray():
        compare.STAGE.run(chosen)
    workspace = Workspace(str(copy))
    tables = timeless(workspace.read_json("compare", "comparison.json"))
    row = {each["name"]: each for each in tables["time"]["rows"]}
    assert row.keys() == {each["name"] for each in tables["song"]["rows"]}
    assert tables["time"]["folds"]["fold_seeds"] == 1
    assert len(tables["song"]["folds"]["folds"]) == 2
    at = fold_workspace(of_time[0].config(chosen), workspace)
    assert at.read("split", "split").equals(Workspace(str(place)).read("split", "split"))
    context = Context(of_time[0].config(chosen), at, seed=0)
    cut = at.require("split")["counts"]["cut"]
    table = table_of(at, "plays")
    assert (
        context.plays(("train", "validation"))[2].sum() == table[table["time"] < cut]["plays"].sum()
    )
    evaluation = read_evaluation(at)
    late = table[table["time"] >= cut]
    part = evaluation.part[late["song"]]
    judges = late[(part == "test") & late["user"].isin(set(evaluation.users.tolist()))]
    assert evaluation.relevant.sizes.sum() == len(judges.drop_duplicates(["user", "song"]))
    # Another cut is another comparison; without a split by time it is the same.
    for splits, same in (("[song]", True), ("[song, time]", False)):
        keys = {
            compare.STAGE.plan(
                load(
                    corpus, copy, **{**COMPARE, "compare__splits": splits}, split__test_share=share
                ),
                workspace,
            ).key
            for share in (0.2, 0.3)
        }
        assert (len(keys) == 1) == same


def test_a_run_by_time_does_not_depend_on_the_seed_of_a_hash(corpus, tmp_path) -> None:
    workspace = Workspace(str(tmp_path))

    def key(config: Config) -> str:
        return split.STAGE.plan(config, workspace).key

    keys = {key(load(corpus, tmp_path, **BY_TIME, seed=seed)) for seed in (0, 1)}
    assert len(keys) == 1
    for more in ({"split__cut": "2018-01-01"}, {"split__test_share": 0.3}):
        assert key(load(corpus, tmp_path, **BY_TIME, **more)) not in keys
    names = [stage.name for stage in stages(load(corpus, tmp_path, **BY_TIME))]
    assert names[-3:] == [blend.STAGE.name, recommend.STAGE.name, "evaluate"]
