"""Ray tasks: functions that run in workers, so that their data never reach the driver.

The stage's run comes first everywhere: its custom resources say where the work may be placed. It
is None outside of a stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeVar

import ray

from fusionrec.errors import FusionrecError
from pipelines.runtime import interrupts, resources
from pipelines.runtime.failures import FOREIGN, TASK, as_data, lost, revive, root_cause
from pipelines.runtime.progress import progress
from pipelines.runtime.workspace import StageRun

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

RETRIES = 10
"""How often a task may lose its worker or node before the stage fails."""
SECONDS_OF_GRACE = 1.0
"""What tasks have to end before they are cancelled, after another one of their stage has failed."""
SECONDS_TO_END = 10.0
"""What a task has to end by itself, after another one of its stage has failed."""
_FAILED = (FusionrecError, KeyboardInterrupt)
"""What ends a stage whose tasks are still at work; the latter is the watchdog's, or the user's."""


def placement(run: StageRun | None) -> dict[str, float]:
    """The custom resources that the stage's work asks for, for what starts workers by itself."""
    return dict(run.resources) if run else {}


def run_task(
    run: StageRun | None,
    function: Callable[..., T],
    *arguments: Any,
    num_cpus: float = 1,
    num_gpus: float = 0,
) -> T:
    """Run one function in a worker, so that its data never reach the driver."""
    reference = submit(run, function, *arguments, num_cpus=num_cpus, num_gpus=num_gpus)
    result: T = gather([reference])[0]
    return result


def wait(run: StageRun | None, references: Sequence[Any]) -> None:
    """Wait for what :func:`submit` started, whose results stay in the object store.

    Raises as :func:`gather` does.
    """
    running = [submit(run, _outcome, [reference]) for reference in references]
    try:
        while running:
            done, running = ray.wait(running, num_returns=1)
            for outcome in map(_result, done):
                if outcome is not None:
                    kind, message = outcome
                    raise revive(kind, message, "task")
    except _FAILED:
        _end([*running, *references])
        raise


def _outcome(references: list[Any]) -> tuple[str, str] | None:
    try:
        kind, message = ray.get(references[0])
    except ray.exceptions.RayError as error:
        return FOREIGN, root_cause(error)
    return (kind, message) if kind else None


def submit(
    run: StageRun | None,
    function: Callable[..., Any],
    *arguments: Any,
    num_cpus: float = 1,
    num_gpus: float = 0,
) -> Any:
    """Start one function in a worker; pass the result to :func:`gather`."""
    task = _guarded_task.options(
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        resources=placement(run),
        max_retries=RETRIES,
        name=f"{TASK} {run.stage}" if run else TASK,
    )
    return task.remote(function, *arguments)


def share(value: Any) -> Any:
    """Put a value into the object store once, for all tasks that are given the reference."""
    return ray.put(value)


def shared(value: Any) -> Any:
    """What :func:`share` put into the object store, in a worker that was given the reference."""
    return ray.get(value) if isinstance(value, ray.ObjectRef) else value


def gather(references: Sequence[Any]) -> list[Any]:
    """Wait for what :func:`submit` started, and return its results.

    Where one fails, what still runs is ended first: else it would write into the stage's result
    when the lease is another run's.

    Raises
    ------
    FusionrecError
        Whatever error of ours a worker met, as it was raised there.
    StageError
        If a worker failed otherwise.
    """
    results: dict[Any, Any] = {}
    running = list(dict.fromkeys(references))
    try:
        while running:
            done, running = ray.wait(running, num_returns=1)
            results |= {reference: _result(reference) for reference in done}
    except _FAILED:
        _end(running)
        raise
    return [results[reference] for reference in references]


def _result(reference: Any) -> Any:
    try:
        kind, value = ray.get(reference)
    except ray.exceptions.RayError as error:
        raise lost("task", error) from error
    if kind:
        raise revive(kind, value, "task")
    return value


def _end(references: Sequence[Any]) -> None:
    """Cancel tasks and wait until they have ended; whoever goes on nevertheless is killed.

    Not where the whole process ends, and all of them with it.
    """
    if interrupts.happened() or not references:
        return
    # Where one fails at once, the others often do: Ray ends the driver, too, where a task's reply
    # comes as it is cancelled.
    _, left = ray.wait(list(references), num_returns=len(references), timeout=SECONDS_OF_GRACE)
    for force in (False, True):
        # Those that wait first, while the others hold the CPUs: Ray ends the driver where a task
        # is cancelled at the moment at which it is sent to a worker (ray-project/ray, issue 54846).
        for reference in reversed(left):
            ray.cancel(reference, force=force)
        if left:
            _, left = ray.wait(left, num_returns=len(left), timeout=SECONDS_TO_END)


def _run_guarded(function: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    interrupts.hear()
    try:
        return "", function(*arguments)
    except Exception as error:
        return as_data(error)


# Made once: each remote function that is made is sent to every worker anew, and has a queue of its
# own, so that no task would follow another in a worker that is ready.
_guarded_task = ray.remote(_run_guarded)


def map_tasks(
    run: StageRun | None,
    function: Callable[[S], R],
    shards: Sequence[S],
    *,
    description: str,
    num_gpus: float = 0,
) -> list[R]:
    """Run `function` on every shard as tasks of one CPU; the driver sees small reports only.

    For work of which a shard takes less than a second: tasks follow each other in the same
    processes within a millisecond, where Ray Data takes a quarter of a second for each call
    (:func:`pipelines.runtime.sharding.map_shards`). A shard whose worker or node dies is repeated.

    Raises as :func:`gather` does.
    """
    ahead = 2 * resources.cpus()
    waiting = iter(enumerate(shards))
    running: dict[Any, int] = {}
    reports: dict[int, R] = {}
    with progress(description, len(shards), run) as advance:
        try:
            while len(reports) < len(shards):
                for number, shard in islice(waiting, ahead - len(running)):
                    running[submit(run, function, shard, num_gpus=num_gpus)] = number
                done, _ = ray.wait(list(running), num_returns=1)
                for reference in done:
                    reports[running.pop(reference)] = _result(reference)
                    advance(1)
        except _FAILED:
            _end([*running])
            raise
    return [reports[number] for number in range(len(shards))]
