"""What one sees of a run while it works: status, log lines, metrics, and where it works."""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import ray
from typer.testing import CliRunner

from fusionrec.errors import ConfigError
from pipelines.cli.main import app
from pipelines.runtime import metrics, sharding, tasks
from pipelines.runtime.workspace import StageRun, Workspace
from tests.pipelines.conftest import arguments

FUSIONREC = [sys.executable, "-m", "pipelines.cli"]


def status(workspace: Path, *options: str) -> list[dict]:
    """The lines of `fusionrec status --json`."""
    done = CliRunner().invoke(app, ["status", "-w", str(workspace), "--json", *options])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def stage(found: dict, name: str) -> dict:
    return next(row for row in found["stages"] if row["stage"] == name)


def test_status_tells_how_far_a_stage_is(tmp_path) -> None:
    run = Workspace(str(tmp_path)).begin("embed", {})
    assert run is not None
    run.keep([], "inputs")
    assert stage(status(tmp_path)[0], "embed")["state"] == "unfinished"
    line = {"what": "encoding lyrics", "step": 3, "total": 8, "time": time.time()}
    run.write_json(line, "progress", "now.json")
    found = stage(status(tmp_path)[0], "embed")
    assert found["state"] == "at work"
    assert (found["progress"]["step"], found["progress"]["total"]) == (3, 8)
    table = CliRunner().invoke(app, ["status", "-w", str(tmp_path)]).stdout
    assert "encoding lyrics: 3 of 8" in table
    # A run that was killed tells nothing any more.
    run.write_json({**line, "time": time.time() - 3600}, "progress", "now.json")
    assert stage(status(tmp_path)[0], "embed")["state"] == "unfinished"


def test_watching_ends_with_the_work(tmp_path) -> None:
    run = Workspace(str(tmp_path)).begin("embed", {})
    assert run is not None
    run.write_json(
        {"what": "a", "step": 0, "total": 2, "time": time.time()}, "progress", "now.json"
    )
    watching = subprocess.Popen(
        [
            *FUSIONREC,
            "status",
            "-w",
            str(tmp_path),
            "--watch",
            "--every",
            "0.1",
            "--json",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    first = json.loads(watching.stdout.readline())
    assert stage(first, "embed")["progress"]["step"] == 0
    run.write_json(
        {"what": "a", "step": 1, "total": 2, "time": time.time()}, "progress", "now.json"
    )
    second = json.loads(watching.stdout.readline())
    assert stage(second, "embed")["progress"]["step"] == 1
    run.commit({"songs": 1})
    run.workspace.point({"embed": run.key})
    time.sleep(0.5)
    assert watching.poll() is None  # the run goes on: its last stage is not there
    last = Workspace(str(tmp_path)).begin("evaluate", {})
    assert last is not None
    last.commit({"users": 1})
    last.workspace.point({"evaluate": last.key})
    rest, _ = watching.communicate(timeout=30)
    assert stage(json.loads(rest.splitlines()[-1]), "embed")["state"] == "finished"


def test_the_driver_tells_of_its_shards(ray_session, tmp_path) -> None:
    run = Workspace(str(tmp_path)).begin("split", {})
    assert run is not None
    seen = []

    class Watched(type(run)):  # every word that is written
        def write_json(self, value, *parts):
            seen.append(value)

    watched = Watched(run.workspace, "split", "", {}, {}, 0.0)
    shards = [{"part": i} for i in range(5)]
    tasks.map_tasks(watched, lambda shard: {}, shards, description="five")
    assert [(w["what"], w["step"], w["total"]) for w in (seen[0], seen[-1])] == [
        ("five", 0, 5),
        ("five", 5, 5),
    ]


def test_every_log_line_names_its_run_and_stage(corpus, finished, tmp_path) -> None:
    """As one JSON object a line; the run is in the manifest, too."""
    done = subprocess.run(
        [
            *FUSIONREC,
            "--log-format",
            "json",
            "run",
            *arguments(corpus, finished),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(set(line) >= {"time", "level", "run", "stage", "message"} for line in lines)
    assert {line["stage"] for line in lines} >= {"ingest", "train", "evaluate"}
    assert len({line["run"] for line in lines}) == 1
    assert Workspace(str(finished)).require("ingest")["run"]


def test_an_unknown_log_format_is_named() -> None:
    with pytest.raises(ConfigError, match="--log-format xml: must be one of text, json"):
        app(["--log-format", "xml", "version"], standalone_mode=False)


def exported() -> dict[str, float]:
    """What this machine's Ray exports now: each of our series, summed over its labels."""
    found: dict[str, float] = {}
    for node in ray.nodes():
        port = node["MetricsExportPort"]
        address = f"http://{node['NodeManagerAddress']}:{port}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                name, _, rest = line.partition("{")
                if name.startswith("ray_fusionrec_"):
                    found[name] = found.get(name, 0.0) + float(rest.rpartition(" ")[2])
    return found


@pytest.mark.slow
def test_prometheus_sees_what_was_done(finished) -> None:
    counts = {s: Workspace(str(finished)).require(s)["counts"] for s in ("ingest", "embed")}
    ranked = Workspace(str(finished)).require("recommend")["counts"]["ranked"]
    until = time.monotonic() + 60
    # Each worker exports in its own time.
    while (found := exported()).get("ray_fusionrec_users_ranked_total", 0) < ranked:
        assert time.monotonic() < until, found
        time.sleep(1)
    # Other tests of this session run stages, too: at least what this workspace holds.
    assert found["ray_fusionrec_songs_ingested_total"] >= counts["ingest"]["tracks"]
    lyrics = counts["embed"]["lyrics"]["songs_with_lyrics"]
    assert found["ray_fusionrec_documents_embedded_total"] >= lyrics
    assert found["ray_fusionrec_tokens_embedded_total"] > 2 * lyrics
    assert found["ray_fusionrec_rejects_total"] > 0
    assert found["ray_fusionrec_step_size_total"] >= found["ray_fusionrec_step_done_total"] > 0
    assert found["ray_fusionrec_stage_seconds_total"] > 0
    exporters = {name.removeprefix("ray_").removesuffix("_total") for name in found}
    assert exporters <= set(metrics.METRICS)


# --- where it works ----------------------------------------------------------------------


def assigned() -> dict[str, float]:
    return dict(ray.get_runtime_context().get_assigned_resources())


def run_of(stage: str, tmp_path: Path, resources: dict[str, float]) -> StageRun:
    return StageRun(Workspace(str(tmp_path)), stage, "key", {}, {}, 0.0, resources)


def test_a_stages_tasks_ask_for_its_custom_resources(ray_session, tmp_path) -> None:
    head = "node:__internal_head__"  # of which every cluster has one
    run = run_of("split", tmp_path, {head: 0.01})
    assert tasks.run_task(run, assigned)[head] == pytest.approx(0.01)
    [report] = sharding.map_shards(run, lambda shard: assigned(), [{"part": 0}], description="x")
    assert report[head] == pytest.approx(0.01)
    assert head not in tasks.run_task(run_of("label", tmp_path, {}), assigned)
    assert head not in tasks.run_task(None, assigned)
