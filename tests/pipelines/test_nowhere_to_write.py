"""A container whose home cannot be written: nothing that a worker imports may need it.

The packages' own folder is of `tests/test_compiled.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from pipelines.config import ClusterConfig
from pipelines.runtime import session, tasks

def work():
    import torch._inductor.codecache
    import transformers
    from fusionrec.ranking import kernel
    from fusionrec.report import figures
    return "done"

if __name__ == "__main__":
    session.start(ClusterConfig(num_cpus=1, object_store_mb=100))
    print(tasks.run_task(None, work))
"""


@pytest.mark.slow
def test_a_home_that_cannot_be_written(tmp_path) -> None:
    """No folder can be made below /dev/null, not even by root."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "XDG_"))}
    environment |= {"HOME": "/dev/null", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"
