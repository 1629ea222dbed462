"""`fusionrec sample`: write a corpus with a planted truth."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

log = logging.getLogger("fusionrec")


def sample(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; must be empty.")],
    songs: Annotated[int, typer.Option("--songs", help="Number of tracks.")] = 2000,
    users: Annotated[int, typer.Option("--users", help="Number of users.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="The same seed writes the same bytes.")] = 0,
    processes: Annotated[
        int, typer.Option("--processes", help="Processes that write the songs' files.")
    ] = 1,
) -> None:
    """Write a sample corpus with a planted truth, in the official file formats."""
    from fusionrec.formats.sample.corpus import write_sample
    from pipelines.runtime.progress import progress

    with progress("writing songs and users", songs + users) as advance:
        write_sample(
            out, songs=songs, users=users, seed=seed, processes=processes, progress=advance
        )
    log.info("sample: %d songs and %d users in %s", songs, users, out)
