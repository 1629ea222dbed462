"""What a comparison computes: a job for each fold, method and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product

from fusionrec.report.summary import ClassMeasures
from pipelines.compare.context import Own
from pipelines.compare.folds import Fold
from pipelines.compare.methods import is_seeded
from pipelines.config import BlendRun, Config
from pipelines.config.compare import EXTERNAL, FusionRun
from pipelines.runtime.workspace import Manifest

RANKING = "methods"
"""The folder of the workspace that has the methods' rankings, a result a job."""


@dataclass(frozen=True)
class Job:
    """One method on one fold with one seed.

    Attributes
    ----------
    name
        Its row of the table.
    fusion
        The network, or the number of classes, of a method that has one.
    blend
        What a blend is made of.
    own
        The method, where it is of one's own.
    impossible
        Why it cannot be done; "" if it can.
    """

    fold: Fold
    method: str
    name: str
    fusion: FusionRun | None = None
    seed: int = 0
    impossible: str = ""
    blend: BlendRun | None = None
    own: Own | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    failed
        Why there is no ranking; "" if there is one.
    key
        Of the ranking, a result of :data:`RANKING`.
    without_input
        Candidates that the method knows nothing of.
    measures
        How well the method knows the classes.
    lists
        Statistics of its lists, by name; None or NaN where nothing defines one.
    seconds
        What learning and ranking took, without what is measured and written.
    ranking
        What ranking took of that.
    dimensions
        Of a song's vector.
    external
        Of lists made elsewhere, users and songs that were not found.
    """

    job: Job
    failed: str = ""
    key: str = ""
    without_input: int = 0
    measures: ClassMeasures = field(default_factory=ClassMeasures)
    lists: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0
    ranking: float = 0.0
    dimensions: int = 0
    external: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def of(job: Job, manifest: Manifest) -> Outcome:
        """From the manifest of its ranking."""
        counts = manifest["counts"]
        return Outcome(
            job,
            "",
            manifest["key"],
            counts["without_input"],
            counts["measures"],
            counts["lists"],
            counts["seconds"]["learning"] + counts["seconds"]["ranking"],
            counts["seconds"]["ranking"],
            counts["dimensions"],
            counts.get("external", {}),
        )


def folds(config: Config) -> list[Fold]:
    """What the config compares on."""
    numbers = config.compare.test_folds
    if numbers is None:
        numbers = tuple(range(config.split.folds))
    times = range(config.compare.fold_seeds)
    found = []
    for by in config.compare.splits:
        # One cut, at which no random number has a say, is the same each time.
        cuts = [(0, 0)] if by == "time" else product(times, numbers)
        found += [Fold(by, number, again) for again, number in cuts]
    return found


Variant = tuple[str, FusionRun | None, BlendRun | None]


def _variants(config: Config, method: str) -> list[Variant]:
    """A method's rows in the table: one, or one a network, number of classes or blend."""
    if method == "fusion":
        return [(run.name, run, None) for run in config.compare.fusion]
    if method == "classes":
        ks = sorted({run.k for run in config.compare.fusion})
        return [(f"classes k={k}", FusionRun(k=k), None) for k in ks]
    if method == "blend":
        return [(run.name, None, run) for run in config.compare.blends]
    return [(method, None, None)]


def method_names(config: Config) -> list[str]:
    """The rows of the table, in the config's order."""
    methods = config.compare.methods
    found = [name for method in methods for name, *_ in _variants(config, method)]
    return [*found, *config.compare.external]


def jobs(
    config: Config, fold: Fold, impossible: Mapping[int, str], owns: Mapping[str, Own]
) -> list[Job]:
    """All jobs of a fold.

    Parameters
    ----------
    impossible
        The reason by k for which there are no classes.
    owns
        The methods of one's own, by name.
    """
    found = []
    for method in config.compare.methods:
        seeds = config.compare.seeds if is_seeded(method, owns) else 1
        for name, fusion, blend in _variants(config, method):
            job = Job(fold, method, name, fusion, blend=blend, own=owns.get(method))
            if fusion is not None and fusion.k in impossible:
                found.append(replace(job, impossible=impossible[fusion.k]))
                continue
            found += [replace(job, seed=config.seed + i) for i in range(seeds)]
    found += [Job(fold, EXTERNAL, name, seed=config.seed) for name in config.compare.external]
    return found
