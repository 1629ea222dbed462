"""Standard output belongs to results."""

import threading

import pytest
import ray
from ray.experimental import tqdm_ray

from pipelines.cli import main as cli
from pipelines.cli.stdout import stdout_for_results

PRINT = tqdm_ray._print
"""Python's own."""


def told(what: str) -> None:
    """As Ray's driver tells it, in a thread of its own."""
    thread = threading.Thread(target=print, args=(what,))
    thread.start()
    thread.join()


@pytest.mark.parametrize("runs", [False, True])
def test_what_rays_threads_print_is_no_result(capsys, monkeypatch, runs) -> None:
    """As its driver does with what a node has to say of memory that is short."""
    monkeypatch.setattr(ray, "is_initialized", lambda: runs)
    with stdout_for_results():
        told("memory is short")
        print("a result")
    print("another")
    assert capsys.readouterr().out == "a result\nanother\n"


@pytest.mark.parametrize("replaced", [False, True])
def test_what_ray_prints_where_it_is_called_is_no_result(capsys, monkeypatch, replaced) -> None:
    monkeypatch.setattr("builtins.print", tqdm_ray.safe_print if replaced else PRINT)
    with stdout_for_results():
        exec("print('a node has died')", {"__name__": "ray._private.worker"})
        exec("print('a result')", {"__name__": "rays"})
    assert capsys.readouterr().out == "a result\n"


def test_ray_goes_on_printing_until_the_process_ends(capsys, monkeypatch) -> None:
    """Its hook at the exit waits for what is still to be told: after the command."""
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    for number in range(2):
        with stdout_for_results():
            print("result", number)
        told("memory is short")
        exec("print('a node has died')", {"__name__": "ray._private.worker"})
    assert capsys.readouterr().out == "result 0\nresult 1\n"
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with stdout_for_results():
        print("result 2")
    assert capsys.readouterr().out == "result 2\n"


def test_so_it_is_while_a_command_runs(capsys, monkeypatch) -> None:
    monkeypatch.setattr(cli, "_run", lambda *_, **__: told("memory is short"))
    cli.main(["version"])
    assert capsys.readouterr().out == ""
