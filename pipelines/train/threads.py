"""How many of a node's cores a worker of a training uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipelines.config.learning import SONGS_A_THREAD, TrainConfig
from pipelines.runtime import resources


def threads_of(
    train: TrainConfig,
    *,
    num_gpus: float,
    custom: Mapping[str, float],
    streamed: bool = False,
) -> int:
    """Threads of a worker: `train.threads`, or its share of the cores of the nodes it may run on.

    Of all its cores, and not of those that are free now: their number is a run's own.

    Parameters
    ----------
    num_gpus
        GPUs of a worker, which then has one thread.
    custom
        Custom resources of a worker: on nodes without them are none.
    streamed
        Ray Data brings the songs, and needs a CPU for it.
    """
    if train.threads is not None:
        return train.threads
    if num_gpus:
        return 1
    songs = train.towers.pairs if train.objective == "ranking" else train.batch_size
    workers = max(1, train.workers)
    most = max(1, songs // workers // SONGS_A_THREAD)
    return share(resources.cpus_of_nodes(custom), workers, most, spare=int(streamed))


def share(cpus: Iterable[int], workers: int, most: int, *, spare: int = 0) -> int:
    """As many CPUs, at most `most`, as each of some workers gets, of one node each; at least 1.

    Parameters
    ----------
    cpus
        Of each node.
    spare
        CPUs of some node that are left.
    """
    nodes = sorted(cpus)
    for threads in range(min(most, max(nodes, default=1)), 1, -1):
        fit = sum(n // threads for n in nodes)
        # What is left over on the nodes, with as few workers as there are.
        left = sum(nodes) - workers * threads
        if fit >= workers and left >= spare:
            return threads
    return 1
