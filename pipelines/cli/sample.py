"""`fusionrec sample`: write a corpus with a planted truth."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

log = logging.getLogger("fusionrec")


class Form(StrEnum):
    """How a sample is written."""

    msd = "msd"
    tables = "tables"


def sample(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; must be empty.")],
    songs: Annotated[int, typer.Option("--songs", help="Number of tracks.")] = 2000,
    users: Annotated[int, typer.Option("--users", help="Number of users.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="The same seed writes the same bytes.")] = 0,
    processes: Annotated[
        int, typer.Option("--processes", help="Processes that write (or draw) the songs.")
    ] = 1,
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="msd: the official files of the Million Song Dataset; tables: CSV files and "
            "vectors, as a catalogue of one's own has them.",
        ),
    ] = Form.msd,
) -> None:
    """Write a sample corpus with a planted truth, in the official file formats or as tables."""
    from fusionrec.formats.sample import write_sample, write_tables
    from pipelines.runtime.progress import progress

    write = write_sample if form is Form.msd else write_tables
    with progress("writing songs and users", songs + users) as advance:
        write(out, songs=songs, users=users, seed=seed, processes=processes, progress=advance)
    log.info("sample: %d songs and %d users in %s", songs, users, out)
