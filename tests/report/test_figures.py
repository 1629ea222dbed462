"""Figures and tables hold the data they were given, and can be read back."""

import csv
import io
import math
import xml.etree.ElementTree as ET

import pytest

from fusionrec.report import figures
from fusionrec.report.paper import TABLE_1, table_1

CURVES = {"multihot": [(2, 90.0), (4, 40.0), (8, 20.0)], "word2vec": [(2, 9.0), (4, 5.0)]}
EPOCHS = {
    "k = 6": [
        {"epoch": e, "train_accuracy": e / 10, "test_accuracy": None if e == 1 else 0.4}
        for e in range(1, 6)
    ],
    "k = 3": [{"epoch": 1, "train_accuracy": math.nan, "test_accuracy": 0.5}],
}
TRIALS = [
    {
        "label.k": k,
        "train.eta": eta,
        "fuse.operator": o,
        "validation_map": m,
        "validation_accuracy": m,
    }
    for k, eta, o, m in [(3, 1e-4, "add", 0.1), (6, 1e-2, "max", 0.3), (6, 1e-3, "add", None)]
]
DRAWINGS = {
    "elbow": lambda: figures.elbow_curves(CURVES, {"multihot": 4, "word2vec": None}),
    "sizes": lambda: figures.cluster_sizes({"multihot": [5, 9, 1], "word2vec": [3]}),
    "accuracy": lambda: figures.accuracy_by_epoch(EPOCHS),
    "search": lambda: figures.search(
        TRIALS,
        ["label.k", "train.eta", "fuse.operator"],
        ["validation_map", "validation_accuracy"],
    ),
    "nothing": lambda: figures.search([], ["label.k"], ["validation_map"]),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_png_svg_and_csv_and_always_the_same(name) -> None:
    files = DRAWINGS[name]().files(name)
    assert sorted(files) == [f"{name}.{kind}" for kind in ("csv", "png", "svg")]
    assert files[f"{name}.png"].startswith(b"\x89PNG\r\n")
    ET.fromstring(files[f"{name}.svg"])
    assert DRAWINGS[name]().files(name) == files


def texts(drawing: figures.Drawing) -> set[str]:
    root = ET.fromstring(drawing.files("x")["x.svg"])
    return {"".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")}


def rows(drawing: figures.Drawing) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(drawing.files("x")["x.csv"].decode())))


def test_the_elbow_is_marked_in_figure_and_data() -> None:
    drawing = DRAWINGS["elbow"]()
    assert {"elbow: k = 4", "inertia", "multihot", "word2vec"} <= texts(drawing)
    marked = [(row["embedding"], row["k"]) for row in rows(drawing) if row["elbow"] == "True"]
    assert marked == [("multihot", "4")]
    assert len(rows(drawing)) == 5


def test_clusters_are_in_falling_order() -> None:
    sizes = [row["songs"] for row in rows(DRAWINGS["sizes"]()) if row["clustering"] == "multihot"]
    assert sizes == ["9", "5", "1"]


def test_accuracies_are_in_percent_and_gaps_stay_gaps() -> None:
    drawing = DRAWINGS["accuracy"]()
    assert {"accuracy, %", "train", "test", "k = 6"} <= texts(drawing)
    assert "validation" not in texts(drawing)
    axes = drawing.figure.axes[0]
    assert max(axes.lines[0].get_ydata()) == 50.0
    assert len(axes.lines[1].get_ydata()) == 4


def test_a_search_has_a_panel_a_pair_and_a_log_axis_where_values_span_decades() -> None:
    drawing = DRAWINGS["search"]()
    scales = [axes.get_xscale() for axes in drawing.figure.axes]
    assert scales == ["linear", "log", "linear"] * 2
    assert {"add", "max", "eta", "validation mAP"} <= texts(drawing)
    assert len(drawing.figure.axes[0].lines[0].get_xdata()) == 2  # the failed trial is left out
    assert len(rows(drawing)) == 3


def test_table_1_has_the_papers_figures_beside_the_measured() -> None:
    measured = [
        {"k": 6, "eta": 0.001, "p": 0.5, "epochs": 2000, "train_accuracy": 0.5},
        {"k": 9, "eta": 0.001, "p": 0.5, "epochs": 10, "train_accuracy": None},
    ]
    measured = [{**row, "test_accuracy": 0.25, "majority_share": 0.2} for row in measured]
    lines = table_1(measured).splitlines()
    assert lines[2] == "| 6 | 0.001 | 0.5 | 2,000 | 50.0% | 65.4% | 25.0% | 56.7% | 20.0% |"
    assert lines[3] == "| 9 | 0.001 | 0.5 | 10 | – | – | 25.0% | – | 20.0% |"
    assert len(TABLE_1) == 4
