"""A Million Song Dataset's corpus as tables, made of what an ingest of its files read."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.runtime.workspace import Workspace


def words_by_songs(workspace: Workspace) -> list[str]:
    """The words of all lyrics, those of the most first, ties in the order of words."""
    words = workspace.read("ingest", "vocabulary")["word"].to_pylist()
    songs = Counter(
        word
        for artifact in ("lyrics", "other_lyrics")
        for bag in workspace.read("ingest", artifact)["words"].to_pylist()
        for word in set(bag)
    )
    return [words[at] for at in sorted(songs, key=lambda at: (-songs[at], words[at]))]


def reorder_words(corpus: Path, words: list[str]) -> None:
    """Write the musiXmatch files anew with another vocabulary; other words are left out."""
    place = {word: number for number, word in enumerate(words, 1)}
    for part in ("train", "test"):
        file = corpus / "musixmatch" / f"mxm_dataset_{part}.txt"
        lines = file.read_text().splitlines()
        old = next(line for line in lines if line.startswith("%"))[1:].split(",")
        written = []
        for line in lines:
            if line.startswith("%"):
                line = "%" + ",".join(words)
            elif not line.startswith("#"):
                track, mxm, *pairs = line.split(",")
                if all(pair.partition(":")[2] for pair in pairs):  # else it is cut short
                    split = (pair.split(":") for pair in pairs)
                    named = ((old[int(at) - 1], count) for at, count in split)
                    bag = {place[word]: count for word, count in named if word in place}
                    line = ",".join([track, mxm, *(f"{at}:{bag[at]}" for at in sorted(bag))])
            written.append(line)
        # One that was cut short is left so.
        file.write_text("\n".join(written))


def write_tables(workspace: Workspace, folder: Path) -> None:
    """`songs.parquet`, `plays.csv`, and lyrics in `lyrics.parquet` and `lyrics.csv`."""
    folder.mkdir()
    songs = workspace.read("ingest", "songs")
    pq.write_table(songs, folder / "songs.parquet")
    users = workspace.read("ingest", "users")["user_id"].to_pylist()
    with (folder / "plays.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["listener", "item id", "how often"])
        rows = []
        for artifact, of in (("plays", "songs"), ("other_plays", "other_songs")):
            ids = workspace.read("ingest", of)["song_id"].to_pylist()
            plays = workspace.read("ingest", artifact).to_pylist()
            rows += [(row["user"], ids[row["song"]], row["plays"]) for row in plays]
        rows.sort(key=lambda row: row[0])  # users keep the order of their codes
        writer.writerows([users[user], song, plays] for user, song, plays in rows)
    words = workspace.read("ingest", "vocabulary")["word"].to_pylist()
    song_of = dict(zip(*(songs[name].to_pylist() for name in ("track_id", "song_id")), strict=True))
    bags = []
    for artifact in ("lyrics", "other_lyrics"):
        for row in workspace.read("ingest", artifact).to_pylist():
            song = song_of.get(row["track_id"], row["track_id"])
            bags.append((song, [words[at] for at in row["words"]], row["counts"]))
    half = len(bags) // 2
    columns = zip(*bags[:half], strict=True)
    table = pa.table(dict(zip(("song_id", "words", "counts"), map(list, columns), strict=True)))
    pq.write_table(table, folder / "lyrics.parquet")
    with (folder / "lyrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["song_id", "words"])
        for song, of, counts in bags[half:]:
            pairs = (f"{word}:{count}" for word, count in zip(of, counts, strict=True))
            writer.writerow([song, " ".join(pairs)])
