"""The pipeline as a job on a cluster of processes of its own, submitted through the Jobs API."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pyarrow.fs import FileSystem, copy_files

from fusionrec.errors import ConfigError, InputError
from pipelines.cli import jobs
from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import arguments
from tests.pipelines.deaths import family

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(1800)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def answers(port: int, seconds: float = 90) -> None:
    """Wait until something listens on loopback."""
    until = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


class RayNodes:
    """A head and further nodes, each `ray start --block` in a process of its own."""

    def __init__(self, scratch: Path, python: Path, environment: dict[str, str]) -> None:
        self.ray = [python, *RAY]
        self.port, dashboard = free_ports(2)
        self.address = f"http://127.0.0.1:{dashboard}"
        self.environment = environment
        self.scratch = scratch
        self.started: list[subprocess.Popen[bytes]] = []
        # Two nodes of one machine would build the packages' environment in the same folder.
        self.runtime_env = scratch / "runtime-env.yaml"
        shipped = yaml.safe_load((ROOT / jobs.RUNTIME_ENV).read_text())
        shipped.pop("pip")
        self.runtime_env.write_text(yaml.safe_dump(shipped))
        self.start(
            *("--head", f"--port={self.port}", f"--temp-dir={scratch}/ray", "--num-cpus=2"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
        )
        answers(dashboard)
        # The dashboard answers before the agent that starts jobs does.
        for _ in range(60):
            hello = [*self.ray, "job", "submit", "--address", self.address]
            hello += ["--no-wait", "--", "true"]
            if subprocess.run(hello, env=environment, capture_output=True).returncode == 0:
                return
        raise TimeoutError("the cluster takes no jobs")

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        # Each node's agent needs a port of its own, which is a fixed one otherwise.
        agent = f"--dashboard-agent-listen-port={free_ports(1)[0]}"
        log = (self.scratch / f"node-{len(self.started)}.log").open("wb")
        process = subprocess.Popen(
            [
                *self.ray,
                "start",
                "--block",
                "--node-ip-address=127.0.0.1",
                *options,
                agent,
                "--object-store-memory=200000000",
                "--disable-usage-stats",
            ],
            env=self.environment,
            cwd=self.scratch,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.started.append(process)
        return process

    def join(self) -> subprocess.Popen[bytes]:
        """A further node."""
        return self.start(f"--address=127.0.0.1:{self.port}", "--num-cpus=2")

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """Take a node away with all its processes, as when a machine dies."""
        for pid in family(node.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait()
        self.started.remove(node)

    def stop(self) -> None:
        for node in reversed(list(self.started)):
            self.kill(node)


SUBMIT = [sys.executable, "-m", "pipelines.cli", "submit"]
RAY = ["-m", "ray.scripts.scripts"]


def venv(folder: Path) -> tuple[Path, Path]:
    """The interpreter of a new environment, and the folder for its packages."""
    command = [sys.executable, "-m", "venv", "--without-pip", "--symlinks", folder]
    subprocess.run(command, check=True)
    [site] = folder.glob("lib/python*/site-packages")
    return folder / "bin" / "python", site


def nodes_python(folder: Path) -> Path:
    """An interpreter that finds all that this one does, in an environment that holds none of it.

    Ray copies its environment for a job that asks for packages, which takes a minute of gigabytes.
    """
    python, site = venv(folder)
    (site / "shared.pth").write_text(
        f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    )
    return python


@pytest.fixture
def nodes() -> Iterator[RayNodes]:
    """A head and a second node, with token authentication and without the caller's settings."""
    # Sockets' paths may have 107 characters, which pytest's folders leave too few of.
    scratch = Path(tempfile.mkdtemp(prefix="fr-"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    python = nodes_python(scratch / "python")
    environment["PATH"] = f"{python.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    cluster = RayNodes(scratch, python, environment)
    try:
        cluster.join()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def client_python(folder: Path) -> Path:
    """An interpreter that finds ray[default] and what that needs, and nothing else."""
    python, site = venv(folder)
    wanted, done = [Requirement("ray[default]")], set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        with contextlib.suppress(PackageNotFoundError):
            found = distribution(name)
            for text in found.requires or []:
                below = Requirement(text)
                for extra in requirement.extras or {""}:
                    key = (str(below), extra)
                    if key not in done and (
                        below.marker is None or below.marker.evaluate({"extra": extra})
                    ):
                        done.add(key)
                        wanted.append(below)
            here = Path(str(found.locate_file("")))
            for top in {path.parts[0] for path in found.files or [] if path.parts[0] != ".."}:
                if (here / top).exists() and not (site / top).exists():
                    (site / top).symlink_to(here / top)
    return python


def _begun(workspace: Workspace) -> bool:
    results = (workspace.at({"ingest": key}) for key in workspace.results("ingest"))
    return any(result.exists("ingest", "reports") for result in results)


def submitted(
    nodes: RayNodes, command: list[str | Path], workspace: str, join: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a submission; kill the second node in the midst of ingest, and let another join."""
    job = subprocess.Popen(
        command,
        env=nodes.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    place = Workspace(workspace)
    until = time.monotonic() + 500
    while not _begun(place) and job.poll() is None:
        assert time.monotonic() < until, "the job does not begin"
        time.sleep(0.05)
    if job.poll() is None:
        assert place.manifest("ingest") is None
        nodes.kill(nodes.started[1])
        nodes.join()
    try:
        output, _ = job.communicate(timeout=900)
    finally:
        job.kill()
    return subprocess.CompletedProcess(command, job.returncode, output)


def same_results(workspace: str, finished: Path) -> None:
    found = Workspace(workspace).require("evaluate")["counts"]
    expected = Workspace(str(finished)).require("evaluate")["counts"]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, dict):
            assert found[name] == value, name
        else:
            assert found[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.slow
def test_a_job_of_a_client_outlives_a_node(corpus, finished, nodes, tmp_path) -> None:
    """The guide's `ray job submit`, from an environment that has the client only.

    Of one stage: the next test's job is a whole run that has lost a node.
    """
    python = client_python(tmp_path / "client")
    bare = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
    assert bare.returncode != 0
    workspace = str(tmp_path / "workspace")
    done = submitted(
        nodes,
        [
            *(python, *RAY),
            "job",
            "submit",
            "--address",
            nodes.address,
            "--working-dir",
            ".",
            "--runtime-env",
            nodes.runtime_env,
            *("--", "python", "-m", "pipelines.ingest"),
            *arguments(corpus, workspace),
        ],
        workspace,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "ingest: done" in done.stdout
    for name in ("songs", "plays", "users", "lyrics"):
        found, expected = (Workspace(str(w)).read("ingest", name) for w in (workspace, finished))
        assert found.equals(expected), name


@pytest.fixture
def bucket(monkeypatch) -> Iterator[str]:
    """A bucket on an S3-compatible server on loopback: the start of URIs, and their options."""
    [port] = free_ports(1)
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        answers(port)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        yield (
            f"s3://fusionrec{{}}?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
            "&allow_bucket_creation=true"
        )
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_a_job_with_its_source_and_workspace_in_a_bucket(corpus, finished, nodes, bucket) -> None:
    """`fusionrec submit`, with the source in the bucket, too: the nodes share no folder."""
    workspace = bucket.format("/runs/one")
    source = bucket.format("/msd")
    target, place = FileSystem.from_uri(source)
    copy_files(str(corpus), place, destination_filesystem=target)
    done = submitted(
        nodes,
        [
            *SUBMIT,
            "--address",
            nodes.address,
            "--json",
            "--runtime-env",
            nodes.runtime_env,
            "--",
            "run",
            *arguments(source, workspace),
        ],
        workspace,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "SUCCEEDED"
    same_results(workspace, finished)


@pytest.mark.slow
def test_a_job_that_fails_passes_on_its_exit_code(nodes, tmp_path) -> None:
    """In the environment that the shipped file describes, whose packages are all there."""
    done = subprocess.run(
        [
            *SUBMIT,
            "--address",
            nodes.address,
            "--",
            "split",
            "--workspace",
            str(tmp_path / "empty"),
        ],
        env=nodes.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "run `fusionrec ingest` first" in done.stdout  # the job's own log


# --- what the client refuses -------------------------------------------------------------


def test_nothing_answers_at_the_address() -> None:
    [port] = free_ports(1)
    with pytest.raises(InputError, match=f"127.0.0.1:{port}: no Ray Jobs API answers"):
        jobs.submit(["run"], address=f"http://127.0.0.1:{port}", working_dir=ROOT)


def test_a_job_gets_only_what_is_uploaded(tmp_path) -> None:
    with pytest.raises(ConfigError, match="no checkout"):
        jobs.entrypoint(["run"], tmp_path)
    with pytest.raises(ConfigError, match="no command"):
        jobs.entrypoint([], ROOT)
    with pytest.raises(ConfigError, match="all that the job gets"):
        jobs.entrypoint(["run", "--config", str(tmp_path / "mine.yaml")], ROOT)
    line = jobs.entrypoint(
        ["run", "--config", "pipelines/configs/msd.yaml", "-s", "a=[1, 2]"], ROOT
    )
    assert line == "python -m pipelines.cli run --config pipelines/configs/msd.yaml -s 'a=[1, 2]'"


def test_variables_join_those_of_the_file(tmp_path) -> None:
    file = tmp_path / "env.yaml"
    file.write_text("env_vars: {A: '1', B: '2'}\n")
    environment = jobs.runtime_env(ROOT, file, {"B": "3"})
    assert environment == {"working_dir": str(ROOT), "env_vars": {"A": "1", "B": "3"}}
    file.write_text("[]")
    with pytest.raises(ConfigError, match="must be a mapping"):
        jobs.runtime_env(ROOT, file, {})
