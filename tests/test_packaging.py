"""What is installed where."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_a_cluster_job_gets_what_the_package_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[<>=]", item)[0] for item in project["dependencies"]}
    environment = yaml.safe_load((ROOT / "cluster" / "runtime-env.yaml").read_text())
    # A cluster has Ray, and NumPy with it.
    assert set(environment["pip"]["packages"]) == names - {"ray", "numpy"}
