"""The ladder's tables: what each change to the method is worth, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from fusionrec.evaluation.significance import holm
from fusionrec.report.figures import BLUE, ORANGE, Drawing, figure_panels
from fusionrec.report.summary import Row, Summary
from fusionrec.report.text import markdown_table, number

Context = Literal["none", "hotttnesss", "all"]


@dataclass(frozen=True)
class Rung:
    """A method's row of the comparison, and its place on the ladder.

    Attributes
    ----------
    name
        Of the row.
    change
        What is new against the rung that it is compared with.
    context
        What it knows of what others say of the artist: `none`, `hotttnesss`, or `all`.
    beside
        It is compared with the rung before, but none is compared with it.
    """

    name: str
    change: str
    context: Context
    beside: bool


class Step(TypedDict):
    """A rung as measured.

    `ratio` is its mAP over the first rung's; None where that is 0. `difference`, with the ends of
    its interval and its p-value by Holm's correction over the ladder, is its mAP less that of the
    rung `against`; None at the first. `learning_seconds` are of one CPU and a fold, without what
    the folds share (vectors, classes, factors), `ranking_ms` of one CPU and a user, `bytes_a_song`
    of a song's vector.
    """

    split: str
    rung: int
    name: str
    change: str
    context: Context
    beside: bool
    average_precision: float
    low: float
    high: float
    auc: float | None
    recall_20: float
    ndcg_20: float
    ratio: float | None
    against: str | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p_holm: float | None
    learning_seconds: float
    ranking_ms: float
    bytes_a_song: int


def steps(summary: Summary, rungs: Sequence[Rung]) -> list[Step]:
    """The rungs of one split that could be computed, from the lowest up."""
    rows = {row["name"]: row for row in summary["rows"]}
    found: list[Step] = []
    before: str | None = None
    first = None
    for number_, rung in enumerate(rungs, 1):
        row = rows.get(rung.name)
        if row is None:
            continue
        first = first or row
        found.append(_step(summary, number_, rung, row, first, before))
        before = before if rung.beside else rung.name
    p = {step["name"]: step["p_holm"] for step in found if step["p_holm"] is not None}
    adjusted = holm(p)
    for step in found:
        step["p_holm"] = adjusted.get(step["name"])
    return found


def _step(
    summary: Summary, place: int, rung: Rung, row: Row, first: Row, before: str | None
) -> Step:
    users = summary["folds"]["users"]
    difference, low, high, p = _difference(summary, rung.name, before)
    return {
        "split": summary["by"],
        "rung": place,
        "name": rung.name,
        "change": rung.change,
        "context": rung.context,
        "beside": rung.beside,
        "average_precision": row["average_precision"],
        "low": row["low"],
        "high": row["high"],
        "auc": row["auc"],
        "recall_20": row["recall_short"],
        "ndcg_20": row["ndcg_short"],
        "ratio": row["average_precision"] / base if (base := first["average_precision"]) else None,
        "against": before,
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "p_holm": p,
        "learning_seconds": (row["seconds"] - row["ranking_seconds"]) / row["rankings"],
        # `users` are rankings of one seed over all folds.
        "ranking_ms": 1000 * row["ranking_seconds"] / (users * row["seeds"]),
        "bytes_a_song": 4 * row["dimensions"],
    }


def _difference(
    summary: Summary, name: str, before: str | None
) -> tuple[float | None, float | None, float | None, float | None]:
    """The rung's mAP less that of the one before, its interval, and its p-value as it is."""
    for row in summary["differences"]:
        if (row["a"], row["b"]) == (name, before):
            return row["difference"], row["low"], row["high"], row["p"]
        if (row["b"], row["a"]) == (name, before):
            return -row["difference"], -row["high"], -row["low"], row["p"]
    return None, None, None, None


def files(ladders: Mapping[str, Sequence[Step]], left_out: Mapping[str, str]) -> dict[str, bytes]:
    """All files of a ladder by name: ladder.md, .tex, and .png and .svg with their data in .csv.

    Parameters
    ----------
    ladders
        The steps by split.
    left_out
        Rungs that are on none of them, and why.
    """
    return {
        "ladder.md": markdown(ladders, left_out).encode(),
        "ladder.tex": latex(ladders).encode(),
        **figure(ladders).files("ladder"),
    }


_PREAMBLE = (
    "Protocol `oord`; every rung changes one thing of the rung before it. A difference is paired: "
    "the same users, songs and folds; its interval is of a bootstrap over users and over songs (or "
    "artists) at once, and over seeds and cuts of the songs where there are several. p is "
    "corrected for the number of rungs (Holm). A rung in italics is beside the ladder: compared "
    "with the rung before, and none with it. Context: what a rung knows of what others say of the "
    "artist; the paper's metadata have the artist's hotttnesss among them. Seconds are of one CPU "
    "and a fold, without what the folds share (vectors, classes, factors)."
)


def markdown(ladders: Mapping[str, Sequence[Step]], left_out: Mapping[str, str]) -> str:
    """The ladder as a document."""
    parts = ["# Ladder", _PREAMBLE]
    header = [
        "",
        "change",
        "context",
        "mAP@500",
        "95 % interval",
        "times the first",
        "AUC",
        "recall@20",
        "NDCG@20",
        "difference",
        "p (Holm)",
        "learning, s",
        "ranking, ms a user",
        "bytes a song",
    ]
    for by, found in ladders.items():
        rows = [[str(step["rung"]), *_cells(step)] for step in found]
        parts += [f"## Split by {by}", markdown_table(header, rows, left=3)]
    if left_out:
        parts += ["Left out:", "\n".join(f"- {name}: {why}" for name, why in left_out.items())]
    return "\n\n".join(parts) + "\n"


def _cells(step: Step) -> list[str]:
    change = f"{step['change']} (`{step['name']}`)"
    return [
        f"*{change}*" if step["beside"] else change,
        step["context"],
        _figure(step["average_precision"]),
        f"{_figure(step['low'])} to {_figure(step['high'])}",
        "" if step["ratio"] is None else f"{step['ratio']:.2f}",
        "" if step["auc"] is None else f"{step['auc']:.3f}",
        f"{step['recall_20']:.3f}",
        f"{step['ndcg_20']:.3f}",
        difference(step),
        number(step["p_holm"], ".3f") if step["p_holm"] is not None else "",
        f"{step['learning_seconds']:.1f}",
        f"{step['ranking_ms']:.2f}",
        f"{step['bytes_a_song']:,}",
    ]


def difference(step: Step) -> str:
    """The difference to the rung before, with its interval; nothing at the first."""
    mean, low, high = step["difference"], step["difference_low"], step["difference_high"]
    if mean is None or low is None or high is None:
        return ""
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"


def latex(ladders: Mapping[str, Sequence[Step]]) -> str:
    """The ladder of each split for a LaTeX document with the booktabs package."""
    parts = []
    for by, found in ladders.items():
        lines = [
            f"% split by {by}",
            r"\begin{tabular}{rlrrrrr}",
            r"\toprule",
            r" & change & mAP@500 & 95\,\% interval & AUC & NDCG@20 & difference \\",
            r"\midrule",
        ]
        for step in found:
            change = _escaped(step["change"])
            cells = [
                str(step["rung"]),
                rf"\emph{{{change}}}" if step["beside"] else change,
                _figure(step["average_precision"]),
                f"{_figure(step['low'])}--{_figure(step['high'])}",
                "" if step["auc"] is None else f"{step['auc']:.3f}",
                f"{step['ndcg_20']:.3f}",
                difference(step),
            ]
            lines.append(" & ".join(cells) + r" \\")
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    for character in "&%_#$":
        text = text.replace(character, f"\\{character}")
    return text


def figure(ladders: Mapping[str, Sequence[Step]]) -> Drawing:
    """mAP with its interval by rung, a panel a split; without context in another colour."""
    titles = [f"split by {by}" for by in ladders]
    with figure_panels(titles, columns=2) as (drawn, axes_of):
        for (title, axes), found in zip(axes_of, ladders.values(), strict=True):
            for step in found:
                value, plain = step["average_precision"], step["context"] == "none"
                color = BLUE if plain else ORANGE
                ends = [[value - step["low"]], [step["high"] - value]]
                axes.errorbar(
                    [step["rung"]],
                    [value],
                    yerr=[[max(end[0], 0.0)] for end in ends],
                    fmt="o" if plain else "^",
                    color=color,
                    mfc="white" if step["beside"] else color,
                    capsize=2,
                )
            axes.set(xlabel="rung", ylabel="mAP@500", title=title)
            axes.set_xticks([step["rung"] for step in found])
            axes.set_ylim(bottom=0)
        handles = [
            panel.plot([], [], mark, color=color)[0]
            for (_, panel) in axes_of[:1]
            for mark, color in (("o", BLUE), ("^", ORANGE))
        ]
        drawn.legend(
            handles, ["content alone", "with context"], loc="outside upper center", ncols=2
        )
    return Drawing(drawn, [dict(step) for found in ladders.values() for step in found])


def _figure(value: float | None) -> str:
    return number(value, ".4f")
