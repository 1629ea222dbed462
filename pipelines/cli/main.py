"""The `fusionrec` command. Each stage is also ``python -m pipelines.<stage> --config ...``."""

from __future__ import annotations

import logging
import sys
import traceback
from itertools import islice
from typing import Annotated

import typer

from fusionrec import __version__, errors
from pipelines.cli.check import check
from pipelines.cli.clean import clean
from pipelines.cli.export import export
from pipelines.cli.init import init
from pipelines.cli.recommend import recommend
from pipelines.cli.sample import sample
from pipelines.cli.serve import serve
from pipelines.cli.show_config import show_config
from pipelines.cli.stages import add_stages
from pipelines.cli.status import status_command
from pipelines.cli.stdout import stdout_for_results
from pipelines.cli.submit import submit
from pipelines.cli.update import update
from pipelines.config import STAGES
from pipelines.runtime import interrupts, logs
from pipelines.runtime.environment import set_environment

app = typer.Typer(
    name="fusionrec",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Music recommendation from what songs are: the Million Song Dataset to every user's "
    "top 500 and mAP@500, distributed with Ray.",
    epilog="Exit codes: 0 done; 2 the input or the config is at fault; "
    "130 interrupted; 1 anything else.",
)
log = logging.getLogger("fusionrec")

add_stages(app)
app.command(help=STAGES["recommend"])(recommend)
app.command(help=STAGES["update"])(update)
app.command()(sample)
app.command()(init)
app.command()(export)
app.command()(clean)
app.command()(check)
app.command("config")(show_config)
app.command()(serve)
app.command("status")(status_command)
app.command(context_settings={"ignore_unknown_options": True})(submit)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log warnings only.")] = False,
    log_format: Annotated[
        str,
        typer.Option(
            "--log-format", envvar="FUSIONREC_LOG_FORMAT", help="text, or json: an object a line."
        ),
    ] = "text",
) -> None:
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    logs.configure(log_format, level)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors are one line on standard error."""
    set_environment()
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    ours, rest = [], iter(given[:end])
    flags = []  # the options of all commands, wherever they stand
    for argument in rest:
        if argument in ("--debug", "--quiet") or argument.startswith("--log-format="):
            flags.append(argument)
        elif argument == "--log-format":
            flags += [argument, *islice(rest, 1)]
        else:
            ours.append(argument)
    with interrupts.ending_the_command(_tell), stdout_for_results():
        _run(flags + ours + given[end:], debug="--debug" in flags)


def _run(arguments: list[str], debug: bool) -> None:
    try:
        app(args=arguments)
    except errors.FusionrecError as error:
        if interrupts.happened():
            raise  # whatever it is, it comes of that
        if debug:
            traceback.print_exc()
        _tell(str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        if interrupts.happened():
            raise
        if debug:
            traceback.print_exc()
        text = " ".join(str(error).split())[:500]
        _tell(f"unexpected {type(error).__name__}: {text} (--debug shows the traceback)")
        sys.exit(1)


def _tell(message: str) -> None:
    if logs.is_json():
        log.error(message)
    else:
        print(f"fusionrec: {message}", file=sys.stderr)
