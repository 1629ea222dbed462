"""The tests marked gpu, each told as soon as it is over."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gpu_parts.report import Options, Report

ROOT = Path(__file__).parents[2]


class Listener:
    """Tells of every test what came of it."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest after a test's set-up, after the test and after its end."""
        name = report.nodeid.removeprefix("tests/gpu/")
        if report.failed:
            message = report.longreprtext.strip().split("\n")
            said = [line[1:].strip() for line in message if line.startswith("E ")]
            self._report.fail(name, said[0] if said else message[-1])
            print(report.longreprtext, file=sys.stderr)
        elif report.skipped:
            why = report.longrepr[-1] if isinstance(report.longrepr, tuple) else "skipped"
            self._report.skip(name, str(why).removeprefix("Skipped: "))
        elif report.when == "call":
            self.passed += 1
            self._report.figure(name, "passed", note=f"{report.duration:.1f} s")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """The same of what could not be read: a module that is missing, or a fault."""
        if report.failed:
            self._report.fail(report.nodeid, report.longreprtext.strip().split("\n")[-1])
        elif report.skipped and isinstance(report.longrepr, tuple):
            why = str(report.longrepr[-1]).removeprefix("Skipped: ")
            self._report.skip(report.nodeid.removeprefix("tests/gpu/"), why)


def run(report: Report, options: Options) -> None:
    """pytest in this process, without plugins: those of this machine may want what is missing."""
    os.environ["FUSIONREC_TEST_DEVICE"] = options.device
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(ROOT)
    listener = Listener(report)
    # pyproject.toml's own options are of plugins.
    words = ["-m", "gpu", "-o", "addopts=", "-p", "no:cacheprovider", "-q", "tests/gpu"]
    status = pytest.main(words, plugins=[listener])
    report.figure("tests passed", listener.passed)
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        report.fail("pytest", f"ended with {pytest.ExitCode(status).name}")
    report.memory(options.device)
