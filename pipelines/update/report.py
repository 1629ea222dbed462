"""What an update tells of what is new: how much, how far from the models, and whether to refit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.config import Config
from pipelines.runtime import tasks
from pipelines.runtime.stage import Counts, Json
from pipelines.runtime.workspace import StageRun, Workspace
from pipelines.update import distance
from pipelines.update.distance import Measured, OfRun
from pipelines.update.numbering import Numbers, Sent
from pipelines.update.songs import MEASURES, MadeReport, parts_of, words_of

REPORT = "report.json"


def write_report(
    config: Config,
    workspace: Workspace,
    run: StageRun,
    numbers: Numbers,
    sent: Sequence[Sent],
    made: Sequence[MadeReport],
    centre: Any,
    counted: Mapping[str, Json],
) -> Counts:
    """Write `report.json`, the counts with the distances and what is due, and return it.

    Parameters
    ----------
    centre
        A reference to where the training songs lie.
    counted
        What else is to be told.
    """
    new = _shares_of_all(workspace, numbers, sent)
    shares: dict[str, Any] = {}
    reasons = [
        f"{share:.1%} of all {what} are new, more than update.most_new {config.update.most_new:g}"
        for what, share in new.items()
        if share > config.update.most_new
    ]
    if numbers.added:
        shares = tasks.run_task(run, partial(_distances, config, workspace, run, numbers, centre))
        for name, of in shares.items():
            of_new, of_old, most = (of[key] for key in ("new", "held_out", "limit"))
            if of_new is not None and most is not None and of_new > most:
                reasons.append(
                    f"{name}: {of_new:.1%}, and of the songs held out {of_old:.1%}; only "
                    f"{config.update.chance:g} of draws of so many are above {most:.1%}"
                )
    words, unknown = (sum(getattr(each, name) for each in made) for name in ("words", "unknown"))
    report: Counts = {
        **counted,
        "share_of_all": new,
        "distance": shares,
        "unknown_words_of_lyrics": unknown / words if words else None,
        "refit_due": bool(reasons),
        "reasons": reasons,
    }
    run.write_json(report, REPORT)
    return report


def _distances(
    config: Config, workspace: Workspace, run: StageRun, numbers: Numbers, centre: Any
) -> dict[str, dict[str, float | None]]:
    """By measure, its share of the new songs and of those held out, and the limit; in a task."""
    found, held_out = measured(run), _held_out(workspace, tasks.gather([centre])[0])
    rng = np.random.default_rng(config.seed)
    return {
        name: {
            "new": distance.share(found.shares[name]),
            "held_out": distance.share(held_out.shares[name]),
            "limit": distance.limit(held_out, name, numbers.added, config.update.chance, rng),
        }
        for name in found.shares
    }


def measured(run: StageRun) -> Measured:
    """All new songs' measures; of them none is drawn, so that their artists do not matter."""
    tables = [
        run.workspace.read_part(run.stage, MEASURES, part)
        for part in run.workspace.parts(run.stage, MEASURES)
    ]
    table = pa.concat_tables(tables)
    names = [name.removesuffix(" some") for name in table.column_names if name.endswith(" some")]
    shares = {
        name: (table[f"{name} some"].to_numpy(), table[f"{name} whole"].to_numpy())
        for name in names
    }
    return Measured(np.arange(len(table)), shares)


def _held_out(workspace: Workspace, centre: distance.Centre) -> Measured:
    rows = distance.chosen(parts_of(workspace), distance.held_out(workspace))
    of = OfRun.read(workspace, rows)
    return distance.measure(of.songs, words_of(workspace), of.x, of.usable, of.present, centre)


def _shares_of_all(
    workspace: Workspace, numbers: Numbers, sent: Sequence[Sent]
) -> dict[str, float]:
    """New songs and plays of all of them, old and new."""
    counts = workspace.require("ingest")["counts"]
    plays = sum(each.plays + each.other + each.unknown for each in sent)
    old = counts["plays"] + counts["other_plays"]
    return {
        "songs": numbers.added / max(numbers.all_songs, 1),
        "plays": plays / max(plays + old, 1),
    }
