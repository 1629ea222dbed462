"""A configuration that suits some tables, with a comment at every guess: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from fusionrec.errors import ConfigError
from pipelines.cli.guesses import LISTS
from pipelines.cli.looks import Look
from pipelines.cli.named_tables import Named
from pipelines.cli.oddities import damaged, unaligned

_TEXTS = ("title", "release", "artist_name", "year", "duration", "artist_hotttnesss")
_CONTEXT = ("similar_artists", "artist_hotttnesss", "artist_familiarity")
_TAGS = ("tags", "mbtags", "terms")
_TOPS = (500, 200, 100, 50, 20)
_SMALL = 20_000  # songs
_K = 6  # the paper's
_SONGS_A_CLASS = 50


@dataclass(frozen=True)
class Catalogue:
    """What was found: `features` by name."""

    songs: Look
    plays: Look
    lyrics: Look | None
    features: Mapping[str, Look]

    @property
    def looks(self) -> dict[str, Look]:
        """All tables, by their key below `source.tables`."""
        found = {"songs": self.songs, "plays": self.plays}
        if self.lyrics is not None:
            found["lyrics"] = self.lyrics
        return {**found, **{f"features.{name}": of for name, of in self.features.items()}}


@dataclass(frozen=True)
class Choice:
    """A value of the configuration by its dotted key, and why it is that."""

    key: str
    value: object
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """Choices, and what follows from what is there and what is not, a sentence each."""

    choices: tuple[Choice, ...]
    remarks: tuple[str, ...]


def plan(found: Catalogue) -> Plan:
    """Settings that suit these tables.

    Raises
    ------
    ConfigError
        Nothing is known of songs that a list could be made from.
    """
    choices: list[Choice] = []
    remarks = [*unaligned(found.looks), *damaged(found.looks)]
    _split(found, choices, remarks)
    classes = _classes(found.songs, choices, remarks)
    _modalities(found, choices, remarks)
    _training(found.songs.rows, classes, choices, remarks)
    _lists(found, choices, remarks)
    return Plan(tuple(choices), tuple(remarks))


def _split(found: Catalogue, choices: list[Choice], remarks: list[str]) -> None:
    named = found.songs.has("artist_id", "artist_name")
    if found.plays.has("timestamp"):
        also = ["time (with recommend.protocol: oord), which grades by what was played last"]
        remarks.append(
            "Plays have times: --set split.by=time --set recommend.protocol=oord grades by what "
            "was played last."
        )
    else:
        also = []
        remarks.append("Plays have no times: no split by time.")
    if named:
        also.append("artist, which puts no artist on both sides")
    else:
        remarks.append("Songs have no artists: no split by artist or album, no lists.per_artist.")
    choices.append(Choice("split.by", "song", f"or {', or '.join(also)}" if also else ""))


def _classes(songs: Look, choices: list[Choice], remarks: list[str]) -> bool:
    """Whether there are tags enough for classes."""
    tags = [name for name in _TAGS if songs.has(name)]
    if tags:
        first = songs.first(tags[0])
        lists = {text for text in first if text}
        share = sum(map(bool, first)) / max(len(first), 1)
        tagged = share * (songs.rows if songs.rows is not None else _SMALL)
        k = max(2, min(_K, int(tagged) // _SONGS_A_CLASS, len(lists) // 2))
        if tagged >= 20 and len(lists) >= 4:
            if tags == ["terms"]:
                choices.append(Choice("label.source", "terms", "there are no other tags"))
            why = "classes, made of the tags" + ("" if k == _K else ", fewer than usual: few songs")
            choices.append(Choice("label.k", k, why))
            return True
        remarks.append("Too few songs have tags, or too few different ones, for classes.")
    choices.append(Choice("train.objective", "factors", "without tags there are no classes"))
    remarks.append(
        f"{'So' if tags else 'No tags, so'} no classes: the network learns factors of the plays "
        "(train.objective: factors) instead, and recommend.model cannot be genre."
    )
    return False


def _modalities(found: Catalogue, choices: list[Choice], remarks: list[str]) -> None:
    names = []
    if found.songs.has(*_TEXTS):
        names.append("metadata")
    else:
        remarks.append("Songs have no titles, artists, albums, years or durations: no metadata.")
    if found.lyrics is not None:
        names.append("lyrics")
    else:
        remarks.append("No lyrics: embed.modalities goes without.")
    names += found.features
    if not names:
        unused = [name for name in found.songs.unused if name]
        which = (
            f" (of its columns {', '.join(unused)}: say which is which, as in "
            f"--column songs.title={unused[0]})"
            if unused
            else ""
        )
        raise ConfigError(
            "nothing is known of the songs but their ids: give the songs' table a title, an artist "
            f"or a year{which}, or name --lyrics or --features; lists of songs that nobody has "
            "played are made from what they are"
        )
    choices.append(Choice("embed.modalities", names, "what a song is known by"))
    if found.lyrics is None:
        return
    encoder = "trained on these lyrics; or a model of the hub (FacebookAI/roberta-base) or a folder"
    choices.append(Choice("embed.lyrics.encoder", "pretrain", encoder))
    if found.lyrics.has("text"):
        remarks.append(
            "Lyrics are text, of which embed.lyrics.encoder: pretrain has the words alone; one of "
            "the hub, as FacebookAI/roberta-base, reads them as they are written."
        )
    if found.songs.rows is not None and found.songs.rows < _SMALL:
        few = "few lyrics: small steps, often"
        choices += [
            Choice("embed.lyrics.words", 40, "the most significant ones of a song, which is quick"),
            Choice("pretrain.epochs", 6, few),
            Choice("pretrain.batch_size", 32),
            Choice("pretrain.learning_rate", 0.003),
        ]


def _training(songs: int | None, classes: bool, choices: list[Choice], remarks: list[str]) -> None:
    if songs is None or songs >= _SMALL:
        return
    choices += [
        Choice("train.workers", 0, "in one task: so few songs are not worth workers"),
        Choice("train.epochs", 60, "enough for a beginning"),
        Choice("train.batch_size", 128 if songs >= 1000 else 32, "few songs"),
    ]
    if songs < 500:
        what = "accuracies and lists" if classes else "lists"
        remarks.append(f"Only about {songs} songs: {what} will be a matter of luck.")


def _lists(found: Catalogue, choices: list[Choice], remarks: list[str]) -> None:
    choices.append(Choice("recommend.model", "blend", "all that is known, weighed by the plays"))
    songs = found.songs.rows
    if songs is not None:
        # Of the songs a fifth is tested.
        top = next((top for top in _TOPS if songs / 5 >= 2 * top), 10)
        if top < _TOPS[0]:
            choices.append(
                Choice("recommend.top", top, "a list of all test songs would find everything")
            )
    if not found.songs.has(*_CONTEXT):
        without = "no similar artists, hotttnesss or familiarity"
        choices.append(Choice("blend.context", False, without))
    if found.plays.has("plays"):
        return
    if found.plays.has("rating"):
        remarks.append("A rating stands for plays, rounded up; those of 0 and less are left out.")
    else:
        remarks.append("Plays have no counts: each row is one play.")


def to_yaml(
    source: Mapping[str, object],
    named: Mapping[str, Named],
    found: Catalogue,
    chosen: Plan,
    workspace: str,
) -> str:
    """The configuration as text; it is what `pipelines.config.load` takes.

    Parameters
    ----------
    source
        `format` and `root`.
    named
        The tables to be written, by their key, with paths below the root; those of a layout are
        none.
    """
    lines = [
        "# Written by `fusionrec init`: what it took the tables for, and settings that suit them.",
        "# Mend what is wrong; `fusionrec config --keys` lists all other settings.",
        "seed: 0",
        f"workspace: {_scalar(workspace)}",
        "source:",
        *(f"  {name}: {_scalar(value)}" for name, value in source.items()),
    ]
    if named:
        lines.append("  tables:")
    features = False
    for key, table in named.items():
        look, name = found.looks[key], key.removeprefix("features.")
        if name != key and not features:
            lines.append("    features: # vectors of one's own, each a modality by its name")
            features = True
        lines += _table(name, table, look, " " * (4 if name == key else 6))
    lines += _tree(chosen.choices)
    return "\n".join(lines) + "\n"


def _table(name: str, table: Named, look: Look, indent: str) -> list[str]:
    inner = indent + "  "
    rows = "" if look.rows is None else f" # about {look.rows:,} rows"
    lines = [f"{indent}{_scalar(name)}:{rows}", f"{inner}paths: {_scalar([table.path])}"]
    if table.ids is not None:
        lines.append(f"{inner}ids: {_scalar(table.ids)} # a song's id for each vector")
    if look.columns:
        lines.append(f"{inner}columns:")
        lines += [
            f"{inner}  {wanted}: {_scalar(column.name)} # {_comment(column.why)}"
            for wanted, column in look.columns.items()
        ]
    if look.unused:
        lines.append(f"{inner}# not used: {_comment(', '.join(look.unused))}")
    lists = ", ".join(name for name in LISTS if name in look.columns)
    if lists:
        lines.append(f"{inner}separator: {_quoted(look.spec.separator)} # between {lists}")
    return lines


def _tree(choices: Sequence[Choice]) -> list[str]:
    """Choices as nested sections, each section once."""
    lines: list[str] = []
    sections = dict.fromkeys(choice.key.split(".")[0] for choice in choices)
    for section in sections:
        lines.append(f"{section}:")
        inside: list[str] = []
        for choice in choices:
            first, *path, key = choice.key.split(".")
            if first != section:
                continue
            if path and path != inside:
                lines.append(f"  {path[0]}:")
            inside = path
            why = f" # {_comment(choice.why)}" if choice.why else ""
            lines.append(f"  {'  ' * len(path)}{key}: {_scalar(choice.value)}{why}")
    return lines


def _scalar(value: object) -> str:
    """A value on one line."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, width=float("inf")
    )
    return text.removesuffix("...\n").strip()


def _quoted(value: str) -> str:
    text: str = yaml.safe_dump(value, default_style='"', allow_unicode=True)
    return text.strip()


def _comment(text: str) -> str:
    """Text that cannot end its line: names of columns may hold anything."""
    return "".join(c if c.isprintable() else " " for c in text)
