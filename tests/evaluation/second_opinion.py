"""What ranx says of rankings: a second opinion on the metrics.

    python -m tests.evaluation.second_opinion

reads a question as JSON from standard input and prints the answer as JSON. It is a process of its
own because numba is told by a variable to compile nothing: ranx takes most of a minute to compile,
and a second to answer without.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def by_ranx(
    relevant: Sequence[Sequence[int]], orders: Sequence[Sequence[int]], metrics: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Each user's value of ranx's metrics, by their names.

    Parameters
    ----------
    relevant
        Songs that each user likes.
    orders
        All candidates of each user, best first.

    Returns
    -------
    Arrays of shape (n_users,), float64.
    """
    question = {"relevant": relevant, "orders": orders, "metrics": metrics}
    done = subprocess.run(
        [sys.executable, "-m", "tests.evaluation.second_opinion"],
        input=json.dumps(question, default=int),
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    return {name: np.array(values) for name, values in answer.items()}


def main() -> None:
    from ranx import Qrels, Run, evaluate

    question = json.load(sys.stdin)
    names = [f"u{u:06}" for u in range(len(question["relevant"]))]  # ranx sorts them
    qrels, run = {}, {}
    for name, songs, order in zip(names, question["relevant"], question["orders"], strict=True):
        qrels[name] = {f"s{song}": 1 for song in songs}
        run[name] = {f"s{song}": -float(place) for place, song in enumerate(order)}
    # Of a single metric, ranx returns the values without its name.
    metrics = [*question["metrics"], "hits"]
    values = evaluate(Qrels(qrels), Run(run), metrics, return_mean=False)
    print(json.dumps({name: values[name].tolist() for name in question["metrics"]}))


if __name__ == "__main__":
    main()
