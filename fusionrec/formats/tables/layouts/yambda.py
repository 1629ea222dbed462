"""Yambda."""

from __future__ import annotations

import os

from fusionrec.errors import SourceError
from fusionrec.formats import files
from fusionrec.formats.tables.layouts.finding import Tables
from fusionrec.formats.tables.spec import TableSpec

_SIZES = ("50m", "500m", "5b")


def _yambda_folder(root: str) -> str:
    """The folder with listens.parquet."""
    places = [root, *(files.join(root, f"flat/{size}") for size in _SIZES)]
    found = [each for each in places if files.exists(files.join(each, "listens.parquet"))]
    if len(found) > 1:
        raise SourceError(f"{root}: has {' and '.join(found)}; name one of them in source.root")
    if not found:
        raise SourceError(
            f"{root}: has no flat/50m/listens.parquet, 500m or 5b, which source.format: yambda "
            "looks for; see source.root"
        )
    return found[0]


def _yambda_file(root: str, name: str) -> str | None:
    """A file of the data set as a whole, where `root` is its folder or that of a size."""
    for place in (root, _above(_above(root))):
        if files.exists(files.join(place, name)):
            return files.join(place, name)
    return None


def _above(folder: str) -> str:
    """The folder that one is in; of a relative path, too."""
    if files.is_uri(folder):
        base, mark, options = folder.partition("?")
        return base.rstrip("/").rpartition("/")[0] + mark + options
    return os.path.normpath(os.path.join(folder, os.pardir))


def yambda(root: str, times: bool) -> Tables:
    """Yambda (Ploshkin et al. 2025, arxiv.org/abs/2505.22238; yandex/yambda on Hugging Face).

    Of its flat form listens.parquet: uid, item_id, timestamp (seconds, in steps of five, from a
    beginning that is not told: they are taken as they stand). Every listen counts as a play,
    however long it was. Songs are those of artist_item_mapping.parquet (item_id, artist_id), the
    first artist of each; there are no names or tags.
    """
    plays = TableSpec("plays", (files.join(_yambda_folder(root), "listens.parquet"),))
    artists = _yambda_file(root, "artist_item_mapping.parquet")
    if artists is None:
        raise SourceError(
            f"{root}: has no artist_item_mapping.parquet, which source.format: yambda looks for; "
            "get it beside the folder flat"
        )
    return {"songs": TableSpec("songs", (artists,), repeats=True), "plays": plays}


def yambda_features(root: str) -> dict[str, TableSpec]:
    """embeddings.parquet: item_id, embed and normalized_embed, of which `embed` is taken."""
    path = _yambda_file(root, "embeddings.parquet")
    return {} if path is None else {"embed": TableSpec("features", (path,), {"vector": "embed"})}
