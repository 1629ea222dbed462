"""Whether a pre-trained language model helps: comparisons with several lyrics encoders, paired.

    fusionrec compare ... --set workspace=W --set embed.lyrics.encoder=pretrain
    fusionrec compare ... --set workspace=W --set embed.lyrics.encoder=FOLDER \\
        --set embed.lyrics.pooling=mean
    python benchmarks/lyrics_encoders.py W [--against pretrain] [--resamples 10000] [--json]

Takes all finished comparisons of the workspace, which must be of the same songs, folds and users.
A method's rankings with one encoder are paired with those that it made with another: by user and
song, as methods are within one comparison, with the same two-way bootstrap over users and songs
(artists, in a split by artist), in which the seeds of each are drawn, too. Within a comparison,
its own tables say what lyrics add to metadata.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from fusionrec.errors import DataError
from fusionrec.evaluation import two_way
from fusionrec.evaluation.repeats import over_repeats, times_drawn
from pipelines.config.compare import FusionRun
from pipelines.runtime.workspace import Manifest, Workspace
from pipelines.split import song_groups

RANKING = "methods"

Cells = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of a fold: where each user's relevant songs begin, these songs, and the users."""

Ranked = dict[tuple[str, str, str, int], dict[int, tuple[Cells, np.ndarray]]]
"""By split, method, encoder and seed: each fold's cells, and what each adds to its user's AP."""


def label(manifest: Manifest) -> str:
    """The lyrics encoder of a comparison, and how its vectors are pooled."""
    lyrics = manifest["content"]["settings"]["embed"]["embed"]["lyrics"]
    return f"{lyrics['encoder']} {lyrics['pooling']}"


def comparisons(workspace: Workspace) -> Iterator[tuple[str, Workspace, Manifest]]:
    """Every finished comparison, with the name of its encoder."""
    found = []
    for key in workspace.results("compare"):
        here = workspace.at({"compare": key})
        manifest = here.manifest("compare")
        if manifest is not None:
            found.append((label(manifest), here, manifest))
    names = [name for name, *_ in found]
    for name, here, manifest in sorted(found, key=lambda each: each[2]["finished"]):
        twice = names.count(name) > 1
        yield f"{name} {manifest['key'][:6]}" if twice else name, here, manifest


def read(workspace: Workspace, key: str, top: int) -> tuple[Cells, np.ndarray]:
    """A ranking's cells, in an order that is the same for all methods, and their parts of AP."""
    table = workspace.at({RANKING: key}).read(RANKING, "ranks").combine_chunks()
    lengths = pc.list_value_length(table["ranks"]).to_numpy()
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ranks, songs = (pc.list_flatten(table[name]).to_numpy() for name in ("ranks", "songs"))
    order = np.lexsort((songs, np.repeat(np.arange(len(lengths)), lengths)))
    divisor = np.repeat(lengths / np.maximum(np.minimum(lengths, top), 1), lengths)
    parts = two_way.precisions(indptr, ranks, top) * divisor
    return (indptr, songs[order], table["user"].to_numpy()), parts[order]


def rankings(workspace: Workspace) -> Ranked:
    """All rankings of all comparisons."""
    found: Ranked = defaultdict(dict)
    for encoder, _, comparison in comparisons(workspace):
        for stage, key in comparison["uses"]:
            if stage != RANKING:
                continue
            manifest = workspace.at({RANKING: key}).require(RANKING)
            content = manifest["content"]
            split = workspace.at({"split": manifest["lineage"]["split"]}).require("split")
            cut = split["content"]["settings"]["split"]
            fusion = content["fusion"]
            name = FusionRun(**fusion).name if fusion else content["method"]
            where = (cut["by"], name, encoder, content["seed"] or 0)
            found[where][cut["test_fold"]] = read(workspace, key, content["top"])
    return found


def joined(folds: Mapping[int, tuple[Cells, np.ndarray]]) -> tuple[Cells, np.ndarray]:
    """The folds, one after the other."""
    offsets, songs, users, parts = [np.zeros(1, np.int64)], [], [], []
    for _, ((indptr, of_songs, of_users), values) in sorted(folds.items()):
        offsets.append(indptr[1:] + offsets[-1][-1])
        songs.append(of_songs)
        users.append(of_users)
        parts.append(values)
    cells = (np.concatenate(offsets), np.concatenate(songs), np.concatenate(users))
    return cells, np.concatenate(parts)


def differences(workspace: Workspace, against: str | None, resamples: int) -> list[dict[str, Any]]:
    """Of each method in each split: one encoder's mAP less another's, with its interval."""
    ranked = rankings(workspace)
    encoders = list(dict.fromkeys(encoder for _, _, encoder, _ in ranked))
    lineage = next(iter(comparisons(workspace)))[2]["lineage"]
    found = []
    for by in dict.fromkeys(key[0] for key in ranked):
        mine = {key[1:]: joined(folds) for key, folds in ranked.items() if key[0] == by}
        cells = next(iter(mine.values()))[0]
        for (name, encoder, _), (others, _) in mine.items():
            if any(not np.array_equal(a, b) for a, b in zip(cells, others, strict=True)):
                raise DataError(
                    f"{workspace.uri}: {name} with {encoder} was evaluated on other folds or "
                    "users than the rest; keep such comparisons in a workspace of their own"
                )
        groups = song_groups(workspace.at(lineage), by)[cells[1]]
        draws = two_way.resample(
            cells[0],
            groups,
            {str(key): parts for key, (_, parts) in mine.items()},
            clusters=cells[2],
            count="cells",
            seed=0,
            resamples=resamples,
        )
        level: dict[tuple[str, str], float] = {}
        drawn: dict[tuple[str, str], np.ndarray] = {}
        for number, pair in enumerate(dict.fromkeys(key[:2] for key in mine)):
            seeds = [key for key in mine if key[:2] == pair]
            times = times_drawn(len(seeds), resamples, seed=0, purpose=number)
            drawn[pair] = over_repeats(np.array([draws[str(key)] for key in seeds]), times)
            means = [_mean(cells[0], mine[key][1]) for key in seeds]
            level[pair] = float(np.mean(means))
        for name in dict.fromkeys(name for name, _ in level):
            for a, b in combinations([e for e in encoders if (name, e) in level], 2):
                if against is not None and not any(e.startswith(against) for e in (a, b)):
                    continue
                estimate = level[name, b] - level[name, a]
                of = two_way.paired(drawn[name, b], drawn[name, a], estimate)
                sides = {"a": b, "b": a, "map_a": level[name, b], "map_b": level[name, a]}
                of_pair = {"difference": of.mean, "low": of.low, "high": of.high, "p": of.p}
                found.append({"by": by, "method": name, **sides, **of_pair})
    return found


def _mean(indptr: np.ndarray, parts: np.ndarray) -> float:
    """The mean over users of the mean over their songs."""
    return float(np.mean(np.add.reduceat(parts, indptr[:-1]) / np.diff(indptr)))


def rows(workspace: Workspace) -> list[dict[str, Any]]:
    """What each comparison's own tables have of mAP and of the classes."""
    kept = ("name", "average_precision", "low", "high", "random_level", "accuracy", "macro_f1")
    found = []
    for encoder, here, _ in comparisons(workspace):
        for by, table in here.read_json("compare", "comparison.json").items():
            for row in table["rows"]:
                found.append({"by": by, "encoder": encoder, **{k: row.get(k) for k in kept}})
                found[-1]["majority"] = row.get("majority")
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--against", help="only differences from the encoder of this name")
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    workspace = Workspace(str(options.workspace))
    table = rows(workspace)
    if not table:
        parser.error(f"{options.workspace} has no finished comparison; run fusionrec compare first")
    for row in table:
        accuracy = "" if row["accuracy"] is None else f"  accuracy {row['accuracy']:.3f}"
        print(
            f"{row['by']:7}{row['name']:32}{row['encoder']:40}{row['average_precision']:.4f} "
            f"({row['low']:.4f} to {row['high']:.4f}){accuracy}",
            file=sys.stderr,
        )
    found = differences(workspace, options.against, options.resamples)
    for each in found:
        print(
            f"{each['by']:7}{each['method']:32}{each['a']} less {each['b']}: "
            f"{each['difference']:+.4f} ({each['low']:+.4f} to {each['high']:+.4f}), "
            f"p {each['p']:.3f}",
            file=sys.stderr,
        )
    if options.json:
        print(json.dumps({"rows": table, "differences": found}))


if __name__ == "__main__":
    main()
