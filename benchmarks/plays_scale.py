"""Listening triplets up to the Taste Profile's 48,373,586: rows per second, and flat memory.

    fusionrec sample --songs 2000 --users 10 --out CORPUS
    python benchmarks/plays_scale.py CORPUS --rows 4000000 48373586 [--json]

For each size a triplets file is written (1,019,318 users at the largest size, songs of the
corpus with a long-tailed popularity) and `fusionrec ingest` reads it with the corpus's songs.
What a row costs is taken from the difference of two sizes, which leaves out the fixed costs,
and is compared with pyarrow's own CSV parser on the same file and one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from ingest_scale import measured

USERS_PER_ROW = 1_019_318 / 48_373_586
_BLOCK = 1_000_000


def write_triplets(path: Path, rows: int, songs: list[str]) -> None:
    """A file of `rows` lines, a user's lines together; the same for the same arguments."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, len(songs) + 1)
    share /= share.sum()
    song_ids = np.array(songs)
    users = max(1, round(rows * USERS_PER_ROW))
    with path.open("wb") as file:
        for start in range(0, rows, _BLOCK):
            count = min(_BLOCK, rows - start)
            user = ((start + np.arange(count)) * users // rows).tolist()
            song = song_ids[rng.choice(len(songs), count, p=share)].tolist()
            plays = rng.geometric(0.35, count).tolist()
            file.write(
                "".join(
                    f"{u:040x}\t{s}\t{n}\n" for u, s, n in zip(user, song, plays, strict=True)
                ).encode()
            )


def parse(path: Path) -> float:
    """Rows per second of pyarrow's CSV reader on one thread."""
    start, rows = time.perf_counter(), 0
    options = pa_csv.ReadOptions(column_names=["user", "song", "plays"], use_threads=False)
    with pa_csv.open_csv(path, options, pa_csv.ParseOptions(delimiter="\t")) as reader:
        for batch in reader:
            rows += batch.num_rows
    return rows / (time.perf_counter() - start)


def main() -> None:
    """Run all sizes and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rows", type=int, nargs=2, default=[4_000_000, 48_373_586])
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    truth = (options.corpus / "truth_songs.tsv").read_text().splitlines()
    column = truth[0].split("\t").index("song")
    songs = sorted({line.split("\t")[column] for line in truth[1:]})
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "triplets.txt"
        for rows in options.rows:
            write_triplets(file, rows, songs)
            settings = {"source.root": options.corpus, "source.plays": f"[{file}]"}
            run = measured(settings, options.cpus)
            runs.append({"rows": rows, **run})
        peer = parse(file)
    marginal = (runs[1]["rows"] - runs[0]["rows"]) / (runs[1]["seconds"] - runs[0]["seconds"])
    result = {
        "runs": runs,
        "rows_per_second_and_cpu": marginal / options.cpus,
        "ratio_to_csv_parser": marginal / options.cpus / peer,
        "worker_memory_ratio": runs[1]["worker_mb"] / runs[0]["worker_mb"],
    }
    print(f"{'rows':>12}{'seconds':>9}{'driver MB':>11}{'worker MB':>11}", file=sys.stderr)
    for run in runs:
        print(
            f"{run['rows']:>12,}{run['seconds']:>9.1f}{run['driver_mb']:>11,.0f}"
            f"{run['worker_mb']:>11,.0f}",
            file=sys.stderr,
        )
    print(
        f"{result['rows_per_second_and_cpu']:,.0f} rows per second and CPU, "
        f"{result['ratio_to_csv_parser']:.2f} of pyarrow's CSV parser alone; "
        f"workers' memory x {result['worker_memory_ratio']:.2f}",
        file=sys.stderr,
    )
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
