"""The paper's figures 4 to 10 and those of a search, in one style, each with its data.

Readable in print (column widths, 8 points) and without colour vision: series differ in marker
or line as well as in colour, and the colours are those of Okabe and Ito.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeGuard

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from fusionrec.report.text import as_csv
from fusionrec.report.trials import Row as TrialRow
from fusionrec.report.trials import Value

ORANGE, SKY, GREEN, BLUE, VERMILION = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00"
_WIDTH = 7.0
_PANEL_HEIGHT = 2.3
_STYLE: dict[str, object] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    # Without it, ids in an SVG are drawn at random.
    "svg.hashsalt": "fusionrec",
}


EpochRow = Mapping[str, float | None]
"""The columns of a training's curve at one epoch."""


@dataclass(frozen=True)
class Drawing:
    """A figure and the very data it shows."""

    figure: Figure
    rows: Sequence[Mapping[str, object]]

    def files(self, name: str) -> dict[str, bytes]:
        """The contents of ``name.png`` (200 dpi), ``name.svg`` and ``name.csv``."""
        found: dict[str, bytes] = {}
        with _style():
            for kind in ("png", "svg"):
                stream = io.BytesIO()
                metadata = {"Date": None} if kind == "svg" else {"Software": None}
                self.figure.savefig(stream, format=kind, dpi=200, metadata=metadata)
                found[f"{name}.{kind}"] = stream.getvalue()
        found[f"{name}.csv"] = as_csv(self.rows)
        return found


def elbow_curves(
    curves: Mapping[str, Sequence[tuple[int, float]]], elbows: Mapping[str, int | None]
) -> Drawing:
    """Inertia against k, a panel a label embedding, the elbow marked (figures 4 and 5).

    Parameters
    ----------
    curves
        (k, inertia) by embedding.
    elbows
        The k of each embedding's elbow, None where there is none.
    """
    with figure_panels(list(curves), columns=2) as (figure, panels):
        for name, axes in panels:
            points = sorted(curves[name])
            axes.plot([k for k, _ in points], [v for _, v in points], "o-", color=BLUE)
            axes.set(xlabel="k", ylabel="inertia", title=name)
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(_whole_numbers())
            elbow = elbows.get(name)
            if elbow is not None:
                axes.axvline(elbow, color=VERMILION, linestyle="--")
                # On the side with more room: beyond the axes it would squeeze the panel.
                left, right = axes.get_xlim()
                late = elbow > (left + right) / 2
                axes.annotate(
                    f"elbow: k = {elbow}",
                    (elbow, 0.95),
                    (-4 if late else 4, 0),
                    xycoords=("data", "axes fraction"),
                    textcoords="offset points",
                    color=VERMILION,
                    ha="right" if late else "left",
                )
    rows = [
        {"embedding": name, "k": k, "inertia": value, "elbow": k == elbows.get(name)}
        for name, points in curves.items()
        for k, value in sorted(points)
    ]
    return Drawing(figure, rows)


def cluster_sizes(sizes: Mapping[str, Sequence[int]]) -> Drawing:
    """Songs of each cluster, the largest first, a panel a clustering (figures 6 and 7)."""
    with figure_panels(list(sizes), columns=2) as (figure, panels):
        for name, axes in panels:
            ordered = sorted(sizes[name], reverse=True)
            axes.bar(range(1, len(ordered) + 1), ordered, color=SKY, edgecolor=BLUE, linewidth=0.4)
            axes.set(xlabel="cluster, by size", ylabel="songs", title=name)
            axes.grid(axis="x", visible=False)
            axes.xaxis.set_major_locator(_whole_numbers())
    rows = [
        {"clustering": name, "cluster": rank, "songs": songs}
        for name, each in sizes.items()
        for rank, songs in enumerate(sorted(each, reverse=True), 1)
    ]
    return Drawing(figure, rows)


_ACCURACIES = {
    "train_accuracy": ("train", BLUE, "-"),
    "validation_accuracy": ("validation", ORANGE, "-."),
    "test_accuracy": ("test", VERMILION, "--"),
}


def accuracy_by_epoch(curves: Mapping[str, Sequence[EpochRow]]) -> Drawing:
    """Accuracy of each part by epoch, a panel a training (figures 8 to 10).

    Parameters
    ----------
    curves
        Rows with `epoch` and, where there are such songs, `train_accuracy`,
        `validation_accuracy` and `test_accuracy` in [0, 1], by training.
    """
    with figure_panels(list(curves), columns=2) as (figure, panels):
        shown: dict[str, Line2D] = {}
        for name, axes in panels:
            for key, (label, color, line) in _ACCURACIES.items():
                points = [
                    (row["epoch"], 100 * value)
                    for row in curves[name]
                    if _known(value := row.get(key))
                ]
                if points:
                    x, y = zip(*points, strict=True)
                    marker = "o" if len(points) == 1 else ""
                    shown[label] = axes.plot(x, y, line, color=color, marker=marker)[0]
            axes.set(xlabel="epoch", ylabel="accuracy, %", title=name, ylim=(0, 100))
            axes.xaxis.set_major_locator(_whole_numbers())
        if shown:
            # One for all panels, outside them: no panel need have every part, and none is hidden.
            labels = [label for label, *_ in _ACCURACIES.values() if label in shown]
            handles = [shown[label] for label in labels]
            figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    rows = [
        {"training": name, "epoch": row["epoch"], **{key: row.get(key) for key in _ACCURACIES}}
        for name, each in curves.items()
        for row in each
    ]
    return Drawing(figure, rows)


def search(
    trials: Sequence[TrialRow],
    parameters: Sequence[str],
    measures: Sequence[str],
    logarithmic: Collection[str] = (),
) -> Drawing:
    """Every measure of a search's trials against every parameter; the best trial is marked.

    Parameters
    ----------
    trials
        A value of each parameter (None where it does not apply), and of each measure unless
        the trial failed.
    parameters
        Numbers or names.
    logarithmic
        Those of them that were searched by their logarithm, and so stand on such an axis.

    Returns
    -------
    A row a trial, failed ones too (their measures are empty, and they are in no panel); for
    each measure a column `best_<measure>` is true for the trial that is marked.
    """
    best = {measure: _best(trials, measure) for measure in measures}
    titles = [""] * (len(measures) * len(parameters))
    with figure_panels(titles, columns=len(parameters)) as (figure, panels):
        for index, (_, axes) in enumerate(panels):
            measure, parameter = (
                measures[index // len(parameters)],
                parameters[index % len(parameters)],
            )
            points = [
                (value, measured, number == best[measure])
                for number, trial in enumerate(trials)
                if _known(measured := trial.get(measure)) and _given(value := trial.get(parameter))
            ]
            _scatter(axes, points, parameter in logarithmic)
            axes.set_xlabel(parameter.rpartition(".")[2])
            if index % len(parameters) == 0:
                axes.set_ylabel(measure.replace("_", " ").replace("map", "mAP"))
    rows = [
        {
            **{name: trial.get(name) for name in (*parameters, *measures)},
            **{f"best_{measure}": number == best[measure] for measure in measures},
        }
        for number, trial in enumerate(trials)
    ]
    return Drawing(figure, rows)


def _best(trials: Sequence[TrialRow], measure: str) -> int | None:
    """The index of the trial with the highest measure, the first of equals; None without any."""
    measured = {
        number: value for number, trial in enumerate(trials) if _known(value := trial.get(measure))
    }
    return max(measured, key=measured.__getitem__) if measured else None


def _scatter(
    axes: Axes, points: Sequence[tuple[Value, float, bool]], logarithmic: bool = False
) -> None:
    """Points (value of the parameter, measure, whether it is the best)."""
    if not points:
        return
    values = [value for value, _, _ in points]
    x: list[float]
    if any(isinstance(value, str) for value in values):
        names = sorted({str(value) for value in values})
        x = [float(names.index(str(value))) for value in values]
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.set_xlim(-0.5, len(names) - 0.5)
    else:
        x = [float(value) for value in values]
        if logarithmic:
            _logarithmic(axes, decades=math.log10(max(x) / min(x)))
        elif all(isinstance(value, int) for value in values):
            axes.xaxis.set_major_locator(_whole_numbers())
    axes.plot(x, [measured for _, measured, _ in points], "o", color=BLUE, mec="white", mew=0.4)
    for position, (_, measured, marked) in zip(x, points, strict=True):
        if marked:
            axes.plot([position], [measured], "*", color=VERMILION, ms=9, mec="white", mew=0.4)


def _logarithmic(axes: Axes, decades: float) -> None:
    axes.set_xscale("log")
    # Matplotlib labels every minor tick of a short axis, one over the other in a narrow panel.
    axes.xaxis.set_minor_formatter(NullFormatter())
    if decades <= 2:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    """0.0003 as 3e-4: three such labels fit a narrow panel."""
    if 0.01 <= value < 1e4:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _whole_numbers() -> MaxNLocator:
    # With more than one tick required, a single point would have fractions beside it.
    return MaxNLocator(6, integer=True, min_n_ticks=1)


def _known(value: Value | None) -> TypeGuard[float]:
    return value is not None and not isinstance(value, str) and not math.isnan(value)


def _given(value: Value | None) -> TypeGuard[Value]:
    return isinstance(value, str) or _known(value)


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        yield


@contextmanager
def figure_panels(
    names: Sequence[str], columns: int
) -> Iterator[tuple[Figure, list[tuple[str, Axes]]]]:
    """A figure with a panel for each name, in rows of at most `columns`."""
    columns = max(1, min(columns, len(names)))
    lines = max(1, math.ceil(len(names) / columns))
    with _style():
        width = _WIDTH if columns > 1 else _WIDTH / 2
        figure = Figure(figsize=(width, _PANEL_HEIGHT * lines), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        each = [axes for line in grid for axes in line]
        for unused in each[len(names) :]:
            unused.remove()
        yield figure, list(zip(names, each, strict=False))
