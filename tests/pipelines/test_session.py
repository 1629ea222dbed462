"""How Ray is started here or joined elsewhere, and what is said where it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
import ray
from ray._private import ray_constants

from fusionrec.errors import ConfigError, InputError, ResourceError
from pipelines.config import ClusterConfig
from pipelines.runtime import joining, local, session, tokens

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_variables_of_ray(monkeypatch, tmp_path) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


# --- a Ray that is started here ----------------------------------------------------------

# What `uv run` looks like to Ray: an ancestor that is called uv, and was told to run something.
UV = """
import os, subprocess, sys
sys.exit(subprocess.run([os.environ["PYTHON"], "session.py"]).returncode)
"""
SESSION = """
import logging
import os
import ray
from pipelines.config import ClusterConfig
from pipelines.runtime import logs, session

logs.configure("text", logging.INFO)
session.start(ClusterConfig(num_cpus=1, object_store_mb=100))
print(ray.get_runtime_context().runtime_env.get("working_dir"))
print(ray.get(ray.remote(lambda: os.environ["FUSIONREC_RUN"]).remote()))
"""


def test_a_local_run_leaves_and_uploads_nothing(tmp_path) -> None:
    """Under `uv run`, with a long TMPDIR as SLURM gives it, and a home that had no token."""
    long = tmp_path / ("slurm-job-" + "x" * 80)
    long.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "run").write_text(UV)
    (tmp_path / "session.py").write_text(SESSION)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable}
    done = subprocess.run(
        ["uv", "run"],
        executable=sys.executable,
        cwd=tmp_path,
        env={**environment, "TMPDIR": str(long), "HOME": str(home), "FUSIONREC_RUN": "of-a-test"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["None", "of-a-test"]
    assert f"ray-{os.getuid()}: TMPDIR is too long for its sockets" in done.stderr
    assert not (home / ".ray").exists()


HERE = ("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "RAY_worker_niceness")


def test_a_ray_that_is_started_here_gets_nothing_of_this_machine(monkeypatch, tmp_path) -> None:
    """Neither a token of the home's, nor the folder for uv, nor a path that is too long."""
    given: dict[str, object] = {}

    def init(**options: object) -> None:
        uv = ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV
        given.update(options, uv=uv, token=os.environ["RAY_AUTH_TOKEN"])

    monkeypatch.setattr(session, "_init", init)
    monkeypatch.setattr(session, "_quieten", lambda: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", True)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")  # what is set goes with the test
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("x" * 80)))
    for name in HERE:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    session.start(ClusterConfig(num_cpus=1))
    assert [os.environ[name] for name in HERE] == ["0", "0"]
    assert given["token"]
    assert not given["uv"]
    assert Path(str(given["_temp_dir"])).name == f"ray-{os.getuid()}"
    assert ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("The current node timed out during startup. This", ResourceError, "too much else runs"),
        ("something else", Exception, "something else"),
    ],
)
def test_a_ray_that_takes_too_long_to_start_is_told(monkeypatch, said, kind, told) -> None:
    def init(**options: object) -> None:
        raise Exception(said)  # as plain as Ray's own

    monkeypatch.setattr(session, "_init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    with pytest.raises(Exception, match=told) as raised:
        session.start(ClusterConfig(num_cpus=1))
    assert raised.type is kind


def test_a_token_that_is_there_is_used(monkeypatch, tmp_path) -> None:
    file = tmp_path / "home" / ".ray" / "auth_token"
    file.parent.mkdir(parents=True)
    file.write_text("mine\n")
    assert tokens.find() == ("mine", "~/.ray/auth_token")
    assert tokens.draw_for_this_session() is None
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "absent"))
    assert tokens.find() is None
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert tokens.draw_for_this_session() is None
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    drawn = tokens.draw_for_this_session()
    assert drawn is not None
    assert tokens.find() == (drawn, "RAY_AUTH_TOKEN")
    monkeypatch.delenv("RAY_AUTH_TOKEN")


def test_no_short_folder_can_be_written(monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", "/scratch/" + "x" * 80)
    monkeypatch.setattr(local, "_is_ours", lambda path: False)
    with pytest.raises(ConfigError, match=r"TMPDIR '/scratch/x.*set RAY_TMPDIR to a folder of at"):
        local.folder()
    monkeypatch.setenv("TMPDIR", "/scratch")
    assert local.folder() is None


# --- addresses ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("http://head:8265", "submit --address http://head:8265 -- COMMAND"),
        ("https://head", "is the address of the dashboard"),
        ("ray://head:10001", "an address of Ray Client.*fusionrec submit.*ray job submit"),
        ("s3://head:1", "does not use"),
        ("head", "must be HOST:PORT"),
        ("head:port", "must be HOST:PORT"),
    ],
)
def test_an_address_that_cannot_be_joined_is_refused_by_name(monkeypatch, value, message) -> None:
    with pytest.raises(ConfigError, match=message) as of_key:
        joining.address(value)
    assert str(of_key.value).startswith(f"cluster.address '{value}'")
    monkeypatch.setenv("RAY_ADDRESS", value)
    with pytest.raises(ConfigError, match=message) as of_variable:
        joining.address(None)
    assert str(of_variable.value).startswith(f"RAY_ADDRESS '{value}'")
    assert "cluster.address" not in str(of_variable.value)


def test_where_ray_is_joined(monkeypatch) -> None:
    assert joining.address(None) is None
    assert joining.address("local") is None
    assert joining.address("auto") == ("auto", "cluster.address")
    monkeypatch.setenv("RAY_ADDRESS", "[::1]:6379")
    assert joining.address("head:6379") == ("head:6379", "cluster.address")
    assert joining.address(None) == ("[::1]:6379", "RAY_ADDRESS")


def test_nothing_answers(monkeypatch) -> None:
    found = joining.Address("127.0.0.1:1", "RAY_ADDRESS")
    with pytest.raises(InputError, match=r"RAY_ADDRESS '127.0.0.1:1': no Ray.*unset it for a loc"):
        joining.check_reachable(found)


# --- tokens ------------------------------------------------------------------------------


class _Head(grpc.GenericRpcHandler):
    """A head node that asks for a token, as far as a sign of life goes."""

    def service(self, call):
        def answer(request, context):
            if dict(call.invocation_metadata).get("authorization") != "Bearer right":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def head() -> Iterator[joining.Address]:
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[_Head()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield joining.Address(f"127.0.0.1:{port}", "cluster.address")
    server.stop(None)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "there is none here"),
        ({"RAY_AUTH_TOKEN": "wrong"}, "the one in RAY_AUTH_TOKEN is not the cluster's"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "right"}, "RAY_AUTH_MODE=disabled is set"),
    ],
)
def test_a_cluster_that_asks_for_another_token(monkeypatch, head, variables, message) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message) as caught:
        joining.check_reachable(head)
    assert "no Ray cluster answers" not in str(caught.value)


def test_a_cluster_that_asks_for_our_token(monkeypatch, head, tmp_path) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    (tmp_path / "token").write_text("right\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    joining.check_reachable(head)


def test_a_test_that_does_not_take_ray_cannot_start_it() -> None:
    """Nor use the one that other tests have started (tests/conftest.py)."""
    for use in (lambda: ray.put(1), ray.remote(int).remote):
        with pytest.raises(pytest.fail.Exception, match="take the fixture ray_session"):
            use()
