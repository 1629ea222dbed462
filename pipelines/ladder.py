"""Ladder: from the paper's method to the best one, one change a rung, each with what it is worth.

A comparison (:mod:`pipelines.compare`) of the rungs' methods, as `compare` has its folds, seeds and
users, whose rankings it shares: what a comparison has computed is not computed again. Here only its
tables are read, a few kB.
"""

from __future__ import annotations

import logging
from typing import Any

from fusionrec.errors import SourceError
from fusionrec.report import ladder
from fusionrec.report.summary import Summary
from pipelines import compare, ingest
from pipelines.config import Config, replaced
from pipelines.config.ladder import Rung
from pipelines.runtime.command import as_command
from pipelines.runtime.stage import Counts, Stage
from pipelines.runtime.workspace import StageRun, Workspace

log = logging.getLogger("fusionrec")


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Compare the rungs, and write the ladder."""
    manifest = compare.STAGE.run(as_comparison(config), run.workspace, current=False)
    if manifest["lineage"] != run.lineage:
        raise SourceError(
            "ladder: source files changed since it began; leave them alone and run it again"
        )
    run.use(manifest)
    compared = run.workspace.at({"compare": manifest["key"]})
    summaries: dict[str, Summary] = compared.read_json("compare", "comparison.json")
    rungs = [_place(config, rung) for rung in config.ladder.rungs]
    ladders = {by: ladder.steps(summary, rungs) for by, summary in summaries.items()}
    missing = {rung.name: _NOT_EMBEDDED for rung in config.ladder.rungs if not _can(config, rung)}
    for summary in summaries.values():
        missing |= summary["failed"]
    for name, content in ladder.files(ladders, missing).items():
        run.write_bytes(content, name)
    run.write_json({"ladders": ladders, "left_out": missing}, "ladder.json")
    return {
        "rungs": len(config.ladder.rungs),
        "left_out": len(missing),
        "rankings": manifest["counts"]["rankings"],
        "best": {by: _best(found) for by, found in ladders.items()},
    }


_NOT_EMBEDDED = "embed.modalities lacks one of its modalities"


def _can(config: Config, rung: Rung) -> bool:
    wanted = rung.fusion.modalities if rung.fusion else ()
    return set(wanted) <= set(config.embed.modalities)


def _place(config: Config, rung: Rung) -> ladder.Rung:
    return ladder.Rung(rung.name, rung.change, _context(config, rung), rung.beside)


def _context(config: Config, rung: Rung) -> ladder.Context:
    """What a rung knows of the artist's fame; metadata have hotttnesss among their numbers."""
    if rung.blend is not None:
        return "all" if rung.blend.context else "none"
    fed = rung.fusion.modalities if rung.fusion else ()
    if rung.method in ("linear-features", "fusion-factors", "fusion-ranking", "hgnn", "dlrm"):
        fed = config.embed.modalities
    return "hotttnesss" if rung.method == "hotttnesss" or "metadata" in fed else "none"


def _best(found: list[ladder.Step]) -> dict[str, object]:
    if not found:
        return {}
    best = max(found, key=lambda step: step["average_precision"])
    return {name: best[name] for name in ("name", "average_precision", "ratio")}


def as_comparison(config: Config) -> Config:
    """The config whose comparison has the rungs."""
    rungs = [rung for rung in config.ladder.rungs if _can(config, rung)]
    values: dict[str, object] = {
        "compare.methods": list(dict.fromkeys(rung.method for rung in rungs)),
        "compare.fusion": [rung.fusion.model_dump(mode="json") for rung in rungs if rung.fusion],
        "compare.blends": [rung.blend.model_dump(mode="json") for rung in rungs if rung.blend],
        "compare.external": {},
        "compare.against": None,
    }
    return replaced(config, values)


def _settings(config: Config) -> dict[str, Any]:
    return {
        "compare": compare.STAGE.settings(as_comparison(config)),
        "ladder": config.ladder.model_dump(mode="json"),
    }


def _source(config: Config) -> Any:
    assert compare.STAGE.source is not None
    return compare.STAGE.source(as_comparison(config))


def _check(config: Config) -> None:
    assert compare.STAGE.check is not None
    compare.STAGE.check(as_comparison(config))


STAGE = Stage(
    name="ladder",
    needs=lambda config: (ingest.STAGE,),
    settings=_settings,
    work=work,
    source=_source,
    does=(compare.STAGE, *compare.STAGE.does),
    check=_check,
    refresh_first=(ingest.STAGE,),
    published=("ladder.*",),
)


if __name__ == "__main__":
    as_command(STAGE.name)
