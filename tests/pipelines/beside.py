"""What stands beside a run: small settings of each such stage, and what it writes."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from pipelines import blend, compare, report, train, tune
from pipelines.runtime.stage import Stage
from pipelines.runtime.workspace import MANIFEST, Workspace
from tests.pipelines.inline import load, without_ray
from tests.pipelines.inline_tune import inline_search

STAGES: dict[str, Stage] = {
    stage.name: stage for stage in (blend.STAGE, report.STAGE, tune.STAGE, compare.STAGE)
}

SETTINGS: dict[str, dict[str, str | int]] = {
    "blend": {},
    "report": {
        "report__runs": "[{k: 4, eta: 0.001, p: 0.5}, {k: 3, eta: 0.005, p: 0.1}]",
        "report__elbow_to": 5,
    },
    "tune": {
        "tune__trials": 8,
        "tune__reports": 4,
        "tune__scheduler": "none",
        "tune__space": "{label.k: [3, 6], train.eta: {low: 0.0005, high: 0.005, log: true}, "
        "fuse.operator: [concatenate, max]}",
    },
    "compare": {
        "ingest__segments": "full",
        "compare__splits": "[artist]",
        "compare__test_folds": "[0]",
        "compare__fusion": "[{k: 3, modalities: [metadata]}]",
        "compare__blends": "[{context: false, other_plays: false}]",
        "compare__seeds": 1,
        "compare__resamples": 100,
        "compare__wmf": "{factors: 8}",
        "compare__audio_words": "{codewords: 20, frames: 10}",
        "compare__neural": "{hidden: 20, epochs: 2, cnn_epochs: 1, segments: 16}",
        "compare__mlr": "{queries: 40, iterations: 2}",
    },
}


TASTE: dict[str, object] = {
    "recommend__model": "network",
    "train__wmf__factors": 8,
    "train__towers__epochs": 4,
    "train__towers__dimensions": 7,
    "train__towers__pairs": 64,
    "train__towers__negatives": 20,
}
"""A small training on taste, by either objective."""


def finish(corpus: Path, place: Path) -> None:
    """Finish each of them in a workspace in which a run is finished, and trainings on taste."""
    with without_ray(), inline_search():
        for objective in ("factors", "ranking"):
            chosen = load(corpus, place, train__objective=objective, **TASTE)
            train.STAGE.run(chosen, current=False)
        for name, stage in STAGES.items():
            stage.run(load(corpus, place, **SETTINGS[name]))


def tables(workspace: Workspace, stage: str) -> dict[str, Any]:
    """The tables that such a stage writes, by file name; without how long anything took."""
    found: dict[str, Any] = {}
    for name in (info.base_name for info in workspace.files(stage)):
        if name.startswith("."):
            continue  # what a dead one had half written
        content = workspace.read_bytes(stage, name)
        if name.endswith(".json") and name != MANIFEST:
            found[name] = timeless(json.loads(content))
        elif name.endswith(".csv"):
            found[name] = timeless(list(csv.DictReader(io.StringIO(content.decode()))))
        elif name.endswith((".tex", ".yaml")) or name in ("table_1.md", "report.md"):
            found[name] = content.decode().replace(workspace.uri, "")
    return found


def timeless(value: Any) -> Any:
    """A value of JSON without what a clock measured."""
    if isinstance(value, list):
        return [timeless(each) for each in value]
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not _TIMED.search(k)}
    return value


_TIMED = re.compile(r"seconds$|^share_outside_training$")
