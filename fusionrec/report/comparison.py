"""The comparison's tables: measured figures, and beside them the published ones (Table 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fusionrec.report.summary import (
    BeyondMeasure,
    ClassMeasure,
    Difference,
    Evaluated,
    Row,
    Summary,
)
from fusionrec.report.text import as_csv, markdown_table, number

PAPER, VAN_DEN_OORD = "Öman & Choi, Table 2", "van den Oord et al. 2013"

_BASELINES = {
    "mlr": 0.01801,
    "linear": 0.02389,
    "mlp": 0.02536,
    "cnn-wpe": 0.04323,
    "cnn-mse": 0.05016,
}
_NETWORKS = {
    (6, ("metadata",)): 0.02050,
    (3, ("metadata", "lyrics")): 0.02263,
    (4, ("metadata", "lyrics")): 0.02304,
    (6, ("metadata", "lyrics")): 0.04152,
}


def published(row: Row) -> tuple[float, str] | None:
    """The mAP@500 that was published for a row's method, and where.

    Of 9,330 songs and 20,000 users of the Million Song Dataset; the baselines are of
    van den Oord, Dieleman & Schrauwen (2013, table 2), as the paper quotes them.
    """
    if row["method"] in _BASELINES:
        return _BASELINES[row["method"]], VAN_DEN_OORD
    if row["method"] == "fusion" and row["k"] is not None and row["operator"] == "concatenate":
        value = _NETWORKS.get((row["k"], tuple(row["modalities"] or ())))
        return None if value is None else (value, PAPER)
    return None


def files(summaries: Mapping[str, Summary]) -> dict[str, bytes]:
    """All files of a comparison by name.

    Parameters
    ----------
    summaries
        By split, as :func:`pipelines.compare.summary.summarise` makes them.
    """
    return {
        "comparison.md": markdown(summaries).encode(),
        "comparison.csv": as_csv(
            [{"split": by, **_flat(row)} for by, s in summaries.items() for row in s["rows"]]
        ),
        "comparison.tex": latex(summaries).encode(),
        "differences.csv": as_csv(
            [{"split": by, **row} for by, s in summaries.items() for row in s["differences"]]
        ),
    }


def markdown(summaries: Mapping[str, Summary]) -> str:
    """The whole comparison as a document."""
    sections = [_split_section(summary) for summary in summaries.values()]
    leakage = _leakage(summaries)
    return (
        "\n\n".join(["# Comparison", _PREAMBLE, *sections, *([leakage] if leakage else [])]) + "\n"
    )


_PREAMBLE = (
    "Protocol `oord` (van den Oord et al. 2013): plays of test songs are hidden from every "
    "model, a user's profile is the songs outside the test part, and all test songs are "
    "ranked. Intervals are of a bootstrap over users and over the groups of the split at once, and "
    "over the seeds of what is trained and the cuts of the songs where there are several. "
    "Published figures are of other songs and users and can not be compared in size; rows in "
    "italics are references that see the test songs' plays or tags."
)


def _split_section(summary: Summary) -> str:
    folds = summary["folds"]
    left_out = ", ".join(f"{reason} {n:,}" for reason, n in folds["users_left_out"].items())
    quantiles = folds["relevant_quantiles"]
    first = summary["rows"][0]
    lines = [
        f"## Split by {summary['by']}",
        "",
        f"Folds tested: {', '.join(map(str, folds['folds']))}{_again(folds)}; "
        f"{folds['users']:,} rankings of "
        f"{folds['distinct_users']:,} users, {folds['candidates_mean']:,.1f} candidates each; "
        f"relevant songs a ranking: mean {folds['relevant_mean']:.2f}, median {quantiles['0.5']}, "
        f"95 % {quantiles['0.95']}, most {quantiles['1.0']}. Left out, summed over folds: "
        f"{left_out}. Random level (closed form): {_figure(first['random_level'])}. "
        f"Folds and users: `{folds['hash']}`.",
        "",
        markdown_table(_header(summary), [_cells(row, summary) for row in summary["rows"]]),
        "",
        "Ceiling, the mAP of knowing every song's class and how each user likes each class: "
        + "; ".join(f"k = {k}: {_figure(v)}" for k, v in summary["ceilings"].items())
        + ".",
    ]
    if summary["failed"]:
        lines += ["", "Not computed:", ""]
        lines += [f"- {name}: {reason}" for name, reason in summary["failed"].items()]
    if summary["external"]:
        lines += ["", EXTERNAL, "", *(f"- {note}" for note in external_notes(summary))]
    lines += ["", "### Beyond accuracy", "", _beyond(summary["rows"])]
    classes = _classes(summary["rows"])
    if classes:
        lines += ["", "### Classes", "", classes]
    return "\n".join(lines)


EXTERNAL = (
    "Lists made elsewhere: who made them knows what they have seen. Of each list the candidates of "
    "the fold are ranked, in its order; songs that it leaves out count as not found, and AUC "
    "is empty if any of them is relevant."
)
"""What to know of the figures of lists made elsewhere."""


def external_notes(summary: Summary) -> list[str]:
    """A line for each of the lists made elsewhere: what was not found of them."""
    notes = []
    for name, found in summary["external"].items():
        users, songs = found["unknown_users"], found["unknown_songs"]
        unknown = "whose users and songs the corpus has"
        if users or songs:
            unknown = f"{users:,} of unknown users, with {songs:,} unknown songs in all"
        rankings, missing = summary["folds"]["users"], found["without_list"]
        empty = found["without_candidate"]
        scored = f"each of {rankings:,} rankings has one"
        if missing or empty:
            scored = (
                f"of {rankings:,} rankings {missing:,} have no list and {empty:,} no candidate in "
                "it: these score 0"
            )
        notes.append(f"{name}: {found['lists']:,} lists, {unknown}; {scored}")
    return notes


def _again(folds: Evaluated) -> str:
    times = folds["fold_seeds"]
    return f", of {times} cuts of the songs" if times > 1 else ""


def _header(summary: Summary) -> list[str]:
    return [
        "method",
        "mAP@500",
        "95 % interval",
        "seeds ± sd",
        "lift",
        "AUC",
        "recall",
        "NDCG",
        f"difference to {summary['against']}",
        "p (Holm)",
        "published mAP",
    ]


def _cells(row: Row, summary: Summary) -> list[str]:
    difference = _difference(row["name"], summary)
    known = published(row)
    name = f"*{row['name']}*" if row["reference"] else row["name"]
    return [
        name,
        _figure(row["average_precision"]),
        f"{_figure(row['low'])} to {_figure(row['high'])}",
        f"{row['seeds']} ± {_figure(row['spread'])}" if row["spread"] is not None else "1",
        f"{row['lift']:.2f}",
        _short(row["auc"]),
        f"{row['recall']:.3f}",
        _figure(row["ndcg"]),
        f"{difference['difference']:+.4f} ({difference['low']:+.4f} to {difference['high']:+.4f})"
        if difference
        else "",
        f"{difference['p_holm_against']:.3f}" if difference else "",
        f"{known[0]:.5f} ({known[1]})" if known else "",
    ]


def _difference(name: str, summary: Summary) -> Difference | None:
    """The difference of a method to the one that all are compared with."""
    for row in summary["differences"]:
        if (row["a"], row["b"]) == (name, summary["against"]):
            return row
        if (row["b"], row["a"]) == (name, summary["against"]):
            return {
                **row,
                "difference": -row["difference"],
                "low": -row["high"],
                "high": -row["low"],
            }
    return None


_BEYOND: dict[BeyondMeasure, str] = {
    "coverage": "coverage",
    "gini": "Gini",
    "popularity_bias": "popularity bias",
    "diversity": "intra-list diversity",
    "novelty": "novelty (bits)",
}


def _beyond(rows: Sequence[Row]) -> str:
    header = ["method", *_BEYOND.values(), "candidates without input", "seconds of one CPU"]
    return markdown_table(
        header,
        [
            [
                row["name"],
                *(_short(row[name]) for name in _BEYOND),
                f"{row['without_input']:,}",
                f"{row['seconds']:,.0f}",
            ]
            for row in rows
        ],
    )


_CLASSES: dict[ClassMeasure, str] = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "majority": "majority class",
    "lookup_accuracy": "artist look-up",
    "lookup_known": "songs of known artists",
    "nmi": "NMI",
    "silhouette": "silhouette of the labels",
}


def _classes(rows: Sequence[Row]) -> str:
    found = [row for row in rows if row.get("accuracy") is not None]
    if not found:
        return ""
    return markdown_table(
        ["network", *_CLASSES.values()],
        [[row["name"], *(number(row.get(name), ".1%") for name in _CLASSES)] for row in found],
    )


def _leakage(summaries: Mapping[str, Summary]) -> str:
    """The same method by song and by artist: what knowing the artist is worth."""
    if "song" not in summaries or "artist" not in summaries:
        return ""
    song, artist = (
        {row["name"]: row for row in summaries[by]["rows"]} for by in ("song", "artist")
    )
    accuracies: tuple[ClassMeasure, ...] = ("accuracy", "lookup_accuracy")
    rows = []
    for name, row in song.items():
        other = artist.get(name)
        if other is None:
            continue
        cells = [name, f"{row['lift']:.2f}", f"{other['lift']:.2f}"]
        cells += [_short(row["auc"]), _short(other["auc"])]
        for measure in accuracies:
            cells += [number(r.get(measure), ".1%") for r in (row, other)]
        rows.append(cells)
    pairs = ("lift of mAP", "AUC", "accuracy", "artist look-up alone")
    header = ["method", *(f"{name}, by {by}" for name in pairs for by in ("song", "artist"))]
    text = (
        "## Leakage\n\nMusicBrainz tags belong to artists: under a split by song, an artist's "
        "other songs give a test song's class away. `artist look-up alone` is the accuracy of "
        "the commonest class among the artist's training songs.\n\n"
    )
    return text + markdown_table(header, rows)


def latex(summaries: Mapping[str, Summary]) -> str:
    """The main table of each split for a LaTeX document with the booktabs package."""
    parts = []
    for by, summary in summaries.items():
        lines = [
            f"% split by {by}; published figures are of other songs and users",
            r"\begin{tabular}{lrrrrl}",
            r"\toprule",
            r"method & mAP@500 & 95\,\% interval & lift & AUC & published mAP \\",
            r"\midrule",
        ]
        for row in summary["rows"]:
            known = published(row)
            name = row["name"].replace("_", r"\_")
            cells = [
                rf"\emph{{{name}}}" if row["reference"] else name,
                _figure(row["average_precision"]),
                f"{_figure(row['low'])}--{_figure(row['high'])}",
                f"{row['lift']:.2f}",
                _short(row["auc"]),
                f"{known[0]:.5f} ({known[1].replace('&', chr(92) + '&')})" if known else "",
            ]
            lines.append(" & ".join(cells) + r" \\")
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def _flat(row: Row) -> dict[str, object]:
    known = published(row)
    return {
        **{name: value for name, value in row.items() if not isinstance(value, list | tuple)},
        "modalities": "+".join(row["modalities"]) if row["modalities"] else None,
        "published": known[0] if known else None,
        "published_by": known[1] if known else None,
    }


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _figure(value: float | None) -> str:
    return number(value, ".4f")
