"""Lists by several models, and the same by going through all songs by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fusionrec.baselines.factorisation import confidence
from fusionrec.signals.explain import Layout
from fusionrec.tables import matrix
from pipelines import lists
from pipelines.blend.vectors import ROTATION
from pipelines.runtime.rows import read_arrays, read_matrix
from pipelines.runtime.workspace import Workspace
from tests.pipelines.beside import TASTE
from tests.pipelines.inline import load

MODELS: dict[str, dict[str, object]] = {
    "genre": {},
    "blend": {"recommend__model": "blend"},
    "factors": {"train__objective": "factors", **TASTE},
    "ranking": {"train__objective": "ranking", **TASTE},
}

SILENT, ELSEWHERE, COLD = 3, 7, 9
"""Users without a play, with plays outside the catalogue only, and of test songs only."""
SEEN = range(20, 40)
"""Users without plays of test songs."""
NEW = (4, 11, 40, 75, 90, 120)
"""Songs that nobody played."""


def rewrite(workspace: Workspace, artifact: str, change: Any) -> None:
    for name in workspace.parts("ingest", artifact):
        path = workspace.path("ingest", artifact, name)
        table = pq.read_table(path)
        frame = change(table.to_pandas())
        pq.write_table(pa.Table.from_pandas(frame, table.schema, preserve_index=False), path)


def made(small: Path, place: Path, model: str = "genre", **more: object) -> Workspace:
    """The workspace with lists by other settings, which are not made current."""
    asked = {f"lists__{name}": value for name, value in more.items()}
    chosen = load(small, place, **MODELS[model], **{"lists__users_per_shard": 23, **asked})
    manifest = lists.STAGE.run(chosen, current=False)
    return Workspace(str(place), {**manifest["lineage"], "lists": manifest["key"]})


def catalogue(workspace: Workspace) -> pd.DataFrame:
    songs = workspace.read("ingest", "songs").to_pandas()
    return songs.assign(part=workspace.read("split", "split")["part"].to_pylist())


def plays_of(workspace: Workspace, artifact: str = "plays") -> list[dict[int, int]]:
    """What each user played, and how often."""
    users = workspace.require("ingest")["counts"]["users"]
    table = workspace.read("ingest", artifact).to_pandas()
    found: list[dict[int, int]] = [{} for _ in range(users)]
    for row in table.itertuples():
        found[row.user][row.song] = found[row.user].get(row.song, 0) + row.plays
    return found


def vectors_by_hand(workspace: Workspace, model: str) -> tuple[np.ndarray, list[Any], Any]:
    """F of all songs, NaN for one without; V of each user, or None; and of who has none."""
    ids = catalogue(workspace)["song_id"].tolist()
    own, other = plays_of(workspace), plays_of(workspace, "other_plays")

    def by_id(stage: str, artifact: str, column: str) -> np.ndarray:
        table = workspace.read(stage, artifact)
        found = matrix(table[column]).astype(np.float64)
        F = np.full((len(ids), found.shape[1]), np.nan)
        F[[ids.index(song) for song in table["song_id"].to_pylist()]] = found
        return F

    if model == "genre":
        F = by_id("train", "song_vectors", "probabilities")
        has = ~np.isnan(F[:, 0])
        V = []
        for played in own:
            known = [song for song in played if has[song]]
            rows = [played[song] * F[song] for song in known]
            V.append(np.mean(rows, axis=0) if rows else None)
        return F, V, None
    if model == "blend":
        F = by_id("blend", "songs", "vector")
        layout = Layout.of_json(workspace.read_json("blend", "blend.json"))
        arrays = read_arrays(workspace, "blend", *ROTATION)
        table = workspace.read("blend", "users")
        V = []
        for user, (played, others) in enumerate(zip(own, other, strict=True)):
            songs = np.array([*played, *(len(ids) + song for song in others)], int)
            plays = np.array([*played.values(), *others.values()], int)
            atoms = read_matrix(workspace, "blend", "history", songs)
            told = np.array(table["told"][user].as_py(), np.float32)
            V.append(layout.user(atoms, plays, told) @ arrays["rotation"] if len(songs) else None)
        return F, V, arrays["nobody"] @ arrays["rotation"]
    F = by_id("train", "song_vectors", "vector")
    numbers = np.arange(len(ids))
    H = read_matrix(workspace, "train", "history", numbers).astype(np.float64)
    arrays = read_arrays(workspace, "train", "users", "arrays.safetensors")
    V = []
    if model == "ranking":
        for played in own:
            songs = np.array([song for song in played if H[song].any()], int)
            if not len(songs):
                V.append(None)
                continue
            v, plays = H[songs, :-1], np.array([played[song] for song in songs])
            logits = v @ arrays["query"] / np.sqrt(7)
            e = np.exp(logits + arrays["slope"] * np.log(np.log1p(plays)))
            V.append(np.append((e / e.sum()) @ v / np.sqrt(7), 1.0))
        return F, V, None
    for played in own:
        c, p = np.ones(len(ids)), np.zeros(len(ids))
        Y = H.copy()
        for song, plays in played.items():
            if not H[song].any() and not np.isnan(F[song, 0]):
                Y[song] = F[song]
            c[song], p[song] = confidence(np.array([plays]), 10.0, 1.0)[0], 1.0
        A = (Y.T * c) @ Y + 10.0 * np.eye(8)
        V.append(np.linalg.solve(A, (Y.T * c) @ p) if (Y * p[:, None]).any() else None)
    return F, V, None


def check_against_hand(workspace: Workspace, model: str, candidates: np.ndarray) -> None:
    F, V, nobody = vectors_by_hand(workspace, model)
    songs, own = catalogue(workspace), plays_of(workspace)
    code = {song: number for number, song in enumerate(songs["song_id"])}
    candidates = candidates & ~np.isnan(F[:, 0])
    listeners = np.array([sum(n in played for played in own) for n in range(len(songs))])
    table = workspace.read("lists", "lists").to_pylist()
    assert [row["user"] for row in table] == list(range(len(own)))
    assert [row["user_id"] for row in table] == workspace.read("ingest", "users")[
        "user_id"
    ].to_pylist()
    for row, v, played in zip(table, V, own, strict=True):
        assert row["fallback"] == (v is None)
        scores = listeners.astype(float) if v is None and nobody is None else None
        scores = F @ (nobody if v is None else v) if scores is None else scores
        left = [song for song in np.flatnonzero(candidates) if song not in played]
        best = sorted(left, key=lambda song: (-scores[song], song))[:500]
        listed = [code[song] for song in row["song_ids"]]
        assert len(listed) == len(set(listed)) == len(best)
        assert set(listed) <= set(left)
        # To rounding: songs whose scores are nearly the same may stand the other way round.
        near = {"rtol": 1e-3, "atol": 2e-4 * max(np.abs(scores[best]).max(initial=0), 1e-3)}
        np.testing.assert_allclose(row["scores"], scores[best], **near)
        np.testing.assert_allclose(row["scores"], scores[listed], **near)
        if v is None and nobody is None:
            assert listed == best
