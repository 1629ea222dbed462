"""Figures and tables hold the data they were given, and can be read back."""

import csv
import io
import itertools
import math
import xml.etree.ElementTree as ET

import pytest

from fusionrec.report import figures
from fusionrec.report.paper import TABLE_1, MeasuredRun, table_1

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
        {"train.eta"},
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


def test_a_search_has_a_panel_a_pair_and_a_log_axis_where_asked() -> None:
    drawing = DRAWINGS["search"]()
    scales = [axes.get_xscale() for axes in drawing.figure.axes]
    assert scales == ["linear", "log", "linear"] * 2
    assert {"add", "max", "eta", "validation mAP"} <= texts(drawing)
    assert len(drawing.figure.axes[0].lines[0].get_xdata()) == 2  # the failed trial is left out
    assert len(rows(drawing)) == 3


def test_an_axis_follows_the_scale_of_its_search_not_the_values_it_happens_to_hold() -> None:
    # p is searched evenly from 0, and may come out as small as it likes.
    trials = [{"train.p": p, "validation_map": p} for p in (0.004, 0.2, 0.6)]
    assert figures.search(trials, ["train.p"], ["validation_map"]).figure.axes[0].get_xscale() == (
        "linear"
    )


def test_the_best_trial_of_each_measure_is_marked_in_figure_and_data() -> None:
    trials = [
        {"label.k": 3, "validation_map": 0.1, "validation_accuracy": 0.9},
        {"label.k": 4, "validation_map": 0.2, "validation_accuracy": None},
        {"label.k": 5, "validation_map": math.nan, "validation_accuracy": 0.5},
    ]
    drawing = figures.search(trials, ["label.k"], ["validation_map", "validation_accuracy"])
    assert [row["best_validation_map"] for row in rows(drawing)] == ["False", "True", "False"]
    assert [row["best_validation_accuracy"] for row in rows(drawing)] == ["True", "False", "False"]
    stars = [axes.lines[1] for axes in drawing.figure.axes]
    assert [list(star.get_xdata()) for star in stars] == [[4.0], [3.0]]
    assert {star.get_marker() for star in stars} == {"*"}


def test_a_trial_without_a_parameter_is_left_out_of_its_panels_only() -> None:
    trials = [
        {"fuse.operator": "add", "fuse.width": None, "validation_map": 0.3},
        {"fuse.operator": "max", "fuse.width": 64, "validation_map": 0.1},
        {"fuse.operator": None, "validation_map": 0.2},
    ]
    drawing = figures.search(trials, ["fuse.operator", "fuse.width"], ["validation_map"])
    operator, width = drawing.figure.axes
    assert len(operator.lines[0].get_xdata()) == 2
    # The best trial has no width: no star stands for another trial.
    assert [list(line.get_xdata()) for line in width.lines] == [[64.0]]


@pytest.mark.parametrize(("low", "high"), [(2.6e-4, 4.1e-3), (1e-5, 1e-2), (32, 512), (1, 1e6)])
def test_the_labels_of_a_log_axis_do_not_overlap_in_a_narrow_panel(low, high) -> None:
    trials = [{"x": value, "y": value, "validation_map": 0.1} for value in (low, high)]
    drawing = figures.search(trials, ["x", "y", "x", "y"], ["validation_map"], {"x", "y"})
    drawing.files("x")
    axes = drawing.figure.axes[0]
    axis, (left_end, right_end) = axes.xaxis, axes.get_xlim()
    boxes = [
        tick.label1.get_window_extent()
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        if tick.label1.get_text() and left_end <= tick.get_loc() <= right_end
    ]
    assert len(boxes) >= 2
    boxes.sort(key=lambda box: box.x0)
    for left, right in itertools.pairwise(boxes):
        assert left.x1 <= right.x0


def test_the_label_of_a_late_elbow_stays_within_its_panel() -> None:
    curve = [(k, 1 / k) for k in range(2, 61)]
    figure = figures.elbow_curves({"a": curve, "b": curve}, {"a": 3, "b": 59}).figure
    figure.savefig(io.BytesIO())  # lays it out
    for axes in figure.axes:
        label, panel = axes.texts[0].get_window_extent(), axes.get_window_extent()
        assert panel.x0 <= label.x0
        assert label.x1 <= panel.x1


def test_the_legend_names_what_any_panel_shows() -> None:
    epochs = {
        "first": [{"epoch": 1, "train_accuracy": 0.5, "test_accuracy": None}],
        "second": [
            {"epoch": 1, "train_accuracy": 0.5, "test_accuracy": 0.4, "validation_accuracy": 0.3}
        ],
    }
    assert {"train", "validation", "test"} <= texts(figures.accuracy_by_epoch(epochs))


def test_csv_rows_are_the_data() -> None:
    for draw in DRAWINGS.values():
        drawing = draw()
        told = [
            {key: "" if value is None else str(value) for key, value in row.items()}
            for row in drawing.rows
        ]
        assert rows(drawing) == told


@pytest.mark.parametrize(
    "drawing",
    [
        figures.elbow_curves({}, {}),
        figures.elbow_curves({"a": [], "b": [(4, 3.0)], "c": [(2, math.nan)]}, {"b": 4}),
        figures.cluster_sizes({}),
        figures.cluster_sizes({"a": [], "b": [7]}),
        figures.accuracy_by_epoch({}),
        figures.accuracy_by_epoch({"a": [], "b": [{"epoch": 1}]}),
        figures.search([{"label.k": 3, "validation_map": None}], ["label.k"], ["validation_map"]),
        figures.search([{"label.k": 3, "validation_map": 0.1}], ["label.k"], ["validation_map"]),
        figures.search([{"label.k": 3}], [], []),
    ],
)
def test_little_or_nothing_to_draw_is_drawn(drawing) -> None:
    files = drawing.files("x")
    assert files["x.png"].startswith(b"\x89PNG\r\n")
    ET.fromstring(files["x.svg"])


def test_a_single_point_stands_over_whole_numbers() -> None:
    axes = figures.elbow_curves({"a": [(4, 3.0)]}, {"a": None}).figure.axes[0]
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_table_1_has_the_papers_figures_beside_the_measured() -> None:
    measured = [
        MeasuredRun(6, 0.001, 0.5, 2000, 0.5, 0.25, 0.2),
        MeasuredRun(9, 0.001, 0.5, 10, None, 0.25, 0.2),
    ]
    lines = table_1(measured).splitlines()
    assert lines[2] == "| 6 | 0.001 | 0.5 | 2,000 | 50.0% | 65.4% | 25.0% | 56.7% | 20.0% |"
    assert lines[3] == "| 9 | 0.001 | 0.5 | 10 | – | – | 25.0% | – | 20.0% |"
    assert len(TABLE_1) == 4


def test_table_1_has_a_dash_for_what_is_not_known() -> None:
    row = MeasuredRun(3, 0.001, 0.5, None, math.nan, None, 0.5)
    unknown = MeasuredRun(9, 0.001, 0.5, None, None, None, None)
    lines = table_1([row, unknown]).splitlines()
    assert lines[2] == "| 3 | 0.001 | 0.5 | – | – | 86.6% | – | 77.9% | 50.0% |"
    assert lines[3] == "| 9 | 0.001 | 0.5 |" + " – |" * 6
    assert len(table_1([]).splitlines()) == 2


def test_table_1_is_as_published() -> None:
    found = [
        (run.k, run.eta, run.p, run.epochs, run.train_accuracy, run.test_accuracy)
        for run in TABLE_1
    ]
    assert found == [
        (6, 0.0002, 0.2, 2000, 0.655, 0.526),
        (6, 0.001, 0.5, 2000, 0.654, 0.567),
        (4, 0.001, 0.5, 2000, 0.764, 0.668),
        (3, 0.001, 0.5, 2000, 0.866, 0.779),
    ]
