"""Submit: run a `fusionrec` command as a job on a Ray cluster, follow its log, pass on its end.

The client needs Ray and this checkout only: nothing is imported here that the job imports there.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from fusionrec.errors import ConfigError, InputError
from pipelines.cli import upload
from pipelines.runtime import interrupts, tokens

log = logging.getLogger("fusionrec")

ADDRESS = "http://127.0.0.1:8265"
RUNTIME_ENV = "cluster/runtime-env.yaml"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""No proxy of another machine leads there."""
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_WITHOUT_ANSWER = 120.0
"""How long a cluster that stops answering is asked again."""


def entrypoint(command: Sequence[str], working_dir: Path) -> str:
    """The shell line of a job that runs a `fusionrec` command.

    Raises
    ------
    ConfigError
        `working_dir` is no checkout, or the command's config file is not within it.
    """
    if not (working_dir / "pipelines" / "cli" / "main.py").is_file():
        raise ConfigError(
            f"--working-dir {working_dir}: is no checkout of fusionrec (it holds no "
            "pipelines/cli/main.py); it is what the job gets to run"
        )
    if not command:
        raise ConfigError(
            "submit: no command given; say what to run behind two dashes: "
            "fusionrec submit -- run --config pipelines/configs/msd.yaml"
        )
    for option, value in itertools.pairwise(command):
        if option not in ("--config", "-c") or "://" in value:
            continue
        path = Path(value)
        if path.is_absolute() or not (working_dir / path).is_file():
            raise ConfigError(
                f"--config {value}: no such file below {working_dir}, which is all that the job "
                "gets; put the file there and give its path from there, or a URI"
            )
    return "python -m pipelines.cli " + shlex.join(command)


def runtime_env(working_dir: Path, file: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """What the job gets: the checkout, the packages and the environment variables.

    Raises
    ------
    ConfigError
        The file is missing or is no YAML mapping.
    """
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--runtime-env {file}: cannot be read ({reason})") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"--runtime-env {file}: must be a mapping, as {RUNTIME_ENV} is")
    return {
        **loaded,
        "working_dir": str(working_dir),
        "env_vars": {**loaded.get("env_vars", {}), **variables},
    }


@dataclass(frozen=True)
class Ended:
    """How a job ended: Ray's word for it, and a code that is null where it was not waited for."""

    submission_id: str
    status: str
    exit_code: int | None


def submit(
    command: Sequence[str],
    *,
    address: str = ADDRESS,
    working_dir: Path = Path(),
    runtime_env_file: Path | None = None,
    variables: Mapping[str, str] | None = None,
    submission_id: str | None = None,
    wait: bool = True,
) -> Ended:
    """Submit a command; with `wait`, print its log as it comes and stay until it ends.

    Parameters
    ----------
    command
        A `fusionrec` command and its options, as on the command line.
    address
        Of the dashboard, which serves Ray's Jobs API.
    working_dir
        A checkout; it is uploaded, less what the runtime environment and .gitignore exclude.
    runtime_env_file
        YAML; default ``cluster/runtime-env.yaml`` of the checkout.
    variables
        Environment variables of the job, visible on the dashboard: not for secrets.
    submission_id
        The job's name; null for one that Ray makes.

    Raises
    ------
    ConfigError
        The command, the folder or the runtime environment is wrong.
    InputError
        No cluster answers at `address`, or it refuses the job.
    """
    folder = working_dir.expanduser().resolve()
    line = entrypoint(command, folder)
    file = runtime_env_file or folder / RUNTIME_ENV
    environment = runtime_env(folder, file, variables or {})
    upload.check(folder, environment.get("excludes", ()), file)
    client = _client(address)
    until = time.monotonic() + _SECONDS_WITHOUT_ANSWER
    while True:
        try:
            # No resources: the job's driver runs on the head node, which keeps its CPUs free.
            name: str = client.submit_job(
                entrypoint=line, runtime_env=environment, submission_id=submission_id
            )
            break
        except (RuntimeError, ValueError) as error:
            # A cluster that has just started answers before its agents do.
            if "No available agent" not in str(error) or time.monotonic() > until:
                raise InputError(f"{address}: refuses the job ({_first_line(error)})") from None
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    log.info("submit: job %s at %s: %s", name, address, line)
    if not wait:
        return Ended(name, "SUBMITTED", None)
    with interrupts.telling(
        f"submit: interrupted; job {name} goes on (`ray job stop {name}` ends it)"
    ):
        _follow(client, name)
    info = client.get_job_info(name)
    status = str(info.status.value if hasattr(info.status, "value") else info.status)
    code = 0 if status == "SUCCEEDED" else (info.driver_exit_code or 1)
    if code:
        log.error("submit: job %s %s: %s", name, status.lower(), _first_line(info.message or ""))
    else:
        log.info("submit: job %s succeeded", name)
    return Ended(name, status, code)


def _client(address: str) -> Any:
    """A client of the Jobs API, with the token that is here where the cluster asks for one."""
    url = _url(address)
    if urlsplit(url).hostname in _LOOPBACK:
        for name in ("no_proxy", "NO_PROXY"):
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), *_LOOPBACK]))
    # Ray would else take another address from RAY_ADDRESS.
    os.environ["RAY_API_SERVER_ADDRESS"] = url
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    token = tokens.find()
    # Without the mode, Ray's client sends no token, though `ray start` asks for the one at home.
    unset = token is not None and not os.environ.get(tokens.MODE)
    try:
        try:
            return JobSubmissionClient(url)
        except AuthenticationError:
            if token is None or not unset:
                raise
            return JobSubmissionClient(url, headers={"Authorization": f"Bearer {token.value}"})
    except AuthenticationError:
        raise InputError(tokens.refused(f"--address {address}")) from None
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--address {address}: no Ray Jobs API answers there ({_first_line(error)}); open a "
            "tunnel to the head node's dashboard (cluster/README.md)"
        ) from None


def _url(address: str) -> str:
    """The dashboard's URL."""
    scheme, separator, _ = address.partition("://")
    if not separator:
        return f"http://{address}"
    if scheme not in ("http", "https"):
        raise ConfigError(
            f"--address {address}: must be the URL of the dashboard, http://HEAD:8265, which "
            "takes jobs"
        )
    return address


def _follow(client: Any, name: str) -> None:
    """Print a job's log until it ends, however often the connection breaks."""
    printed, answered = 0, time.monotonic()
    while True:
        try:
            printed = asyncio.run(_tail(client, name, printed))
            if client.get_job_status(name).is_terminal():
                # What was written while the connection ended.
                sys.stdout.write(client.get_job_logs(name)[printed:])
                sys.stdout.flush()
                return
            answered = time.monotonic()
        except _BrokenError as broken:
            printed = broken.printed
            if time.monotonic() - answered > _SECONDS_WITHOUT_ANSWER:
                raise _lost(name) from None
        except (ConnectionError, RuntimeError, OSError):
            if time.monotonic() - answered > _SECONDS_WITHOUT_ANSWER:
                raise _lost(name) from None
        time.sleep(_SECONDS_BETWEEN_LOOKS)


class _BrokenError(Exception):
    """The connection broke when so many characters had been printed."""

    def __init__(self, printed: int) -> None:
        super().__init__(printed)
        self.printed = printed


async def _tail(client: Any, name: str, printed: int) -> int:
    """Print what follows the first `printed` characters; how many there are then."""
    import aiohttp

    seen = 0
    try:
        async for text in client.tail_job_logs(name):
            # Each connection tells the log from its beginning.
            sys.stdout.write(text[max(0, printed - seen) :])
            sys.stdout.flush()
            seen += len(text)
    except (aiohttp.ClientError, ConnectionError, RuntimeError, OSError):
        raise _BrokenError(max(seen, printed)) from None
    return max(seen, printed)


def _lost(name: str) -> InputError:
    return InputError(
        f"submit: the cluster stopped answering; job {name} may go on without us "
        f"(ray job status {name})"
    )


def _first_line(value: object) -> str:
    lines = [line.strip() for line in str(value).splitlines() if line.strip()]
    return lines[0][:300] if lines else ""
