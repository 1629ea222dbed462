"""Whether the pre-trained lyrics encoder should know positions, by what comes out at the end.

    python benchmarks/pretrain_positions.py CORPUS --config pipelines/configs/msd.yaml \\
        --set embed.lyrics.words=40 --folds 0 1 2 3 4 --seeds 0 1 [--workspace PLACE] [--json]

For every seed and fold the pipeline is run on the lyrics alone with `pretrain.positions` on and
off, each followed by every pooling of `--pooling`, and test accuracy, mAP@500 and held-out
perplexity are printed, then their means and the mean paired difference (off less on) with its
95 % t-interval over seeds and folds. The perplexities of the two do not compare: with
positions, a hidden word's count stands beside it. Runs share a workspace, so that ingest is
done once, and a repeated command goes on where it stopped (`--results` keeps finished runs).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from pipelines import config
from pipelines.run import run

MEASURES = ("test_accuracy", "map", "heldout_perplexity", "pretrain_seconds")


def one_run(path: Path | None, settings: dict[str, Any], chosen: list[str]) -> dict[str, Any]:
    """Run the pipeline with `settings` below the command line's; what is compared of it."""
    given = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    manifests = run(config.load(path, [*given, *chosen]))
    results, pretrained = manifests["evaluate"]["counts"], manifests["pretrain"]
    return {
        **{name: results[name] for name in ("test_accuracy", "map", "random_map", "users")},
        "majority_share": results["majority_share"],
        "heldout_perplexity": pretrained["counts"]["heldout_perplexity"],
        "unigram_perplexity": pretrained["counts"]["unigram_perplexity"],
        "pretrain_seconds": pretrained["wall_seconds"],
    }


def paired(differences: list[float]) -> tuple[float, float, float]:
    """Mean of the differences, and the ends of its 95 % t-interval."""
    values = np.array(differences, float)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """For each pooling and measure: the mean on and off, and the paired difference."""
    found: dict[str, Any] = {}
    for pooling in sorted({r["pooling"] for r in runs}):
        mine = [r for r in runs if r["pooling"] == pooling]
        on = {(r["seed"], r["fold"]): r for r in mine if r["positions"]}
        off = {(r["seed"], r["fold"]): r for r in mine if not r["positions"]}
        pairs = sorted(on.keys() & off.keys())
        if not pairs:
            continue
        found[pooling] = {"runs": len(pairs)}
        for measure in MEASURES:
            difference, low, high = paired([off[p][measure] - on[p][measure] for p in pairs])
            found[pooling][measure] = {
                "on": float(np.mean([on[p][measure] for p in pairs])),
                "off": float(np.mean([off[p][measure] for p in pairs])),
                "off_less_on": difference,
                "interval": [low, high],
            }
    return found


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--pooling", nargs="+", default=["cls"], choices=["cls", "mean"])
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--results", type=Path, help="file of finished runs, one JSON a line")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    if options.results and options.results.exists():
        runs = [json.loads(line) for line in options.results.read_text().splitlines()]
    done = {tuple(r[k] for k in ("seed", "fold", "positions", "pooling")) for r in runs}
    with tempfile.TemporaryDirectory() as scratch:
        for seed, fold, positions, pooling in (
            (s, f, on, pooling)
            for s in options.seeds
            for f in options.folds
            for on in (True, False)
            for pooling in options.pooling
        ):
            if (seed, fold, positions, pooling) in done:
                continue
            settings = {
                "workspace": str(options.workspace or scratch),
                "source.root": str(options.corpus),
                "seed": seed,
                "split.test_fold": fold,
                "embed.modalities": ["lyrics"],
                "embed.lyrics.encoder": "pretrain",
                "embed.lyrics.pooling": pooling,
                "pretrain.positions": positions,
                "pretrain.workers": 0,
                "train.workers": 0,
            }
            point = {"seed": seed, "fold": fold, "positions": positions, "pooling": pooling}
            runs.append({**point, **one_run(options.config, settings, options.set)})
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
            if options.results:
                with options.results.open("a") as file:
                    file.write(json.dumps(runs[-1]) + "\n")
    found = summary(runs)
    for pooling, rows in found.items():
        print(f"\npooling {pooling}, {rows['runs']} pairs of runs", file=sys.stderr)
        print(f"{'':20}{'on':>10}{'off':>10}{'off - on (95 %)':>32}", file=sys.stderr)
        for measure in MEASURES:
            row = rows[measure]
            low, high = row["interval"]
            text = f"{row['off_less_on']:+.4g} ({low:+.4g} to {high:+.4g})"
            print(f"{measure:20}{row['on']:>10.4g}{row['off']:>10.4g}{text:>32}", file=sys.stderr)
    if options.json:
        print(json.dumps({"runs": runs, "summary": found}))


if __name__ == "__main__":
    main()
