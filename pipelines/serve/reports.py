"""What a workspace has to show beside lists: a comparison, a ladder, and what its run read."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from fusionrec.report.comparison import EXTERNAL, external_notes, published
from fusionrec.report.summary import Difference, Row, Summary
from pipelines.runtime.workspace import Workspace

Json = dict[str, Any]

_EXAMPLES = 3
"""Of what was left out for one reason."""

_STAGES = (
    "ingest",
    "split",
    "label",
    "pretrain",
    "embed",
    "fuse",
    "train",
    "blend",
    "recommend",
    "evaluate",
    "lists",
)

_ROW = (
    "name",
    "method",
    "reference",
    "average_precision",
    "low",
    "high",
    "lift",
    "auc",
    "recall",
    "ndcg",
    "seeds",
    "spread",
)


def comparison(uri: str) -> Json:
    """The comparison's tables, by split; how one is made where there is none."""
    seen = Workspace(uri)
    if seen.manifest("compare") is None:
        return {"make": "fusionrec compare", "splits": []}
    summaries: dict[str, Summary] = seen.read_json("compare", "comparison.json")
    return _finite({"make": None, "splits": [_split(s) for s in summaries.values()]})


def _split(summary: Summary) -> Json:
    against = summary["against"]
    folds = summary["folds"]
    return {
        "by": summary["by"],
        "against": against,
        "random_level": summary["rows"][0]["random_level"] if summary["rows"] else None,
        "rankings": folds["users"],
        "users": folds["distinct_users"],
        "folds": folds["folds"],
        "cuts": folds["fold_seeds"],
        "candidates": folds["candidates_mean"],
        "relevant": folds["relevant_mean"],
        "users_left_out": folds["users_left_out"],
        "rows": [_row(row, summary) for row in summary["rows"]],
        "failed": summary["failed"],
        "ceilings": summary["ceilings"],
        "external": [EXTERNAL, *external_notes(summary)] if summary["external"] else [],
    }


def _row(row: Row, summary: Summary) -> Json:
    known = published(row)
    return {
        **{name: row.get(name) for name in _ROW},
        "difference": _difference(row["name"], summary["against"], summary["differences"]),
        "published": None if known is None else {"value": known[0], "by": known[1]},
    }


def _difference(name: str, against: str, found: list[Difference]) -> Json | None:
    """A method's mAP less that of the one that all are compared with."""
    for each in found:
        mean, low, high = each["difference"], each["low"], each["high"]
        if (each["b"], each["a"]) == (name, against):
            mean, low, high = -mean, -high, -low
        elif (each["a"], each["b"]) != (name, against):
            continue
        return {"difference": mean, "low": low, "high": high, "p": each["p_holm_against"]}
    return None


_STEP = (
    "rung",
    "name",
    "change",
    "context",
    "beside",
    "average_precision",
    "low",
    "high",
    "ratio",
    "difference",
    "difference_low",
    "difference_high",
    "p_holm",
)


def ladder(uri: str) -> Json:
    """The ladder's rungs, by split; how one is made where there is none."""
    seen = Workspace(uri)
    if seen.manifest("ladder") is None:
        return {"make": "fusionrec ladder", "splits": [], "left_out": {}}
    found = seen.read_json("ladder", "ladder.json")
    splits = [
        {"by": by, "rungs": [{name: step.get(name) for name in _STEP} for step in steps]}
        for by, steps in found["ladders"].items()
    ]
    return _finite({"make": None, "splits": splits, "left_out": found["left_out"]})


def report(uri: str, seen: Workspace) -> Json:
    """What the stages of a result counted, what was left out and why, and its evaluation.

    Parameters
    ----------
    uri
        The workspace.
    seen
        The same by the results that are served.
    """
    current = Workspace(uri)
    stages, users = [], []
    evaluation = None
    for stage in _STAGES:
        at = seen if stage in seen.keys else current
        manifest = at.manifest(stage)
        if manifest is None or not _agree(manifest["lineage"], seen):
            continue
        counts = manifest["counts"]
        if stage == "evaluate":
            evaluation = at.read_json("evaluate", "summary.json")
        else:
            stages.append({"stage": stage, "counts": dict(_plain(counts))})
        if stage == "recommend":
            users = [
                {"reason": reason, "users": n}
                for reason, n in counts.get("users_left_out", {}).items()
                if n
            ]
    return _finite(
        {
            "stages": stages,
            "rejects": _rejects(seen),
            "users_left_out": users,
            "evaluation": evaluation,
        }
    )


def _agree(lineage: Mapping[str, str], seen: Workspace) -> bool:
    """Whether a result was made of none but the results that are served."""
    return all(seen.keys.get(stage, key) == key for stage, key in lineage.items())


def _plain(counts: Mapping[str, Any], before: str = "") -> list[tuple[str, float | str | None]]:
    """Numbers and words among counts, those of inner ones by both their names."""
    found: list[tuple[str, float | str | None]] = []
    for name, value in counts.items():
        if isinstance(value, Mapping):
            if not name.endswith(("rejects", "left_out")):
                found += _plain(value, f"{before}{name} ")
        elif value is None or isinstance(value, int | float | str):
            found.append((f"{before}{name}", value))
    return found


def _rejects(seen: Workspace) -> list[Json]:
    """What ingest left out or changed, by reason, most frequent first, with a few examples."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    examples: dict[tuple[str, str], list[Json]] = defaultdict(list)
    if seen.exists("ingest", "rejects"):
        for name in seen.parts("ingest", "rejects"):
            table = seen.read_part("ingest", "rejects", name, ["reason", "action"])
            grouped = table.group_by(["reason", "action"]).aggregate([([], "count_all")])
            wanted = set()
            for row in grouped.to_pylist():
                key = (row["reason"], row["action"])
                counts[key] += row["count_all"]
                if len(examples[key]) < _EXAMPLES:
                    wanted.add(key)
            if wanted:
                _add_examples(seen, name, wanted, examples)
    return [
        {"reason": reason, "action": action, "count": n, "examples": examples[reason, action]}
        for (reason, action), n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _add_examples(
    seen: Workspace,
    name: str,
    wanted: set[tuple[str, str]],
    examples: dict[tuple[str, str], list[Json]],
) -> None:
    for reason, action in sorted(wanted):
        where: Any = [("reason", "==", reason), ("action", "==", action)]
        table = seen.read_part("ingest", "rejects", name, ["source", "item", "detail"], where)
        more = table.slice(0, _EXAMPLES - len(examples[reason, action])).to_pylist()
        examples[reason, action] += more


def _finite(content: Json) -> Json:
    """The same with None for what JSON has no number for."""
    return {name: _number(each) for name, each in content.items()}


def _number(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _number(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_number(each) for each in value]
    return value
