"""What identifies a run in its logs, metrics and manifests."""

from __future__ import annotations

import json
import os

VARIABLE = "FUSIONREC_RUN"
"""The environment variable that tells workers, and may tell the driver."""


def run_id() -> str:
    """The run this process is part of: the Ray job's submission id, or one drawn once."""
    return os.environ.setdefault(VARIABLE, _submission_id() or f"run-{os.urandom(4).hex()}")


def _submission_id() -> str | None:
    metadata = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("metadata", {})
    found = metadata.get("job_submission_id")
    return str(found) if found else None
