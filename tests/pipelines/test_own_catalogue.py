"""A catalogue of one's own, with other names of columns, ids in any letters, and fifty defects."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionrec.formats.sample import write_tables
from pipelines import config
from pipelines.cli.main import main
from pipelines.run import run
from pipelines.runtime.workspace import Workspace
from tests.docs import blocks
from tests.pipelines.inline import without_ray

PAGE = "docs/catalogue.md"
FIRST = "## Your own catalogue in five minutes"
UPDATE = "## New songs and plays"
SMALL = {
    "cluster.num_cpus": 2,
    "pretrain.workers": 0,
    "pretrain.hidden_size": 32,
    "pretrain.heads": 2,
    "pretrain.layers": 1,
    "pretrain.epochs": 1,
    "train.epochs": 4,
    "evaluate.resamples": 200,
}
OVERRIDES = [f"{key}={value}" for key, value in SMALL.items()]


@dataclass(frozen=True)
class Defect:
    """A line that something is wrong with.

    Attributes
    ----------
    file, line
        Where it stands, and its bytes without the newline.
    reason
        What its reject says, a regular expression.
    action
        What becomes of it.
    ids
        Of what is sound by itself, and only found to be odd beside the other tables: the id that
        its reject names, of plays without a line.
    """

    file: str
    line: bytes
    reason: str
    action: str = "dropped"
    ids: str = ""


GOOD, OTHER = "{good}", "{other}"
"""Stand for ids of two songs."""

SONG = "Wer,Lied,Platte,1999,200.0,rock|jazz,2011-01-01"


def of_songs() -> list[Defect]:
    def song(name: str, *changes: tuple[str, str]) -> bytes:
        row = SONG
        for old, new in changes:
            row = row.replace(old, new)
        return f"{name},{row}".encode()

    return [
        Defect("songs.csv", song("few").rpartition(b",")[0], "wrong number of fields"),
        Defect("songs.csv", song("many") + b",more", "wrong number of fields"),
        Defect("songs.csv", b'unclosed,"Wer,Lied,Platte,1999,200.0,rock,2011-01-01', "not closed"),
        Defect("songs.csv", song(""), "empty song_id"),
        Defect("songs.csv", song("  "), "empty song_id"),
        Defect("songs.csv", song(GOOD), "song read before", "excluded", GOOD),
        Defect("songs.csv", song(OTHER, ("Lied", "Anders")), "song read before", "excluded", OTHER),
        Defect("songs.csv", song("year-text", ("1999", "soon")), "year", "nulled"),
        Defect("songs.csv", song("year-late", ("1999", "99999")), "year", "nulled"),
        Defect("songs.csv", song("year-none", ("1999", "0")), "year", "nulled"),
        Defect("songs.csv", song("long", ("200.0", "long")), "duration", "nulled"),
        Defect("songs.csv", song("endless", ("200.0", "inf")), "duration", "nulled"),
        Defect("songs.csv", song("backwards", ("200.0", "-3")), "duration", "nulled"),
        Defect("songs.csv", song("untitled", ("Lied", "")), "title is empty", "nulled"),
    ]


def of_plays() -> list[Defect]:
    user = "zoë-defect"

    def play(
        count: str, song: str = GOOD, at: str = "2012-05-06T07:08:09Z", by: str = user
    ) -> bytes:
        return f"{by},{song},{count},{at}".encode()

    return [
        Defect("plays.csv", f"{user},{GOOD}".encode(), "wrong number of fields"),
        Defect("plays.csv", play("1") + b",more,still", "wrong number of fields"),
        Defect("plays.csv", f'{user},"{GOOD},1,2012-05-06'.encode(), "not closed"),
        Defect("plays.csv", play("-3"), "plays is zero or negative"),
        Defect("plays.csv", play("0"), "plays is zero or negative"),
        Defect("plays.csv", play("2.5"), "plays is not a whole number"),
        Defect("plays.csv", play("often"), "plays is not a number"),
        Defect("plays.csv", play("inf"), "plays is not a number"),
        Defect("plays.csv", play(""), "plays is empty"),
        Defect("plays.csv", play("99999999999"), "plays is too large"),
        Defect("plays.csv", play("1", by=""), "empty user_id"),
        Defect("plays.csv", play("1", by="  "), "empty user_id"),
        Defect("plays.csv", play("1", song=""), "empty song_id"),
        Defect("plays.csv", play("1", at="yesterday"), "timestamp", "nulled"),
        Defect("plays.csv", play("1", at=""), "timestamp", "nulled"),
        Defect("plays.csv", play("1", at="2012-13-45T00:00:00Z"), "timestamp", "nulled"),
        Defect(
            "plays.csv", play("1", "unbekannt-ü"), "not in the corpus", "unmatched", "unbekannt-ü"
        ),
        Defect(
            "plays.csv",
            play("1", "bad-\xff").decode().encode("latin-1").replace(b"zo\xeb", "zoë".encode()),
            "not in the corpus",
            "unmatched",
            r"bad-\xff",
        ),
    ]


def of_lyrics() -> list[Defect]:
    return [
        Defect("lyrics.csv", b"few", "wrong number of fields"),
        Defect("lyrics.csv", b"many,love:3,you:2", "wrong number of fields"),
        Defect("lyrics.csv", b",love:3 you:2", "empty song_id"),
        Defect(
            "lyrics.csv", b"no-such-song,love:3", "not in the corpus", "unmatched", "no-such-song"
        ),
        Defect("lyrics.csv", f"{GOOD},love:3".encode(), "read before", "excluded", GOOD),
        Defect("lyrics.csv", b"text-count,love:many you:2", "counts"),
        Defect("lyrics.csv", b"negative-count,love:-3 you:2", "counts"),
        Defect("lyrics.csv", b'unclosed,"love:3 you:2', "not closed"),
    ]


def of_vectors() -> list[Defect]:
    def vector(name: str, *first: str, numbers: int = 24) -> bytes:
        return ",".join([name, *first, *["0.5"] * (numbers - len(first))]).encode()

    return [
        Defect("sound.csv", vector("v", "nan"), "vector"),
        Defect("sound.csv", vector("v", "inf"), "vector"),
        Defect("sound.csv", vector("v", "0.5", "-inf"), "vector"),
        Defect("sound.csv", vector("v", "loud"), "vector"),
        Defect("sound.csv", vector("v", ""), "vector"),
        Defect("sound.csv", vector("v", numbers=23), "wrong number of fields"),
        Defect("sound.csv", vector("v", numbers=25), "wrong number of fields"),
        Defect("sound.csv", vector(""), "empty song_id"),
        Defect(
            "sound.csv", vector("no-such-song"), "not in the corpus", "unmatched", "no-such-song"
        ),
        Defect("sound.csv", vector(GOOD), "read before", "excluded", GOOD),
    ]


DEFECTS = [*of_songs(), *of_plays(), *of_lyrics(), *of_vectors()]
assert len(DEFECTS) == 50


def sound_rows(place: Path) -> dict[str, list[list[str]]]:
    """The rows of a sample's tables that nothing is wrong with, below a row of column names."""
    tables: dict[str, list[list[str]]] = {}
    for name in ("songs.csv", "plays.csv", "lyrics.csv"):
        with (place / name).open(encoding="utf-8", newline="") as file:
            tables[name] = list(csv.reader(file))
    for row in tables["songs.csv"]:  # of the sample a tenth has no year, which is a reject, too
        row[4] = "1980" if row[4] in ("", "unknown") else row[4]
    tables["songs.csv"] = [row for row in tables["songs.csv"] if row[1]]
    known = {row[0] for row in tables["songs.csv"]}
    tables["plays.csv"] = [
        row
        for row in tables["plays.csv"]
        if row[1] in known and len(row) == 4 and row[3] != "yesterday" and row[2].isdigit()
    ]
    tables["plays.csv"].insert(0, ["uid", "track", "listens", "ts"])
    tables["lyrics.csv"] = [row for row in tables["lyrics.csv"] if row[0] in known | {"track"}]
    # Vectors in columns, a number each.
    ids = (place / "sound_ids.txt").read_text("utf-8").splitlines()
    vectors = np.load(place / "sound.npy")
    rows = [
        [name, *(f"{x:.6g}" for x in vector)]
        for name, vector in zip(ids, vectors.tolist(), strict=True)
        if name in known and np.isfinite(vector).all()
    ]
    tables["sound.csv"] = [["track", *(f"x{i}" for i in range(24))], *rows]
    return tables


@dataclass(frozen=True)
class Catalogue:
    """The tables with their defects, and on which line of its file each stands."""

    root: Path
    lines: list[int]
    users: set[str]
    good: str
    other: str

    def filled(self, text: str) -> str:
        return text.replace(GOOD, self.good).replace(OTHER, self.other)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory) -> Catalogue:
    """Tables of 300 songs and 60 users, among whose rows the defects are."""
    place = tmp_path_factory.mktemp("own")
    write_tables(place / "sample", songs=300, users=60, seed=4)
    tables = sound_rows(place / "sample")
    with_lyrics = {row[0] for row in tables["lyrics.csv"]}
    with_sound = {row[0] for row in tables["sound.csv"]}
    ids = [row[0] for row in tables["songs.csv"][1:40] if row[0] in with_lyrics & with_sound]
    good, other = next(i for i in ids if not i.isascii()), next(i for i in ids if i.isascii())
    found = Catalogue(
        place, [0] * len(DEFECTS), {row[0] for row in tables["plays.csv"][1:]}, good, other
    )
    rng = np.random.default_rng(0)
    for name, rows in tables.items():
        lines: list[tuple[bytes, int | None]] = [(joined(row), None) for row in rows]
        # Behind the rows that tell what the columns are, and the songs that are repeated.
        for number, defect in enumerate(DEFECTS):
            if defect.file == name:
                line = defect.line.replace(GOOD.encode(), good.encode())
                line = line.replace(OTHER.encode(), other.encode())
                lines.insert(int(rng.integers(60, len(lines))), (line, number))
        for at, (_, number) in enumerate(lines, 1):
            if number is not None:
                found.lines[number] = at
        (place / name).write_bytes(b"\n".join(line for line, _ in lines) + b"\n")
    return found


def joined(row: Iterable[str]) -> bytes:
    assert not any(mark in text for text in row for mark in ',"\n')
    return ",".join(row).encode()


@pytest.fixture(scope="module")
def finished(catalogue) -> Path:
    """The configuration that `init` wrote, whose run is finished."""
    output = catalogue.root / "config.yaml"
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *("init", "--songs", f"{catalogue.root}/songs.csv"),
                *("--plays", f"{catalogue.root}/plays.csv"),
                *("--lyrics", f"{catalogue.root}/lyrics.csv"),
                *("--features", f"sound={catalogue.root}/sound.csv"),
                *("--output", str(output), "--workspace", f"{catalogue.root}/workspace"),
            ]
        )
    assert not ended.value.code
    with without_ray():
        run(config.load(output, OVERRIDES))
    return output


def rejects(output: Path) -> list[dict[str, str]]:
    workspace = Workspace(config.load(output).workspace)
    rows: list[dict[str, str]] = workspace.read("ingest", "rejects").to_pylist()
    return rows


def matches(catalogue: Catalogue, number: int) -> Callable[[dict[str, str]], bool]:
    """Whether a reject is of a defect."""
    defect, line = DEFECTS[number], str(catalogue.lines[number])
    stem = defect.file.removesuffix(".csv")
    name = catalogue.filled(defect.ids)

    def match(reject: dict[str, str]) -> bool:
        if not re.search(defect.reason, reject["reason"]) or reject["action"] != defect.action:
            return False
        if name:
            of_table = stem in reject["source"] or reject["source"] == "vectors"
            if stem != "plays" and reject["item"] != line:
                return False
            return of_table and name in (reject["item"], reject["detail"].partition(": ")[0])
        return reject["source"] == defect.file and reject["item"] == line

    return match


@pytest.mark.parametrize("number", range(len(DEFECTS)))
def test_each_defect_is_listed(catalogue, finished, number) -> None:
    found = [reject for reject in rejects(finished) if matches(catalogue, number)(reject)]
    near = [r for r in rejects(finished) if r["item"] == str(catalogue.lines[number])]
    assert len(found) == 1, (DEFECTS[number], catalogue.lines[number], near)


def test_nothing_else_is_listed(catalogue, finished) -> None:
    tests = [matches(catalogue, number) for number in range(len(DEFECTS))]
    others = [reject for reject in rejects(finished) if not any(test(reject) for test in tests)]
    assert not others


def test_the_report_counts_them(finished) -> None:
    workspace = Workspace(config.load(finished).workspace)
    counts: dict[str, Any] = workspace.require("ingest")["counts"]
    assert counts["rejects"] == dict(Counter(reject["action"] for reject in rejects(finished)))
    assert counts["rejects"] == dict(Counter(defect.action for defect in DEFECTS))


def test_what_is_sound_is_used(catalogue, finished) -> None:
    workspace = Workspace(config.load(finished).workspace)
    tables = sound_rows(catalogue.root / "sample")
    songs = workspace.read("ingest", "songs").to_pylist()
    nulled = [
        d.line.split(b",")[0].decode()
        for d in DEFECTS
        if d.action == "nulled" and "songs" in d.file
    ]
    names = [row[0] for row in tables["songs.csv"][1:]] + nulled
    assert sorted(song["song_id"] for song in songs) == sorted(names)
    by_id = {song["song_id"]: song for song in songs}
    for row in tables["songs.csv"][1:]:
        found = by_id[row[0]]
        shown = (found["artist_name"], found["title"], found["release"], str(found["year"]))
        assert shown == tuple(row[1:5])
        assert found["mbtags"] == [tag for tag in row[6].split("|") if tag]
    users = set(workspace.read("ingest", "users")["user_id"].to_pylist())
    assert users == catalogue.users | {"zoë-defect"}


def test_everyone_gets_a_list(catalogue, finished) -> None:
    settings = [part for override in OVERRIDES for part in ("--set", override)]
    with without_ray(), pytest.raises(SystemExit) as ended:
        main(["recommend", "--for", "everyone", "--config", str(finished), *settings])
    assert not ended.value.code
    resolved = config.load(finished, OVERRIDES)
    lists = Workspace(resolved.workspace).read("lists", "lists").to_pylist()
    assert {row["user_id"] for row in lists} == catalogue.users | {"zoë-defect"}
    assert len(lists) == len(catalogue.users) + 1
    assert all(row["song_ids"] for row in lists)


def plain(text: str) -> str:
    """Text on one line, without numbers of rows and what only so few songs are told."""
    text = re.sub(r"Remark: Only about .*?luck\.", "", text, flags=re.DOTALL)
    return " ".join(re.sub(r"about [\d,]+", "about N", text).split())


@pytest.mark.slow
def test_the_guides_commands_run(tmp_path) -> None:
    (block,) = blocks.section(PAGE, FIRST, "sh")
    (update,) = blocks.commands(*blocks.section(PAGE, UPDATE, "sh"))
    commands = [line.split() for line in blocks.commands(block)]
    assert [words[1] for words in commands] == ["sample", "init", "run", "recommend", "recommend"]
    told: list[str] = []
    for words in commands:
        if words[1] == "sample":
            words = [*words, "--songs", "200", "--users", "40"]
        if words[1] == "run" or "everyone" in words:
            words = [*words, *(part for override in OVERRIDES for part in ("--set", override))]
        if "USER_ID" in words:
            users = (tmp_path / "shop/tables/plays.csv").read_text().splitlines()
            words = [users[-1].split(",")[0] if word == "USER_ID" else word for word in words]
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", *words[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr)
        told.append(done.stdout)
    # New plays in a file of their own.
    plays = tmp_path / "shop/tables/plays.csv"
    head, *_, last = plays.read_text().splitlines()
    row = last.split(",")
    (plays.parent / "more.csv").write_text("\n".join([head, ",".join(["somebody", *row[1:]]), ""]))
    more = "source.tables.plays.paths=[plays.csv, more.csv]"
    settings = [part for override in (*OVERRIDES, more) for part in ("--set", override)]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *update.split()[1:], *settings],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    updated = Workspace(str(tmp_path / "shop/workspace")).require("update")
    assert updated["counts"]["new_users"] == updated["counts"]["new_plays"] == 1
    # What the guide shows of `init` is what it prints, but for places, numbers and line breaks.
    (shown,) = (block.text for block in blocks.section(PAGE, FIRST, "text"))
    printed = plain(told[1].replace(str(tmp_path), "/home/you"))
    for part in shown.split("  ...\n"):
        assert plain(part) in printed
    assert "Left out" in told[2]
    assert "mAP@" in told[2]
