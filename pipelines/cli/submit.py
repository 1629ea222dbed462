"""`fusionrec submit`: run a command as a job on a Ray cluster."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fusionrec import errors
from pipelines.cli.jobs import ADDRESS
from pipelines.cli.jobs import submit as submit_job
from pipelines.cli.options import AsJson


def submit(
    command: Annotated[
        list[str], typer.Argument(help="A command and its options, behind two dashes: -- run ...")
    ],
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            envvar="RAY_API_SERVER_ADDRESS",
            help=f"The cluster's dashboard (Jobs API); {ADDRESS}, if RAY_ADDRESS is no such URL.",
        ),
    ] = None,
    working_dir: Annotated[
        Path, typer.Option("--working-dir", help="The checkout to upload.")
    ] = Path(),
    runtime_env: Annotated[
        Path | None,
        typer.Option("--runtime-env", help="YAML; default cluster/runtime-env.yaml there."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", help="NAME=VALUE for the job; the dashboard shows it: no secrets."),
    ] = None,
    submission_id: Annotated[
        str | None, typer.Option("--submission-id", help="A name for the job; Ray makes one.")
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return at once; the job goes on.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a command as a job on a Ray cluster, follow its log and exit with its exit code."""
    variables = {}
    for item in env or []:
        name, equals, value = item.partition("=")
        if not (name and equals):
            raise errors.ConfigError(f"--env {item}: must be NAME=VALUE")
        variables[name] = value
    ended = submit_job(
        command,
        address=address or _of_environment(),
        working_dir=working_dir,
        runtime_env_file=runtime_env,
        variables=variables,
        submission_id=submission_id,
        wait=not no_wait,
    )
    if as_json:
        print(json.dumps(asdict(ended)))
    if ended.exit_code:
        raise typer.Exit(ended.exit_code)


def _of_environment() -> str:
    """What `ray job submit` takes, too: RAY_ADDRESS may also be where a cluster is joined."""
    found = os.environ.get("RAY_ADDRESS", "")
    return found if found.startswith(("http://", "https://")) else ADDRESS
