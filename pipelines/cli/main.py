"""The `fusionrec` command. Each stage is also ``python -m pipelines.<stage> --config ...``."""

from __future__ import annotations

import importlib
import json
import logging
import sys
import time
import traceback
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fusionrec import __version__, errors
from pipelines import config
from pipelines.config import Config
from pipelines.runtime import logs

app = typer.Typer(
    name="fusionrec",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Music recommendation from what songs are: the Million Song Dataset to every user's "
    "top 500 and mAP@500, distributed with Ray.",
    epilog="Exit codes: 0 done; 2 the input or the config is at fault; 1 anything else.",
)
log = logging.getLogger("fusionrec")

ConfigPath = Annotated[
    str | None,
    typer.Option("--config", "-c", help="YAML file (or URI) of the configuration; see `config`."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="Override one key: section.key=value. May be repeated."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, last.")
]
Workspace = Annotated[
    str | None, typer.Option("--workspace", "-w", help="The same as --set workspace=...")
]


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


def _load(path: str | None, overrides: list[str] | None, workspace: str | None) -> Config:
    chosen = list(overrides or [])
    if workspace is not None:
        chosen.append(f"workspace={json.dumps(workspace)}")
    return config.load(path, chosen)


def _run_stage(name: str, resolved: Config, as_json: bool) -> None:
    # Imported by name, so that a stage without torch or transformers starts fast.
    from pipelines.cli import query

    module = importlib.import_module(f"pipelines.{name}")
    if name == "run":
        _print_results(resolved, module.run(resolved)["evaluate"], as_json)
        return
    manifest = module.STAGE.run(resolved)
    if name == "evaluate":
        _print_results(resolved, manifest, as_json)
    elif as_json:
        print(json.dumps(_with_rows(name, resolved, manifest["counts"])))
    elif name == "tune":
        _print_search(resolved, manifest["counts"])
    elif name == "compare":
        for table in query.comparison_tables(resolved.workspace):
            Console().print(table)
        Console().print(query.artifacts_table(resolved.workspace, name))
    elif name == "report":
        print(query.table_1(resolved.workspace))
        Console().print(query.artifacts_table(resolved.workspace, name))
    else:
        _print_counts(name, manifest["counts"])


def _with_rows(name: str, resolved: Config, counts: dict[str, Any]) -> dict[str, Any]:
    """A stage's counts; with the trials of a search, and the tables of a report or comparison."""
    from pipelines.cli import query

    if name == "tune":
        return {**counts, "rows": query.trials(resolved.workspace)}
    if name == "report":
        return {**counts, "table_1": query.table_1(resolved.workspace)}
    if name == "compare":
        return {**counts, "splits": query.comparison(resolved.workspace)}
    return counts


def _print_search(resolved: Config, counts: dict[str, Any]) -> None:
    from fusionrec.formats import files
    from pipelines.cli import query

    console = Console()
    console.print(query.trials_table(query.trials(resolved.workspace), counts["metric"]))
    _print_counts("tune", counts)
    console.print(query.artifacts_table(resolved.workspace, "tune"))
    best = files.join(resolved.workspace, "tune/best.yaml")
    console.print(f"Train the best with: fusionrec train --config {best}", soft_wrap=True)


def _stage_command(name: str, summary: str) -> None:
    def command(
        config_path: ConfigPath = None,
        overrides: Overrides = None,
        workspace: Workspace = None,
        as_json: AsJson = False,
    ) -> None:
        _run_stage(name, _load(config_path, overrides, workspace), as_json)

    app.command(name, help=summary)(command)


_stage_command("run", "Run all stages in order, skip those up to date, and print the results.")
_stage_command(
    "ingest", "Read the source files (HDF5 or SQLite, lyrics, plays) into Parquet, rejects listed."
)
_stage_command(
    "split", "Split the songs into train, validation and test, by song, artist or album."
)
_stage_command("label", "Embed the tag lists and cluster them into k classes (K-Means).")
_stage_command(
    "pretrain", "Pre-train a small RoBERTa on the corpus's own lyrics (masked-word modelling)."
)
_stage_command("embed", "Turn metadata, lyrics and audio into one vector each per song.")
_stage_command("fuse", "Scale and concatenate the modalities, and reduce them by PCA.")
_stage_command("train", "Train the fusion network under Ray Train and compute F(s) of all songs.")
_stage_command("tune", "Search k, eta, p and more with Ray Tune, judged on the validation songs.")
_stage_command("report", "Write the paper's Table 1 and figures 4 to 10, measured on this corpus.")
_stage_command(
    "compare", "Run every baseline and the network on the same folds: Table 2 with intervals."
)
_stage_command("evaluate", "Compute mAP@500, AUC and their intervals, and print the results.")


@app.command()
def recommend(
    config_path: ConfigPath = None,
    overrides: Overrides = None,
    workspace: Workspace = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Print this user's list from a finished workspace.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option("--like", help='Print songs like this one: "artist - title".'),
    ] = None,
    top: Annotated[int, typer.Option("--top", "-n", min=1, help="Songs to print.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Rank every user's top 500. With --user or --like, print one list, without Ray."""
    resolved = _load(config_path, overrides, workspace)
    if user is None and like is None:
        _run_stage("recommend", resolved, as_json)
        return
    if user is not None and like is not None:
        raise errors.ConfigError("--user and --like: give one of them, not both")
    from pipelines.cli import query

    if user is not None:
        found = query.for_user(resolved.workspace, user, top)
    else:
        assert like is not None
        found = query.like(resolved.workspace, like, top)
    if as_json:
        print(json.dumps(found))
        return
    table = Table(title=found["title"], title_justify="left")
    for column in ("", "artist", "title", "release", "score"):
        table.add_column(column, justify="right" if column in ("", "score") else "left")
    for row in found["songs"]:
        table.add_row(
            str(row["rank"]), row["artist"], row["title"], row["release"], f"{row['score']:.3f}"
        )
    Console().print(table)


@app.command()
def sample(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; must be empty.")],
    songs: Annotated[int, typer.Option("--songs", help="Number of tracks.")] = 2000,
    users: Annotated[int, typer.Option("--users", help="Number of users.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="The same seed writes the same bytes.")] = 0,
) -> None:
    """Write a sample corpus with a planted truth, in the official file formats."""
    from fusionrec.formats.sample.corpus import write_sample
    from pipelines.runtime.progress import progress

    with progress("writing songs", songs) as advance:
        write_sample(out, songs=songs, users=users, seed=seed, progress=advance)
    log.info("sample: %d songs and %d users in %s", songs, users, out)


@app.command("config")
def show_config(
    config_path: ConfigPath = None,
    overrides: Overrides = None,
    workspace: Workspace = None,
    keys: Annotated[bool, typer.Option("--keys", help="List every key with its meaning.")] = False,
) -> None:
    """Print the resolved configuration as YAML, or all keys with their meaning."""
    resolved = _load(config_path, overrides, workspace)
    if not keys:
        print(config.to_yaml(resolved), end="")
        return
    table = Table("key", "default", "meaning")
    for name, default, doc in config.describe():
        table.add_row(name, json.dumps(default, default=str), doc)
    Console().print(table)


@app.command()
def status(
    config_path: ConfigPath = None,
    overrides: Overrides = None,
    workspace: Workspace = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew until --until is finished, or Ctrl-C.")
    ] = False,
    until: Annotated[
        str, typer.Option("--until", help="The stage with which --watch ends.")
    ] = "evaluate",
    every: Annotated[
        float, typer.Option("--every", min=0.1, help="Seconds between two looks of --watch.")
    ] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Show what each stage of a workspace holds, since when, how far one at work is."""
    from pipelines.cli import query

    resolved = _load(config_path, overrides, workspace)
    if watch:
        if until not in config.STAGES:
            raise errors.ConfigError(f"--until {until}: must be one of {', '.join(config.STAGES)}")
        _watch(resolved.workspace, until, every, as_json)
        return
    found = query.status(resolved.workspace)
    if as_json:
        print(json.dumps(found))
    else:
        Console().print(_status_table(found))


def _watch(workspace: str, until: str, every: float, as_json: bool) -> None:
    from rich.live import Live

    from pipelines.cli import query

    console = Console()
    shown = None
    with (
        Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live
    ):
        while True:
            found = query.status(workspace)
            if live is not None and not as_json:
                live.update(_status_table(found), refresh=True)
            elif found != shown:
                # For a file or a pipe: only what is new.
                if as_json:
                    print(json.dumps(found), flush=True)
                else:
                    console.print(_status_table(found))
            shown = found
            states = {row["stage"]: row["state"] for row in found["stages"]}
            if states[until] == "finished" and not {"at work", "unfinished"} & set(states.values()):
                return
            time.sleep(every)


def _status_table(found: dict[str, Any]) -> Table:
    table = Table("stage", "state", "finished (UTC)", "took", "counts", title=found["workspace"])
    for row in found["stages"]:
        counts = ", ".join(
            f"{name} {_shown(value)}" for name, value in row["counts"].items() if _plain(value)
        )
        took = f"{row['wall_seconds']:.1f} s" if row["wall_seconds"] is not None else ""
        if (told := row["progress"]) is not None:
            counts = f"{told['what']}: {told['step']:,} of {told['total']:,}"
        table.add_row(row["stage"], row["state"], row["finished"] or "", took, counts)
    return table


@app.command(context_settings={"ignore_unknown_options": True})
def submit(
    command: Annotated[
        list[str], typer.Argument(help="A command and its options, behind two dashes: -- run ...")
    ],
    address: Annotated[
        str,
        typer.Option(
            "--address", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard (Jobs API)."
        ),
    ] = "http://127.0.0.1:8265",
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
    from pipelines.cli.jobs import submit as submit_job

    variables = {}
    for item in env or []:
        name, equals, value = item.partition("=")
        if not (name and equals):
            raise errors.ConfigError(f"--env {item}: must be NAME=VALUE")
        variables[name] = value
    ended = submit_job(
        command,
        address=address,
        working_dir=working_dir,
        runtime_env_file=runtime_env,
        variables=variables,
        submission_id=submission_id,
        wait=not no_wait,
    )
    if as_json:
        print(json.dumps(ended))
    if ended["exit_code"]:
        raise typer.Exit(ended["exit_code"])


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def _plain(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_counts(name: str, counts: dict[str, Any]) -> None:
    table = Table("", "count", title=name, title_justify="left")
    for key, value in counts.items():
        if isinstance(value, dict):
            for inner, number in value.items():
                table.add_row(f"{key.replace('_', ' ')}: {inner}", _shown(number))
        elif _plain(value):
            table.add_row(key.replace("_", " "), _shown(value))
    Console().print(table)


def _print_results(resolved: Config, manifest: dict[str, Any], as_json: bool) -> None:
    from pipelines.cli import query

    results = {
        **manifest["counts"],
        "workspace": resolved.workspace,
        "protocol": resolved.recommend.protocol,
        "split": resolved.split.by,
    }
    if as_json:
        print(json.dumps(results))
        return
    Console().print(query.results_table(results))
    Console().print(query.artifacts_table(resolved.workspace))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors are one line on standard error."""
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
    try:
        app(args=flags + ours + given[end:])
    except errors.FusionrecError as error:
        if "--debug" in flags:
            traceback.print_exc()
        _tell(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _tell("interrupted; the same command goes on from here")
        sys.exit(1)
    except Exception as error:
        if "--debug" in flags:
            traceback.print_exc()
        text = " ".join(str(error).split())[:500]
        _tell(f"unexpected {type(error).__name__}: {text} (--debug shows the traceback)")
        sys.exit(1)


def _tell(message: str) -> None:
    if logs.is_json():
        log.error(message)
    else:
        print(f"fusionrec: {message}", file=sys.stderr)
