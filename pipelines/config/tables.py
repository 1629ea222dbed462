"""Catalogues of one's own: which tables there are, and what their columns are called."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from fusionrec.formats.tables.spec import COLUMNS, Kind, TableSpec
from pipelines.config.section import Section
from pipelines.config.section import key as _key


class TableConfig(Section):
    """One kind of table; `songs.csv` stands for `{paths: [songs.csv]}`."""

    paths: tuple[str, ...] = _key(
        (), "files, folders, globs or URIs: Parquet, CSV, TSV or JSON lines, also .gz and .zst"
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="the files' names of columns, where they are called otherwise: {song_id: sid}",
    )
    header: tuple[str, ...] | None = _key(
        None, "names of the columns, where files begin with a row of data", min_length=1
    )
    delimiter: str | None = _key(
        None, "between fields of text files; null: by the extension, or as the first line shows"
    )
    separator: str = _key("|", "between the items of a list written as text", min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _paths_alone(cls, value: Any) -> Any:
        return {"paths": value} if isinstance(value, str | list | tuple) else value

    def spec(self, kind: Kind) -> TableSpec:
        """What readers take; paths as they are written."""
        return TableSpec(
            kind, self.paths, self.columns, self.header, self.delimiter, self.separator
        )


class FeatureConfig(TableConfig):
    """Vectors of one's own, a modality by the name of its key."""

    ids: str | None = _key(
        None, "of .npy files: the file of song ids, one a line, in the order of the vectors"
    )

    def spec(self, kind: Kind = "features") -> TableSpec:
        """What readers take; paths as they are written."""
        return TableSpec(
            kind, self.paths, self.columns, self.header, self.delimiter, self.separator, self.ids
        )


class TablesConfig(Section):
    """Where `source.format: tables` finds songs, plays, lyrics and vectors, below `source.root`.

    Without `songs`, the songs are those that are played, known by id alone.
    """

    songs: TableConfig = TableConfig()
    plays: TableConfig = TableConfig()
    lyrics: TableConfig = TableConfig()
    features: dict[str, FeatureConfig] = Field(
        default_factory=dict,
        description="vectors of one's own, by the modality's name: {clap: clap.parquet}",
    )
    vocabulary: int = _key(5_000, "most frequent words that lyrics are counted by", ge=1, le=32_767)

    @field_validator("features")
    @classmethod
    def _own_names(cls, value: dict[str, FeatureConfig]) -> dict[str, FeatureConfig]:
        for name in value:
            if name in ("metadata", "lyrics", "audio") or not name.isidentifier():
                raise ValueError(
                    f"{name!r} cannot be the name of a modality: take letters, digits and _, and "
                    "none of metadata, lyrics, audio"
                )
        return value

    @model_validator(mode="after")
    def _known_columns(self) -> TablesConfig:
        kinds: list[tuple[str, Kind, TableConfig]] = [
            ("songs", "songs", self.songs),
            ("plays", "plays", self.plays),
            ("lyrics", "lyrics", self.lyrics),
            *((f"features.{name}", "features", of) for name, of in self.features.items()),
        ]
        for where, kind, table in kinds:
            for column in table.columns:
                if column not in COLUMNS[kind]:
                    raise ValueError(
                        f"{where}.columns names {column!r}, which is none of "
                        f"{', '.join(COLUMNS[kind])}"
                    )
        return self
