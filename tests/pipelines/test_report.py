"""The paper's table and figures on the sample corpus."""

import csv
import itertools

from pipelines import config as config_module
from pipelines import report
from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import copied, overrides

RUNS = "[{k: 6, eta: 0.001, p: 0.5}, {k: 3, eta: 0.005, p: 0.1}]"


def test_table_1_and_the_figures(corpus, finished, ray_session, tmp_path) -> None:
    place = copied(
        finished, tmp_path / "workspace", "ingest", "split", "label", "pretrain", "embed", "fuse"
    )
    before = Workspace(str(place)).current()
    chosen = {"report__runs": RUNS, "report__elbow_to": 12, "train__epochs": 5}
    loaded = config_module.load(None, overrides(corpus, place, **chosen))
    counts = report.STAGE.run(loaded)["counts"]
    folder = place / "report"
    for name in ("elbow", "cluster_sizes", "accuracy"):
        for kind in ("png", "svg", "csv"):
            assert (folder / f"{name}.{kind}").stat().st_size > 100
    table = (folder / "table_1.md").read_text()
    lines = table.splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| 6 | 0.001 | 0.5 | 5 | ")
    assert "| 65.4% |" in lines[2]  # the paper's
    assert "| – |" in lines[3]
    with (folder / "elbow.csv").open() as file:
        points = list(csv.DictReader(file))
    for embedding in ("multihot", "word2vec"):
        curve = [float(row["inertia"]) for row in points if row["embedding"] == embedding]
        assert len(curve) == 11
        assert curve[0] > curve[-1]
        assert all(later <= earlier for earlier, later in itertools.pairwise(curve))
        assert counts[f"elbow of {embedding}"] in (None, *range(2, 13))
    with (folder / "accuracy.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 10
    with (folder / "cluster_sizes.csv").open() as file:
        sizes = [int(row["songs"]) for row in csv.DictReader(file)]
    fitted = Workspace(str(place)).read("report", "lists_word2vec", ["fitted_songs"])
    assert sum(sizes) == 2 * sum(fitted["fitted_songs"].to_pylist())
    # Its trainings have classes of their own; the workspace's current ones are as they were.
    after = Workspace(str(place)).current()
    assert {**before, "report": after["report"]} == after
    assert (
        sorted(stage for stage, _ in Workspace(str(place)).require("report")["uses"]).count("train")
        == len(lines) - 2
    )
    assert table in (folder / "report.md").read_text()
