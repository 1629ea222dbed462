"""Log lines for people or for machines, each with its run and stage."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator

from fusionrec.errors import ConfigError
from pipelines.runtime.run_id import run_id

FORMATS = ("text", "json")


@contextlib.contextmanager
def of_stage(name: str) -> Iterator[None]:
    """What is logged within is of this stage."""
    ours = [handler.formatter for handler in logging.getLogger("fusionrec").handlers]
    before = [(each, each.stage) for each in ours if isinstance(each, _Json)]
    for each, _ in before:
        each.stage = name
    try:
        yield
    finally:
        for each, stage in before:
            each.stage = stage


class _Json(logging.Formatter):
    stage = ""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "run": run_id(),
            "stage": self.stage,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(kind: str, level: int) -> None:
    """Log to standard error, as text or as one JSON object a line.

    Raises
    ------
    ConfigError
        There is no such format.
    """
    if kind not in FORMATS:
        raise ConfigError(f"--log-format {kind}: must be one of {', '.join(FORMATS)}")
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    handler.setFormatter(_Json() if kind == "json" else text)
    log = logging.getLogger("fusionrec")
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False


def is_json() -> bool:
    """Whether log lines are JSON objects: then nothing else goes to standard error."""
    handlers = logging.getLogger("fusionrec").handlers
    return any(isinstance(handler.formatter, _Json) for handler in handlers)
