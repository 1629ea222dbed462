"""`fusionrec init`: what it takes columns for, what it writes, and what it refuses."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from fusionrec.formats.sample import write_tables
from fusionrec.formats.tables import names as readers
from fusionrec.formats.tables import read_songs
from fusionrec.formats.tables.spec import REQUIRED
from pipelines import config
from pipelines.cli import looks
from pipelines.cli.guesses import NAMES, guess, separator_of
from pipelines.cli.main import main


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("catalogue")
    write_tables(place, songs=60, users=8, seed=2)
    return place


def told(capsys, *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command."""
    with pytest.raises(SystemExit) as ended:
        main(["init", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def asked(place: Path, output: Path, *more: object) -> list[object]:
    songs, plays = place / "songs.csv", place / "plays.csv"
    return ["--songs", songs, "--plays", plays, "--output", output, *more]


def column(name: str, *values: object) -> dict[str, list[str]]:
    return {name: [str(value) for value in values]}


def leaves_of(tree: dict[str, Any], known: set[str], before: str = "") -> Iterator[str]:
    """Dotted names of a tree's values; a mapping that is the value of a key is one."""
    for name, value in tree.items():
        inside = isinstance(value, dict) and before + name not in known
        yield from leaves_of(value, known, f"{before}{name}.") if inside else (before + name,)


def table(place: Path, name: str, columns: Sequence[str], *rows: Sequence[object]) -> Path:
    lines = [",".join(map(str, row)) for row in (columns, *rows)]
    path = place / name
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_samples_columns_are_told_apart(catalogue, tmp_path, capsys) -> None:
    vectors = f"sound={catalogue}/sound.npy:{catalogue}/sound_ids.txt"
    code, out, _ = told(
        capsys,
        *asked(catalogue, tmp_path / "c.yaml", "--lyrics", catalogue / "lyrics.csv", "--json"),
        *("--features", vectors),
    )
    assert code == 0
    found = json.loads(out)
    assert found["tables"]["songs"]["columns"] == {
        "song_id": "track",
        "title": "name",
        "release": "album",
        "artist_id": "performer",
        "artist_name": "performer",
        "year": "released",
        "duration": "seconds",
        "tags": "genres",
    }
    assert found["tables"]["songs"]["unused"] == ["added"]
    assert found["tables"]["plays"]["columns"] == {
        "user_id": "uid",
        "song_id": "track",
        "plays": "listens",
        "timestamp": "ts",
    }
    assert found["tables"]["lyrics"]["columns"] == {"song_id": "track", "words": "words"}
    rows = {key: of["rows"] for key, of in found["tables"].items()}
    assert rows == {
        key: len((catalogue / name).read_text().splitlines()) - header
        for key, name, header in (
            ("songs", "songs.csv", 1),
            ("plays", "plays.csv", 1),
            ("lyrics", "lyrics.csv", 1),
            ("features.sound", "sound_ids.txt", 0),
        )
    }
    assert found["settings"]["embed.modalities"] == ["metadata", "lyrics", "sound"]
    resolved = config.load(tmp_path / "c.yaml")
    assert resolved.source.root == str(catalogue)
    assert resolved.source.tables.songs.columns["title"] == "name"
    assert resolved.source.tables.features["sound"].ids == "sound_ids.txt"
    assert resolved.embed.modalities == ("metadata", "lyrics", "sound")


def test_the_config_says_why(catalogue, tmp_path, capsys) -> None:
    code, out, _ = told(capsys, *asked(catalogue, tmp_path / "c.yaml"))
    text = (tmp_path / "c.yaml").read_text()
    assert code == 0
    for line in (
        "song_id: track # by its name",
        "artist_id: performer # no ids of artists: they are told apart by their names",
        "# not used: added",
        'separator: "|" # between tags',
        "by: song # or time (with recommend.protocol: oord), which grades by what was played last",
    ):
        assert line in text
    assert "year <- released" in out
    assert "not used: added" in out
    assert "No lyrics: embed.modalities goes without." in out
    assert f"fusionrec run --config {tmp_path}/c.yaml" in out
    known = {name for name, _, _ in config.describe()}
    leaves = list(leaves_of(yaml.safe_load(text), known))
    assert set(leaves) <= known
    assert {"source.tables.songs.columns", "split.by", "label.k", "recommend.top"} <= set(leaves)
    assert config.load(tmp_path / "c.yaml").embed.modalities == ("metadata",)


def test_it_overwrites_nothing_unless_it_is_told_to(catalogue, tmp_path, capsys) -> None:
    output = tmp_path / "c.yaml"
    output.write_text("mine")
    code, _, err = told(capsys, *asked(catalogue, output))
    assert code == 2
    assert err == (
        f"fusionrec: {output}: is there already; overwrite it with --force, or see --output\n"
    )
    assert output.read_text() == "mine"
    assert told(capsys, *asked(catalogue, output, "--force"))[0] == 0
    assert config.load(output).source.format == "tables"


def test_where_there_are_no_tags_times_or_artists(tmp_path, capsys) -> None:
    rows = [(f"s{i}", f"Song {i}") for i in range(40)]
    table(tmp_path, "songs.csv", ("id", "name"), *rows)
    table(tmp_path, "plays.csv", ("user", "id"), *((f"u{i % 7}", f"s{i}") for i in range(40)))
    code, out, _ = told(capsys, *asked(tmp_path, tmp_path / "c.yaml", "--json"))
    assert code == 0
    remarks = " ".join(json.loads(out)["remarks"])
    for what in ("no split by time", "no split by artist", "No tags, so no classes", "each row is"):
        assert what in remarks
    resolved = config.load(tmp_path / "c.yaml")
    assert (resolved.train.objective, resolved.recommend.model) == ("factors", "blend")
    assert resolved.recommend.top == 10
    assert not resolved.blend.context


@pytest.mark.parametrize("name", ["genres", "terms", "mbtags", "similar_artists"])
def test_whatever_holds_lists_has_its_separator(tmp_path, capsys, name) -> None:
    lists = (["rock", "pop"], ["jazz"], ["pop", "blues"], ["folk"])
    rows = [(f"s{i}", f"Song {i}", ";".join(lists[i % 4])) for i in range(40)]
    table(tmp_path, "songs.csv", ("id", "name", name), *rows)
    table(tmp_path, "plays.csv", ("user", "id"), *((f"u{i % 7}", f"s{i}") for i in range(40)))
    assert told(capsys, *asked(tmp_path, tmp_path / "c.yaml"))[0] == 0
    named = "tags" if name == "genres" else name
    assert f'separator: ";" # between {named}\n' in (tmp_path / "c.yaml").read_text()
    spec = config.load(tmp_path / "c.yaml").source.tables.songs.spec("songs")
    read = read_songs(str(tmp_path / "songs.csv"), spec).table
    assert read["mbtags" if named == "tags" else name].to_pylist() == [
        lists[i % 4] for i in range(40)
    ]


def test_lists_that_are_lists_have_no_say_in_the_separator(tmp_path, capsys) -> None:
    songs = {
        "id": [f"s{i}" for i in range(40)],
        "title": ["T"] * 40,
        "mbtags": [["rock", "pop"]] * 40,
        "terms": ["rock;pop"] * 20 + ["jazz"] * 20,
    }
    pq.write_table(pa.table(songs), tmp_path / "songs.parquet")
    table(tmp_path, "plays.csv", ("user", "id"), *((f"u{i % 7}", f"s{i}") for i in range(40)))
    more = ["--songs", tmp_path / "songs.parquet"]
    assert told(capsys, *asked(tmp_path, tmp_path / "c.yaml", *more))[0] == 0
    assert config.load(tmp_path / "c.yaml").source.tables.songs.separator == ";"


@pytest.mark.parametrize("twice", ["note", ""])
def test_columns_of_one_name_that_are_not_used_are_no_matter(tmp_path, capsys, twice) -> None:
    rows = [(f"s{i}", "x", f"Song {i}", "y") for i in range(40)]
    table(tmp_path, "songs.csv", ("id", twice, "name", twice), *rows)
    table(tmp_path, "plays.csv", ("user", "id"), *((f"u{i % 7}", f"s{i}") for i in range(40)))
    code, out, err = told(capsys, *asked(tmp_path, tmp_path / "c.yaml", "--json"))
    assert (code, err) == (0, "")
    songs = json.loads(out)["tables"]["songs"]
    assert songs["columns"] == {"song_id": "id", "title": "name"}
    assert songs["unused"] == [twice]


def test_columns_of_one_name_that_are_used_are_refused(tmp_path, capsys) -> None:
    table(tmp_path, "songs.csv", ("id", "genre", "genre"), ("a", "pop", "rock"), ("b", "pop", "x"))
    table(tmp_path, "plays.csv", ("user", "id"), ("u", "a"), ("u", "b"))
    code, _, err = told(capsys, *asked(tmp_path, tmp_path / "c.yaml"))
    assert code == 2
    assert err.endswith("songs.csv: has 2 columns genre; keep one of them\n")


def test_of_large_files_the_beginning_tells_how_many_rows_there_are(
    tmp_path, capsys, monkeypatch
) -> None:
    """Of several files that of the first, by their sizes."""
    monkeypatch.setattr(looks, "_BLOCK", 1 << 12)
    table(tmp_path, "songs.csv", ("id", "name"), *((f"s{i:04}", "Song") for i in range(3000)))
    (tmp_path / "plays").mkdir()
    for part in range(3):
        rows = [(f"u{i:04}", f"s{i:04}") for i in range(2000)]
        table(tmp_path / "plays", f"{part}.csv", ("user", "id"), *rows)
    read, opened = [], looks.files.open_binary

    def noted(path: str) -> Any:
        read.append(Path(path).name)
        return opened(path)

    monkeypatch.setattr(looks.files, "open_binary", noted)
    more = ["--plays", tmp_path / "plays"]
    code, out, _ = told(capsys, *asked(tmp_path, tmp_path / "c.yaml", "--json", *more))
    assert code == 0
    found = {name: of["rows"] for name, of in json.loads(out)["tables"].items()}
    assert found == {"songs": pytest.approx(3000, rel=0.01), "plays": pytest.approx(6000, rel=0.01)}
    assert not {"1.csv", "2.csv"} & set(read)


def test_lyrics_that_are_text_are_remarked(catalogue, tmp_path, capsys) -> None:
    poem = table(tmp_path, "l.csv", ("track", "poem"), *[(i, f"oh my love {i}") for i in range(9)])
    code, out, _ = told(capsys, *asked(catalogue, tmp_path / "c.yaml", "--lyrics", poem, "--json"))
    assert code == 0
    found = json.loads(out)
    assert found["tables"]["lyrics"]["columns"] == {"song_id": "track", "text": "poem"}
    assert any("reads them as they are written" in remark for remark in found["remarks"])


def test_parquet_globs_and_lists_of_tags(tmp_path, capsys) -> None:
    songs = {
        "Track ID": range(3000),
        "Track Name": [f"Song {i}" for i in range(3000)],
        "Genres": [[f"tag {i % 9}", "pop"] for i in range(3000)],
        "Artist": [f"Artist {i % 50}" for i in range(3000)],
    }
    pq.write_table(pa.table(songs), tmp_path / "songs.parquet")
    (tmp_path / "plays").mkdir()
    for part in range(2):
        plays = {"User ID": ["ü"], "Track ID": [part], "Date": [pa.scalar(0, pa.timestamp("s"))]}
        columns = {name: pa.array(values) for name, values in plays.items()}
        pq.write_table(pa.table(columns), tmp_path / f"plays/{part}.parquet")
    output = tmp_path / "c.yaml"
    arguments = ["--songs", tmp_path / "songs.parquet", "--plays", tmp_path / "plays/*.parquet"]
    code, out, err = told(capsys, *arguments, "--output", output, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)["tables"]
    assert found["songs"]["rows"] == 3000
    assert found["plays"]["rows"] == 2
    assert found["plays"]["columns"] == {
        "user_id": "User ID",
        "song_id": "Track ID",
        "timestamp": "Date",
    }
    source = config.load(output).source
    assert source.root == str(tmp_path)
    assert source.tables.plays.paths == ("plays/*.parquet",)
    assert config.load(output).label.k == 4  # of nine lists of tags


@pytest.mark.parametrize(
    ("kind", "values", "found"),
    [
        # A name speaks for the one that looks the part.
        ("songs", column("id", "a", "b") | column("released", "soon", "later"), {"song_id": "id"}),
        (
            "songs",
            column("id", "a", "b") | column("released", "2001-02-03", "1999"),
            {"song_id": "id", "year": "released"},
        ),
        # The likelier of two.
        (
            "songs",
            column("id", 1, 2) | column("track_id", "x", "y"),
            {"song_id": "id", "track_id": "track_id"},
        ),
        # A table whose only id is a track's.
        (
            "songs",
            column("Track ID", "a", "b") | column("Track Name", "A", "B"),
            {"song_id": "Track ID", "title": "Track Name"},
        ),
        (
            "plays",
            column("who", "u", "v") | column("track", "a", "b") | column("time", "3", "4"),
            {"user_id": "who", "song_id": "track", "timestamp": "time"},
        ),
        # No name, but values: all different; ids of known songs; the one that comes again.
        ("songs", column("code", "a", "b") | column("kind", "x", "x"), {"song_id": "code"}),
        (
            "plays",
            column("c1", "u", "u") | column("c2", "a", "b") | column("c3", 7, 9),
            {"user_id": "c1", "song_id": "c2"},
        ),
        # Words are known by what stands there.
        (
            "lyrics",
            column("song", "a", "b") | column("poem", "the rain it falls", "oh my love again"),
            {"song_id": "song", "text": "poem"},
        ),
        (
            "lyrics",
            column("song", "a", "b") | column("terms", "rain:2 it:1", "love:9"),
            {"song_id": "song", "words": "terms"},
        ),
    ],
)
def test_columns_are_guessed_by_name_and_by_value(kind, values, found) -> None:
    guessed = guess(kind, values, frozenset({"a", "b"} if kind == "plays" else ()))
    assert {wanted: of.name for wanted, of in guessed.items()} == found


def test_names_that_the_readers_know_are_known_here() -> None:
    for kind, used in readers.USED.items():
        for wanted, names in used.items():
            assert set(names) <= set(NAMES[kind][wanted]), (kind, wanted)


@pytest.mark.parametrize("kind", list(REQUIRED))
def test_fusionrecs_own_names_go_before_others(kind) -> None:
    wanted = readers.COLUMNS[kind]
    values = {name: ["1990", "1991"] for name in (*reversed(wanted), "id", "name", "ts")}
    guessed = guess(kind, values)
    assert {name: of.name for name, of in guessed.items()} == {name: name for name in wanted}


@pytest.mark.parametrize(
    ("values", "separator"),
    [
        (["a|b, c", "d"], "|"),
        (["a;b", "c; d", ""], ";"),
        (["rock, pop", "jazz"], ","),
        (["rock", "pop"], "|"),
        ([], "|"),
    ],
)
def test_what_stands_between_tags(values, separator) -> None:
    assert separator_of(values) == separator


PLAYS = "user_id,song_id\n" + "".join(f"u{i % 7},s{i}\n" for i in range(40))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "p.csv",
            b"PK\x03\x04\x14\0\x06\0",
            "is no text but, by its first bytes, a zip archive, as",
        ),
        ("p.csv", b"PAR1\x15\x04", "by its first bytes, Parquet: name it .parquet"),
        ("p.csv", gzip.compress(PLAYS.encode()), "compressed by gzip: name it .gz"),
        ("p.db", b"SQLite format 3\0\x10\0", "an SQLite database"),
        ("p.csv", bytes(5000), "is no text: its first line has control characters"),
        ("p.csv", PLAYS.replace("\n", "\r").encode(), "its lines end with carriage returns alone"),
        ("p.csv", b"user_id,song_id,plays\n", "names 3 columns, and no row in its beginning"),
        ("p.csv", b"user_id,song_id,plays\nu,s\n", "names 3 columns, and no row in its beginning"),
        (
            "p.json",
            b'[\n{"user_id": "u", "song_id": "s"},\n',
            "is one JSON array; write its objects",
        ),
    ],
)
def test_files_that_are_no_tables_are_told_by_what_they_are(
    catalogue, tmp_path, capsys, name, content, says
) -> None:
    (tmp_path / name).write_bytes(content)
    more = ["--plays", tmp_path / name]
    code, out, err = told(capsys, *asked(catalogue, tmp_path / "c.yaml", *more))
    assert (code, out) == (2, "")
    assert f"{tmp_path / name}: " in err
    assert says in err
    assert err.count("\n") == 1


def test_a_part_without_rows_is_passed_over(catalogue, tmp_path, capsys) -> None:
    (tmp_path / "plays").mkdir()
    for part, rows in enumerate((0, 40)):
        columns = {"user_id": ["u"] * rows, "song_id": [f"s{i}" for i in range(rows)]}
        typed = {name: pa.array(values, pa.string()) for name, values in columns.items()}
        pq.write_table(pa.table(typed), tmp_path / f"plays/{part}.parquet")
    more = ["--plays", tmp_path / "plays", "--json"]
    code, out, _ = told(capsys, *asked(catalogue, tmp_path / "c.yaml", *more))
    assert (code, json.loads(out)["tables"]["plays"]["rows"]) == (0, 40)
    (tmp_path / "plays/1.parquet").unlink()
    code, _, err = told(capsys, *asked(catalogue, tmp_path / "d.yaml", *more))
    assert (code, "0.parquet: has no rows; give a table of plays" in err) == (2, True)


def test_a_table_in_another_encoding_is_remarked(tmp_path, capsys) -> None:
    table(tmp_path, "plays.csv", ("user", "id"), *((f"u{i % 7}", f"s{i}") for i in range(40)))
    text = "id;Titel;Jahr\n" + "".join(f"s{i};Stück {i};{1990 + i % 9}\n" for i in range(40))
    (tmp_path / "songs.csv").write_bytes(text.encode("latin-1"))
    code, _, err = told(capsys, *asked(tmp_path, tmp_path / "c.yaml"))
    assert (code, "of its columns Titel, Jahr: say which" in err) == (2, True)
    named = ["--column", "songs.title=Titel", "--json"]
    code, out, _ = told(capsys, *asked(tmp_path, tmp_path / "c.yaml", *named))
    remarks = json.loads(out)["remarks"]
    assert (code, sum("The text of songs is not in UTF-8" in each for each in remarks)) == (0, 1)
    (tmp_path / "songs.csv").write_text(text.replace("Stück 7", "St\ufffdck 7"))
    code, out, _ = told(capsys, *asked(tmp_path, tmp_path / "d.yaml", *named))
    assert not any("UTF-8" in each for each in json.loads(out)["remarks"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--songs", "page.html"], "page.html: is no table of songs: its first line is one field"),
        (["--songs", "gone.csv"], "gone.csv: no such file"),
        (["--songs", "empty.csv"], "empty.csv: is empty"),
        (["--songs", "sound.npy"], "sound.npy: is of vectors, not a table of songs; name it in"),
        (["--plays", "bare.csv"], "which column is the user_id? None of 17, x, 2 is called so; if"),
        (["--plays", "odd.csv"], "say it with --column plays.user_id=NAME"),
        (["--features", "clap.npy"], "--features 'clap.npy': write it as NAME=PATH"),
        (["--features", "clap=sound.npy"], "of which song is each row? Name the file of their ids"),
        (["--features", "clap=sound.npy:page.html"], "sound.npy: has 3 rows, where"),
        (["--features", "audio=clap.csv"], "'audio' cannot be the name of a modality"),
        (["--column", "plays.user=uid"], "--column plays.user: there is no such column; use one"),
        (["--column", "plays.user_id=me"], "has no column me (--column plays.user_id); it has uid"),
        (["--column", "user_id"], "write it as TABLE.COLUMN=NAME"),
        (["--format", "recbole"], "--format recbole knows its songs and plays: give"),
    ],
)
def test_what_it_cannot_use_is_told_in_one_line(
    catalogue, tmp_path, capsys, monkeypatch, change, says
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.html").write_text("<html>\n<body>\n")
    Path("empty.csv").write_text("")
    Path("bare.csv").write_text("17,x,2\n18,y,2\n")
    Path("odd.csv").write_text("first,track\nu,x\nv,y\n")
    Path("clap.csv").write_text("track,vector\nx,1 2\n")
    np.save("sound.npy", np.zeros((3, 2)))
    # Of an option that is there twice the last counts.
    code, out, err = told(capsys, *asked(catalogue, tmp_path / "c.yaml"), *change)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert not Path("c.yaml").exists()


def test_a_published_layout_needs_its_folder_only(tmp_path, capsys) -> None:
    users = [f"u{i % 7}\ti{i % 30}\t{1_300_000_000 + i}" for i in range(90)]
    (tmp_path / "x.inter").write_text(
        "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *users])
    )
    items = [f"i{i}\tSong {i}\trock pop {i % 5}" for i in range(30)]
    (tmp_path / "x.item").write_text(
        "\n".join(["item_id:token\ttitle:token_seq\tgenre:token_seq", *items])
    )
    output = tmp_path / "c.yaml"
    code, out, err = told(
        capsys, "--format", "recbole", "--root", tmp_path, "--output", output, "--json"
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["tables"]["songs"]["columns"] == {
        "song_id": "item_id:token",
        "title": "title:token_seq",
        "tags": "genre:token_seq",
    }
    assert "Plays have times" in found["remarks"][0]
    source = config.load(output).source
    assert (source.format, source.root) == ("recbole", str(tmp_path))
    code, _, err = told(capsys, "--format", "mine", "--root", tmp_path, "--force")
    assert code == 2
    assert "--format mine: use one of recbole, " in err


def test_songs_of_which_nothing_is_known_are_refused(tmp_path, capsys) -> None:
    table(tmp_path, "songs.csv", ("id", "shelf"), ("a", 1), ("b", 2))
    table(tmp_path, "plays.csv", ("user", "id"), ("u", "a"), ("u", "b"))
    code, _, err = told(capsys, *asked(tmp_path, tmp_path / "c.yaml"))
    assert code == 2
    assert "nothing is known of the songs but their ids" in err


def test_a_column_that_is_named_is_not_guessed(tmp_path, capsys) -> None:
    table(tmp_path, "songs.csv", ("id", "name", "alias"), ("a", "A", "Ä"), ("b", "B", "Ö"))
    table(tmp_path, "plays.csv", ("first", "id"), ("u", "a"), ("v", "b"))
    named = ["--column", "plays.user_id=first", "--column", "songs.title=alias"]
    code, _, _ = told(capsys, *asked(tmp_path, tmp_path / "c.yaml", *named))
    assert code == 0
    tables = yaml.safe_load((tmp_path / "c.yaml").read_text())["source"]["tables"]
    assert tables["songs"]["columns"] == {"song_id": "id", "title": "alias"}
    assert tables["plays"]["columns"] == {"user_id": "first", "song_id": "id"}


def test_ids_that_do_not_meet_are_remarked(tmp_path, capsys) -> None:
    table(tmp_path, "songs.csv", ("id", "name"), ("a", "A"), ("b", "B"))
    table(tmp_path, "plays.csv", ("user", "track"), ("u", "17"), ("u", "18"))
    code, out, _ = told(capsys, *asked(tmp_path, tmp_path / "c.yaml", "--json"))
    assert code == 0
    assert json.loads(out)["remarks"][0] == (
        "None of the first rows of plays is of a song of songs: is track the same id there?"
    )
