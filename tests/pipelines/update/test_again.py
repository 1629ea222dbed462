"""Updates of more files, of other ones and of none; killed, withdrawn and superseded."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fusionrec.errors import SourceError
from pipelines import config, lists, update
from pipelines.cli.main import main
from pipelines.cli.recommend import for_user
from pipelines.cli.update import NOTHING, WITHDRAWN
from pipelines.opened import Recommender, updates
from pipelines.opened.stored import lists_shown
from pipelines.run import stages
from pipelines.runtime import cleaning
from pipelines.update import lists as lists_of_update
from tests.pipelines.update.places import all_plays, before, listed, written


def test_nothing_new_is_told_and_makes_no_result(fresh, capsys) -> None:
    arguments = ["update", "--config", str(written(fresh))]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code
    assert "nothing is new" in capsys.readouterr().out
    assert fresh.workspace.results("update") == []
    with pytest.raises(SourceError, match="nothing is new"):
        update.STAGE.run(fresh.config())


def test_again_it_is_up_to_date_and_more_files_are_one_more_result(fresh, capsys) -> None:
    """Each stands on the run: two steps are one of both."""
    songs, plays = fresh.late.songs, fresh.late.plays
    halves = [
        replace(fresh.late, songs=(songs[0], songs[1][n::2]), plays=(plays[0], plays[1][n::2]))
        for n in range(2)
    ]
    halves[0].write(fresh.tables, "2", late=True)
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main(["update", "--config", str(written(fresh)), "--json"])
        assert not ended.value.code
        counts = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert counts["new_songs"] == len({row[0] for row in halves[0].songs[1]})
    (first,) = fresh.workspace.results("update")
    halves[1].write(fresh.tables, "3", late=True)
    with pytest.raises(SystemExit) as ended:
        main(["update", "--config", str(written(fresh))])
    told = capsys.readouterr().out
    assert not ended.value.code
    assert "new songs beside those that the last run held out" in told
    assert "A refit is due (`fusionrec run`):" in told
    assert f"{fresh.folder}/w/update/report.json" in told
    assert fresh.workspace.require("update")["key"] != first
    counts = fresh.workspace.require("update")["counts"]
    assert counts["new_songs"] == len({row[0] for row in songs[1]})
    # The half before is not needed any longer; the run that both stand on is.
    gone = {(found.stage, found.key) for found in cleaning.unneeded(fresh.workspace)}
    assert gone == {("update", first)}


def test_paths_that_are_added_to_the_config_are_new(fresh, places) -> None:
    """A file elsewhere, by its own path; and the lists are those of the same file in the folder."""
    late, elsewhere = fresh.late, fresh.folder / "elsewhere"
    late.write(elsewhere, "2", late=True)
    tables = fresh.config().source.tables.model_dump(mode="json")
    for name in ("songs", "plays", "lyrics"):
        tables[name]["paths"] = [*tables[name]["paths"], str(elsewhere / f"{name}-2.csv")]
    tables["features"]["sound"]["paths"].append(f"file://{elsewhere}/sound-2.parquet")
    update.STAGE.run(config.replaced(fresh.config(), {"source.tables": tables}))
    assert listed(fresh.workspace) == listed(places["genre"].workspace)


def test_songs_that_the_run_has_are_listed_and_stay_as_they_are(fresh, places) -> None:
    late = fresh.late
    again = late.songs[0][3]
    other = [again[0], "Somebody Else", *again[2:]]
    replace(late, songs=(late.songs[0], [*late.songs[1], other])).write(
        fresh.tables, "2", late=True
    )
    update.STAGE.run(fresh.config())
    assert listed(fresh.workspace) == listed(places["genre"].workspace)
    rejects = fresh.workspace.read("update", "rejects").to_pylist()
    (found,) = (row for row in rejects if row["reason"] == "song of the last run")
    assert (found["source"], found["action"]) == ("songs-2.csv", "excluded")
    assert (found["item"], found["detail"]) == (str(2 + len(late.songs[1])), again[0])
    assert fresh.workspace.require("update")["counts"]["songs_of_the_run"] == 1


def test_plays_alone_are_enough(fresh, capsys) -> None:
    empty = replace(fresh.late, songs=(fresh.late.songs[0], []), lyrics=(fresh.late.lyrics[0], []))
    empty.write(fresh.tables, "2", late=True)
    for name in ("songs-2.csv", "lyrics-2.csv", "sound-2.parquet"):
        (fresh.tables / name).unlink()
    with pytest.raises(SystemExit):
        main(["update", "--config", str(written(fresh))])
    assert "held out" not in capsys.readouterr().out
    counts = fresh.workspace.require("update")["counts"]
    assert counts["new_songs"] == 0
    assert counts["new_plays"] > 0
    assert counts["distance"] == {}
    rows = {row["user_id"]: row for row in listed(fresh.workspace)}
    for row in before(fresh).recommend(all_plays(fresh), top=30).to_pylist():
        if not row["fallback"]:
            assert row["song_ids"] == rows[row["user_id"]]["song_ids"]


def test_an_update_that_is_killed_goes_on_where_it_was(fresh, places, monkeypatch) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    calls: list[int] = []
    ranked_before = lists_of_update._update

    def dies(*arguments: Any) -> Any:
        calls.append(arguments[-1].part)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return ranked_before(*arguments)

    monkeypatch.setattr(lists_of_update, "_update", dies)
    with pytest.raises(KeyboardInterrupt):
        update.STAGE.run(fresh.config())
    assert fresh.workspace.manifest("update") is None
    update.STAGE.run(fresh.config())
    parts = len(fresh.workspace.parts("update", "lists"))
    assert calls == [0, 1, 2, *range(2, parts)]
    assert listed(fresh.workspace) == listed(places["genre"].workspace)


def test_once_its_files_are_gone_it_is_shown_no_longer(fresh, capsys) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    update.STAGE.run(fresh.config())
    listed_late = listed(fresh.workspace)
    for file in sorted(fresh.tables.glob("*-2.*")):
        file.rename(fresh.folder / file.name)
    for told in (f"update: {NOTHING}; {WITHDRAWN}", f"update: {NOTHING}"):
        with pytest.raises(SystemExit) as ended:
            main(["update", "--config", str(written(fresh))])
        assert not ended.value.code
        assert capsys.readouterr().out.splitlines()[-1] == told
        assert not updates.has(lists_shown(fresh.workspace))
        assert not (fresh.folder / "w" / "update" / "report.json").exists()
    offered = Recommender.open(fresh.folder / "w").vectors("all")["song_id"].to_pylist()
    assert fresh.late.known_before not in offered
    for file in fresh.folder.glob("*-2.*"):
        file.rename(fresh.tables / file.name)
    (before,) = fresh.workspace.results("update")
    assert update.STAGE.run(fresh.config())["key"] == before
    assert listed(fresh.workspace) == listed_late
    assert (fresh.folder / "w" / "update" / "report.json").exists()


def test_a_full_run_supersedes_it_and_clean_removes_what_it_had(fresh, capsys) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    update.STAGE.run(fresh.config())
    old = set(fresh.workspace.current().items())
    chosen = fresh.config()
    for stage in stages(chosen):
        if stage.name == "recommend":
            break
        stage.run(chosen)
    assert updates.with_update(fresh.workspace) is None
    lists.STAGE.run(chosen)
    gone = {(found.stage, found.key) for found in cleaning.unneeded(fresh.workspace)}
    assert {stage for stage, _ in gone} >= {"ingest", "embed", "train", "lists", "update"}
    assert gone == old
    with pytest.raises(SystemExit) as ended:
        main(["clean", "--config", str(written(fresh))])
    assert not ended.value.code
    assert cleaning.unneeded(fresh.workspace) == []
    assert len(for_user(str(fresh.folder / "w"), fresh.late.plays[0][0][0], 30).songs) == 30


def test_other_lists_supersede_it(fresh) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    update.STAGE.run(fresh.config())
    assert updates.has(lists_shown(fresh.workspace))
    chosen = fresh.config(lists__top=7)
    lists.STAGE.run(chosen)
    assert not updates.has(lists_shown(fresh.workspace))
    user = fresh.late.plays[0][0][0]
    assert len(for_user(str(fresh.folder / "w"), user, 30).songs) == 7
