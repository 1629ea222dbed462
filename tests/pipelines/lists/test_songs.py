"""Which songs are on the lists: of a part, of a file, of years and tags, of an artist a few."""

import numpy as np
import pandas as pd
import pytest

from fusionrec.errors import ConfigError
from pipelines.runtime.workspace import Workspace
from tests.pipelines.lists.making import (
    NEW,
    catalogue,
    check_against_hand,
    made,
)


@pytest.mark.parametrize("name", ["new", "test", "train"])
def test_songs_are_those_that_nobody_played_or_of_a_part(small, places, name) -> None:
    workspace = made(small, places["genre"], candidates=name)
    songs = catalogue(workspace)
    wanted = songs.index.isin(NEW) if name == "new" else (songs["part"] == name).to_numpy()
    check_against_hand(workspace, "genre", wanted)
    counts = workspace.require("lists")["counts"]
    assert counts["candidates"] == counts["songs"] - counts["without_vector"]
    if name == "new":
        assert counts["songs"] >= len(NEW)


def test_what_was_played_comes_again_where_it_may(small, places) -> None:
    workspace = made(small, places["genre"], repeat=True)
    candidates = workspace.require("lists")["counts"]["candidates"]
    rows = workspace.read("lists", "lists")["song_ids"].to_pylist()
    assert {len(row) for row in rows} == {candidates}
    without = Workspace(str(places["genre"])).read("lists", "lists")["song_ids"].to_pylist()
    for row, less in zip(rows, without, strict=True):
        left = set(less)
        assert [song for song in row if song in left] == less


def test_filters_are_of_years_and_tags(small, places) -> None:
    songs = catalogue(Workspace(str(places["genre"])))
    tags = pd.Series([[*row.terms, *row.mbtags] for row in songs.itertuples()]).explode()
    tag = tags.value_counts().index[3]
    years = songs["year"].dropna().astype(int)
    low, high = int(years.quantile(0.2)), int(years.quantile(0.8))
    workspace = made(small, places["genre"], years=[low, high])
    wanted = songs["year"].between(low, high).to_numpy()
    check_against_hand(workspace, "genre", wanted)
    assert songs["year"].isna().any()
    workspace = made(small, places["genre"], tags=f"[{tag.upper()}, nothing of that name]")
    has = np.array([tag in [*row.terms, *row.mbtags] for row in songs.itertuples()])
    check_against_hand(workspace, "genre", has)
    counts = workspace.require("lists")["counts"]
    assert (
        counts["filtered_out"]
        == counts["songs"] - counts["without_vector"] - (counts["candidates"])
    )


@pytest.mark.parametrize("model", ["genre", "blend"])
@pytest.mark.parametrize("most", [1, 2])
def test_an_artist_has_few_songs_on_a_list(small, places, model, most) -> None:
    """The list without the limit, less what is too much of an artist."""
    place = places[model]
    songs = catalogue(Workspace(str(place)))
    artist = dict(zip(songs["song_id"], songs["artist_id"], strict=True))
    whole = made(small, place, model, repeat=True)
    limited = made(small, place, model, repeat=True, per_artist=most, top=12)
    for all_of, few in zip(
        whole.read("lists", "lists").to_pylist(),
        limited.read("lists", "lists").to_pylist(),
        strict=True,
    ):
        expected: list[str] = []
        for song in all_of["song_ids"]:
            already = [artist[other] for other in expected].count(artist[song])
            if already < most and len(expected) < 12:
                expected.append(song)
        assert few["song_ids"] == expected
        assert few["fallback"] == all_of["fallback"]


def test_songs_of_a_file(small, places, tmp_path, caplog) -> None:
    songs = catalogue(Workspace(str(places["genre"])))
    ids = songs["song_id"].tolist()[10:60]
    file = tmp_path / "ids.txt"
    lines = [*ids, ids[0], "", "SOUNKNOWN1", "  SOUNKNOWN2 "]
    file.write_text("\n".join(lines))
    with caplog.at_level("WARNING"):
        workspace = made(small, places["genre"], candidates=file)
    check_against_hand(workspace, "genre", songs["song_id"].isin(ids).to_numpy())
    counts = workspace.require("lists")["counts"]
    assert counts["unknown_ids"] == 2
    assert counts["first_unknown_ids"] == ["SOUNKNOWN1", "SOUNKNOWN2"]
    assert "2 ids of" in caplog.text
    again = made(small, places["genre"], candidates=f"file://{file}")
    assert again.key("lists") == workspace.key("lists")
    file.write_text("\n".join(ids[:5]))
    assert made(small, places["genre"], candidates=file).key("lists") != workspace.key("lists")


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (None, {}, r"^lists.candidates: .*ids.txt: there is no such file; name one of song ids"),
        (" \n\n", {}, r"^lists.candidates: .*ids.txt: is empty; write song ids into it"),
        ("SOX\n", {}, r"^0 songs are left of lists.candidates: .* \(1 ids are in no catalogue\)"),
        ("all", {"least": 151}, r"and lists.least is 151: widen lists.candidates, or lower"),
        ("all", {"years": [1, 2]}, r"left out by lists.years\).* widen lists.candidates or lists"),
    ],
)
def test_too_few_songs_end_the_stage(small, places, tmp_path, content, settings, message) -> None:
    file = tmp_path / "ids.txt"
    if content not in (None, "all"):
        file.write_text(content)
    chosen = "all" if content == "all" else file
    with pytest.raises(ConfigError, match=message) as found:
        made(small, places["genre"], candidates=chosen, **settings)
    assert "\n" not in str(found.value)
