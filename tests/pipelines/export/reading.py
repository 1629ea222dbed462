"""An export's files, as other libraries read them, and what the workspace has of them."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fusionrec.tables import matrix
from pipelines import blend, lists, recommend, train
from pipelines.cli.main import main
from pipelines.opened import Recommender
from pipelines.runtime.stage import Stage
from pipelines.runtime.workspace import Workspace
from tests.pipelines.beside import TASTE

MODELS: dict[str, tuple[list[Stage], dict[str, object]]] = {
    "genre": ([recommend.STAGE, lists.STAGE], {"recommend__weighting": "log"}),
    "blend": ([blend.STAGE], {"recommend__model": "blend"}),
    "factors": ([train.STAGE], {"train__objective": "factors", **TASTE}),
    "ranking": ([train.STAGE], {"train__objective": "ranking", **TASTE}),
}
NAMES = {"genre": "genre", "blend": "blend", "factors": "network", "ranking": "network"}

Played = dict[str, dict[str, int]]


def opened(place: Path, model: str) -> Recommender:
    return Recommender.open(place, NAMES[model])  # type: ignore[arg-type]


def read(folder: Path, name: str, ids: str) -> tuple[list[str], np.ndarray]:
    table = pq.read_table(folder / f"{name}.parquet")
    return table[ids].to_pylist(), matrix(table["vector"])


def all_plays(workspace: Workspace) -> Played:
    """Every play, also of other songs, by ids; and users without any."""
    users = workspace.read("ingest", "users")["user_id"].to_pylist()
    found: Played = defaultdict(dict, {user: {} for user in users})
    for artifact, names in (("plays", "songs"), ("other_plays", "other_songs")):
        songs = workspace.read("ingest", names, ["song_id"])["song_id"].to_pylist()
        for row in workspace.read("ingest", artifact).to_pylist():
            mine, song = found[users[row["user"]]], songs[row["song"]]
            mine[song] = mine.get(song, 0) + row["plays"]
    return found


def main_to_the_end(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["export", *map(str, arguments)])
    return int(ended.value.code or 0)
