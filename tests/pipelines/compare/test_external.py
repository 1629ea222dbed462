"""Lists made elsewhere, beside the methods of a comparison."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from fusionrec.errors import ConfigError, FusionrecError, SourceError
from fusionrec.formats import user_lists
from pipelines.cli import results
from pipelines.compare import external
from pipelines.compare.folds import Fold, fold_workspace, read_evaluation
from pipelines.ingest.by_user import user_ids_of
from pipelines.runtime.workspace import Workspace
from tests.pipelines.compare.comparing import configured, rankings, rows, run, written


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
    assert f"rankings {without} have no list and 0 no candidate in it: these score 0" in text
    assert "1 of unknown users, with 1 unknown songs in all" in text
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
