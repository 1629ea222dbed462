"""Tune: Ray Tune searches k, eta, p and more for the best mAP on the validation songs.

A trial is one training in one process, below the same code as `train`; its features, classes
and users come from the object store. Ray Tune keeps the state of the search in the stage's
folder, so a repeated command goes on with the trials that are not finished.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import sys
import time
from collections.abc import Mapping
from typing import Any

from ray import ObjectRef, tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.sample import Domain

from fusionrec.errors import ConfigError, FusionrecError, StageError
from fusionrec.report import figures
from fusionrec.report.text import as_csv
from fusionrec.report.trials import MEASURES, Trial, Value
from pipelines import config as config_module
from pipelines import embed, fuse, ingest, label, pretrain, split, train
from pipelines.config import Config, Range
from pipelines.runtime import failures, interrupts, progress, resources, tasks
from pipelines.runtime.gpus import GpuUse
from pipelines.runtime.stage import Counts, Stage
from pipelines.runtime.workspace import StageRun, Workspace
from pipelines.tune.shared import class_labels, load_features
from pipelines.tune.trial import Shared, features_key, objective, train_trial, trial_halves

log = logging.getLogger("fusionrec")

_RETRIES = 2


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Prepare what the trials share, search, and write the trials and the best config."""
    started = time.monotonic()
    shared = _prepare(config, run)
    prepared = time.monotonic()
    trials = _search(config, run, shared)
    searched = time.monotonic() - prepared
    done = [trial for trial in trials if trial.error is None]
    if not done:
        raise StageError(f"tune: all {len(trials)} trials failed; the first: {trials[0].error}")
    best = max(done, key=lambda trial: (trial.measured(objective(config)), -trial.number))
    chosen = config_module.replaced(config, best.values)
    rows = [trial.row() for trial in trials]
    run.write_bytes(config_module.to_yaml(chosen).encode(), "best.yaml")
    run.write_json(rows, "trials.json")
    run.write_bytes(as_csv(rows), "trials.csv")
    parameters = [*config.tune.space]
    measures = [
        name for name in MEASURES if any(trial.measures[name] is not None for trial in trials)
    ]
    drawing = figures.search(rows, parameters, measures[:2], logarithmic(config.tune.space))
    for name, content in drawing.files("search").items():
        run.write_bytes(content, name)
    inside = sum(trial.seconds for trial in trials)
    return {
        "trials": len(trials),
        "failed": len(trials) - len(done),
        "stopped_early": sum(trial.epoch < trial.epochs for trial in done),
        "metric": objective(config),
        "best_trial": best.number,
        "best": best.measured(objective(config)),
        **{f"best {name}": best.values[name] for name in config.tune.space},
        "concurrent": shared.concurrent,
        "prepare_seconds": round(prepared - started, 1),
        "search_seconds": round(searched, 1),
        "share_outside_training": round(1 - inside / (searched * shared.concurrent), 3),
    }


def logarithmic(space: Mapping[str, Range | tuple[Value, ...]]) -> set[str]:
    """The keys whose values are searched by their logarithm, for their axes in the figure.

    Of a list, which has no scale of its own, those whose numbers span more than a decade.
    """
    found = set()
    for name, values in space.items():
        if isinstance(values, Range):
            by_logarithm = values.log
        else:
            numbers = [value for value in values if not isinstance(value, str)]
            by_logarithm = (
                len(numbers) == len(values)
                and min(numbers) > 0
                and max(numbers) > 10 * min(numbers)
            )
        if by_logarithm:
            found.add(name)
    return found


def _check(config: Config) -> None:
    """Every value must be one the config allows, before anything is computed."""
    for name, values in config.tune.space.items():
        each = (values.low, values.high) if isinstance(values, Range) else values
        for value in each:
            try:
                chosen = config_module.replaced(config, {name: value})
                if name == "fuse.operator":
                    train.check(chosen)
            except ConfigError as error:
                raise ConfigError(f"tune.space: {error}") from None
    if "fuse.operator" not in config.tune.space:
        train.check(config)
    if config.split.validation == 0:
        raise ConfigError("tune judges trials on validation songs: set split.validation above 0")
    objective = config.train.objective
    if objective != "genre":
        raise ConfigError(
            f"tune searches for the best classes, and train.objective is {objective}: what it "
            "finds would not be for that; set train.objective: genre (and recommend.model: genre, "
            "or blend)"
        )


# --- what trials share -------------------------------------------------------------------


def _prepare(config: Config, run: StageRun) -> Shared:
    config, space = _with_precision(config, run), config.tune.space
    # These tasks ask for no CPU: if their node dies, Ray repeats them while trials hold all CPUs.
    ks = sorted({int(k) for k in _values(config, "label.k")})
    labels = {
        str(embedding): tasks.submit(
            run,
            class_labels,
            config_module.replaced(config, {"label.embedding": embedding}),
            run.workspace,
            ks,
            num_cpus=0,
        )
        for embedding in _values(config, "label.embedding")
    }
    features: dict[str, ObjectRef[object]] = {}
    for words in _values(config, "embed.lyrics.words"):
        for operator in _values(config, "fuse.operator"):
            chosen = config_module.replaced(
                config, {"embed.lyrics.words": words, "fuse.operator": operator}
            )
            key = features_key(chosen)
            if key not in features:
                featured = _featured_workspace(config, chosen, run)
                features[key] = tasks.submit(run, load_features, chosen, featured, num_cpus=0)
    # An error in any of them is the user's to see now, not one of each trial.
    tasks.wait(run, [*labels.values(), *features.values()])
    log.info(
        "tune: %d trials over %s; classes for k in %s", config.tune.trials, ", ".join(space), ks
    )
    fitting = resources.places({"CPU": 1.0, "GPU": run.gpus, **tasks.placement(run)})
    most = min(fitting, config.tune.concurrent or fitting, config.tune.trials)
    return Shared(config, features, labels, max(1, most), run.gpus)


def _with_precision(config: Config, run: StageRun) -> Config:
    """The config with one precision for all trials, which else could not be compared."""
    if config.train.dtype != "auto":
        return config
    halves = run.choose(
        "precision", lambda: tasks.run_task(run, trial_halves, run.gpus, num_gpus=run.gpus)
    )
    return config_module.replaced(config, {"train.dtype": "bfloat16" if halves else "float32"})


def _values(config: Config, name: str) -> tuple[Value, ...]:
    """The values a key takes in the search: its own alone, if it is not searched."""
    values = config.tune.space.get(name)
    if values is None:
        section: Any = config
        for part in name.split("."):
            section = getattr(section, part)
        return (section,)
    assert not isinstance(values, Range)
    return values


def _featured_workspace(base: Config, chosen: Config, run: StageRun) -> Workspace:
    """The workspace with features that fit `chosen`."""
    if features_key(chosen) == features_key(base):
        return run.workspace
    for stage in (pretrain.STAGE, embed.STAGE, fuse.STAGE):
        if stage is not pretrain.STAGE or stage in embed.STAGE.needs(chosen):
            run.use(stage.run(chosen, run.workspace, current=False))
    return fuse.STAGE.plan(chosen, run.workspace).reading(run.workspace)


# --- the search --------------------------------------------------------------------------


def _search(config: Config, run: StageRun, shared: Shared) -> list[Trial]:
    """Run Ray Tune, or go on with it."""
    settings = config.tune
    trainable = tune.with_resources(
        tune.with_parameters(train_trial, shared=shared),
        {
            "cpu": 1,
            **({"gpu": run.gpus} if run.gpus else {}),
            **tasks.placement(run),
        },
    )
    workspace = run.workspace
    storage, name = run.path("ray"), "search"
    search_path = f"{storage}/{name}"
    space = _space(config)
    # Ray Tune prints its table on standard output, which is the results' own.
    interactive = sys.stderr.isatty() and log.isEnabledFor(logging.INFO)
    with progress.progress("trials", settings.trials, run) as advance:
        watcher = _Watcher(config, advance)
        if tune.Tuner.can_restore(search_path, storage_filesystem=workspace.fs):
            log.info("tune: goes on with the search in %s", search_path)
            tuner = tune.Tuner.restore(
                search_path,
                trainable,
                param_space=space,
                resume_unfinished=True,
                restart_errored=True,
                storage_filesystem=workspace.fs,
            )
            watcher.attach(tuner)
        else:
            tuner = tune.Tuner(
                trainable,
                param_space=space,
                tune_config=tune.TuneConfig(
                    num_samples=settings.trials,
                    search_alg=_search_algorithm(config),
                    scheduler=_scheduler(config),
                    metric=objective(config),
                    mode="max",
                    max_concurrent_trials=shared.concurrent,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name=name,
                    storage_path=storage,
                    storage_filesystem=workspace.fs,
                    failure_config=tune.FailureConfig(max_failures=_RETRIES),
                    callbacks=[watcher],
                    verbose=int(interactive),
                ),
            )
        try:
            with contextlib.redirect_stdout(sys.stderr if interactive else io.StringIO()):
                results = interrupts.outside_the_main_thread(tuner.fit)
        except FusionrecError:
            raise
        except Exception as error:
            raise StageError(f"tune: Ray Tune failed: {failures.root_cause(error)}") from error
        # Of a search that went on, Ray Tune tells the trials that ended now only.
        advance(len(results) - watcher.ended)
    return [_trial(config, number, results[number]) for number in range(len(results))]


def _space(config: Config) -> dict[str, Domain]:
    space: dict[str, Domain] = {}
    for name, values in config.tune.space.items():
        if not isinstance(values, Range):
            space[name] = tune.choice(list(values))
        elif values.log:
            space[name] = tune.loguniform(values.low, values.high)
        else:
            space[name] = tune.uniform(values.low, values.high)
    return space


def _search_algorithm(config: Config) -> Any:
    if config.tune.search == "random":
        return BasicVariantGenerator(random_state=config.seed)
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(seed=config.seed, metric=objective(config), mode="max")


def _scheduler(config: Config) -> TrialScheduler:
    if config.tune.scheduler == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    epochs = config.train.epochs
    return ASHAScheduler(
        time_attr="epoch",
        max_t=epochs,
        grace_period=max(1, min(epochs, round(config.tune.grace * epochs))),
        reduction_factor=config.tune.reduction,
    )


class _Watcher(tune.Callback):
    """Says how each trial ended."""

    def __init__(self, config: Config, advance: progress.Advance) -> None:
        self.space = tuple(config.tune.space)
        self.objective = objective(config)
        self.trials = config.tune.trials
        self.advance: progress.Advance | None = advance
        self.ended = 0

    def attach(self, tuner: tune.Tuner) -> None:
        """Replace the watcher that was pickled with an interrupted search."""
        internal = getattr(tuner, "_local_tuner", None)
        if internal is None:  # Ray has no public way: the search goes on, untold
            log.warning("tune: this Ray does not show how the trials of a resumed search end")
            return
        internal._run_config.callbacks = [self]

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "advance": None}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        found = trial.last_result or {}
        if "error" in found:
            self._tell(trial, f"failed: {found['error']}")
            return
        self._tell(
            trial,
            f"{self.objective} {found.get(self.objective, math.nan):.4f} "
            f"after {found.get('epoch', 0)} epochs",
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell(trial, "failed")

    def _tell(self, trial: Any, outcome: str) -> None:
        self.ended += 1
        values = ", ".join(f"{name} {shown(trial.config[name])}" for name in self.space)
        log.info("tune: trial %d of %d: %s: %s", self.ended, self.trials, values, outcome)
        if self.advance is not None:
            self.advance(1)


def shown(value: Value) -> str:
    """A value of a trial for people."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _trial(config: Config, number: int, result: tune.Result) -> Trial:
    found, values = result.metrics or {}, result.config or {}
    error = found.get("error")
    if error is None and result.error is not None:
        error = failures.root_cause(result.error)
    return Trial(
        number,
        {name: values[name] for name in config.tune.space},
        {name: None if error else found.get(name) for name in MEASURES},
        int(found.get("epoch", 0)),
        config.train.epochs,
        float(found.get("seconds", 0.0)),
        error,
    )


STAGE = Stage(
    name="tune",
    needs=lambda config: (ingest.STAGE, split.STAGE, fuse.STAGE),
    settings=lambda config: {
        **train.key_settings(train.of_classes(config)),
        "label": config.label.model_dump(),
        "recommend": config.recommend.model_dump(include={"protocol", "top", "weighting"}),
        "tune": config.tune.model_dump(mode="json", exclude={"concurrent", "num_gpus"}),
    },
    work=work,
    check=_check,
    gpus=GpuUse("tune.num_gpus", "a trial", auto=0.25),
    does=(label.STAGE, train.STAGE),
    refresh_first=(fuse.STAGE,),
    published=("best.yaml", "trials.*", "search.*"),
)
