"""Ours beside the paper's: tables as the page shows them, the rows of summary.csv, and a difference in words."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pandas import DataFrame
from pandas.api.types import is_numeric_dtype

from vqad_lib.paper import caption, reported
from vqad_lib.reporting.tables import (
    LABEL_COLUMNS,
    folded,
    load_table,
    row_name,
    without_labels,
)

# what stands for each of the paper's columns in ours: (by the paper's metrics, by held-out selection)
COUNTERPARTS = {
    "f1": ("f1_paper_metrics", "f1"),
    "auc": ("auc_paper_metrics", "auroc"),
    "lambda_nats": ("threshold_nats", None),
    **{name: (name, None) for name in ("seconds_per_image", "threshold_percentile", "height", "width", "channels")},
}
SCORE_STEPS = (0.01, 0.05, 0.15)
RATIO_STEPS = (1.25, 2.0, 8.0)
PAPERS_GROUP, HELD_OUT_GROUP = "the paper's metrics", "held-out selection"
SEEDS_GROUP = "mean ± sd over training seeds"
_RATIOS = ("seconds_per_image", "height", "width", "channels")
_HEADINGS = {
    "k": "k",  # of eq. 11, where K is the number of codes
    "threshold_nats": "λ (nats)",
    "threshold_percentile": "λ percentile",
    "held_out_percentile": "λ percentile, held-out",
    "threshold_score": "Decision threshold",
}
_NEAREST = "nearest training frame"
_ABBREVIATIONS = {"auc": "AUC", "auroc": "AUROC", "auprc": "AUPRC"}


class Cell(NamedTuple):
    """What stands in one place of a table on the page.

    Attributes:
        under: small print.
        kind: CSS classes, beside those of its column.
    """

    text: str
    under: str = ""
    kind: str = ""


class Column(NamedTuple):
    """One column: its heading, its cells, their CSS classes ("name" heads the rows), and what stands above several."""

    title: str
    cells: list[Cell]
    kind: str = "number"
    group: str = ""


def page_table(frame: DataFrame, *, table: int | None) -> list[Column]:
    """A table for the page: the paper's number, ours and the difference side by side; scores with intervals.

    First come the columns that name the rows, then scores, the paper's metrics first, then what belongs to no metric.

    Args:
        frame: as `tables.load_table` gives it; the label columns are left out.
        table: 1-27, or None where the paper has no such table.
    """
    frame = without_labels(frame)
    key = key_column(frame, table) if table is not None and table > 2 else None
    values = folded(frame)
    # the paper's thresholds, beneath ours; the official scheme's tables have no number of the paper's
    paper = reported(table).rename(index=row_name) if key and "reported_f1" in frame else DataFrame()
    for mine, theirs in (("threshold_nats", "lambda_nats"), ("threshold_percentile", "threshold_percentile")):
        if theirs in paper and mine in values:
            numbers = frame[key].map(row_name).map(paper[theirs])
            beside = ["" if pd.isna(number) else f"paper {number:g}" for number in numbers]
            values[mine] = [(text, own) for (text, _), own in zip(values[mine], beside, strict=True)]
    papers = {mine: f"reported_{name}" for name, (mine, _) in COUNTERPARTS.items()}
    papers |= {name: f"paper_{name}" for name in _RATIOS if f"paper_{name}" in frame}
    papers = {mine: theirs for mine, theirs in papers.items() if {mine, theirs} <= set(frame)}
    first = key or next(iter(values))
    groups = {name: _group(name, frame) for name in values if name not in (first, *papers.values())}
    columns = [Column(heading(first), _cells(values[first]), "name")]
    for name in sorted(groups, key=lambda name: (PAPERS_GROUP, HELD_OUT_GROUP, SEEDS_GROUP, "").index(groups[name])):
        title, group, cells = heading(name), groups[name], _cells(values[name])
        if name in papers:
            pairs = zip(frame[papers[name]], frame[name], strict=True)
            differences = [Cell(text, kind=shade) for text, shade in (difference_text(*pair, name) for pair in pairs)]
            columns += [
                Column(f"{title} paper", _cells(values[papers[name]]), "number paper edge", group),
                Column(f"{title} ours", cells, "number", group),
                Column("Δ", differences, "number delta", group),
            ]
        elif name != "model" or frame["model"].nunique() > 1:  # one that the caption names need not stand in every row
            kind = "number" if is_numeric_dtype(frame[name]) else "text"
            columns.append(Column(title, cells, f"{kind} edge" if group else kind, group))
    return columns


def _cells(values: list[tuple[str, str]]) -> list[Cell]:
    """A detector's name for people: "light_pixel_wise" is "light pixel-wise"."""
    return [Cell(text.replace("_wise", "-wise").replace("light_", "light "), beside) for text, beside in values]


def _group(column: str, frame: DataFrame) -> str:
    """What stands above a column: which metrics, or over what it is a mean; "" where neither."""
    if column.endswith("_paper_metrics"):
        return PAPERS_GROUP
    if column == "auroc_official" or (column in ("f1", "auroc", "auprc") and f"{column}_low" in frame):
        return HELD_OUT_GROUP
    return SEEDS_GROUP if column.endswith("_mean") else ""


def heading(column: str) -> str:
    """A column's name for people."""
    base = column.replace("_paper_metrics_mean", "_by the paper’s metrics")
    base = base.removesuffix("_mean").removesuffix("_paper_metrics")
    words = " ".join(_ABBREVIATIONS.get(word, word) for word in base.split("_"))
    return _HEADINGS.get(base, words[:1].upper() + words[1:])


def overview(tables: Path) -> list[Column]:
    """The results in one look: every detector with every model, and how much of it needs no model at all.

    Args:
        tables: reports/<profile>/<data set>/tables.

    Returns:
        AUC by the paper's metrics with its difference, and AUROC on scheme official, from Tables 6-9; [] where Table 6
        is not there.
    """
    found = [number for number in range(6, 10) if (tables / f"table_{number:02d}.csv").exists()]
    if 6 not in found:
        return []
    frame = pd.concat(load_table(tables, f"table_{n:02d}").assign(detector=caption("table", n).short) for n in found)
    frame["detector"] = frame["detector"].where(frame["model"] != _NEAREST, "No model") + " · " + frame["model"]
    scores = ["reported_auc", "auc_paper_metrics", "auroc_official"]
    frame = frame.drop_duplicates("detector").filter(["detector", *scores])
    return page_table(
        frame.sort_values("detector", key=lambda names: names.str.match("No model"), kind="stable"), table=None
    )


def comparison_rows(table: int, folder: Path, *, made: bool = True) -> DataFrame:
    """The rows of summary.csv for one table: one for each number that the paper prints.

    Args:
        table: 1-27.
        folder: reports/<profile>/<data set>/tables.
        made: whether our table counts if it is there.

    Returns:
        table, row, column, reported, ours_paper_metrics, ours_held_out, difference (ours by the paper's metrics minus
        reported; same unit as reported); NaN where we have no number. Rows of Tables 1 and 2 are named by line, from 0.
    """
    paper = reported(table).drop(columns="component", errors="ignore").rename(index=row_name)
    name = f"table_{table:02d}"
    ours = load_table(folder, name) if made and (folder / f"{name}.csv").exists() else DataFrame()
    if table in (1, 2) and len(ours):  # line by line, for the same component stands on several lines
        ours = ours[ours["paper_height"].notna()].reset_index(drop=True)
    else:
        key = key_column(ours, table)
        ours = ours.set_index(key) if key else DataFrame()
    ours = ours.rename(index=row_name)
    ours = ours[~ours.index.duplicated()].reindex(paper.index)
    columns = []
    for column, theirs in paper.items():
        mine, held_out = (ours.get(name, float("nan")) for name in COUNTERPARTS[column])
        numbers = {
            "reported": theirs,
            "ours_paper_metrics": mine,
            "ours_held_out": held_out,
            "difference": mine - theirs,
        }
        rows = DataFrame(numbers, index=paper.index, dtype=float).rename_axis("row").reset_index()
        columns.append(rows.assign(table=table, column=column))
    order = ["table", "row", "column", "reported", "ours_paper_metrics", "ours_held_out", "difference"]
    return pd.concat(columns).sort_index(kind="stable")[order]  # row by row, as the paper prints them


def key_column(frame: DataFrame, table: int) -> str | None:
    """The column of ours that holds the paper's row names: the one with most of them; ties: the first."""
    wanted = {row_name(name) for name in reported(table).index}
    counts = {column: len(wanted & set(frame[column].map(row_name))) for column in frame if column not in LABEL_COLUMNS}
    best = max(counts, key=counts.__getitem__, default=None)
    return best if best is not None and counts[best] else None


def difference_text(theirs: float, mine: float, column: str) -> tuple[str, str]:
    """The difference in words and its shade: "+0.012" and "up1", "÷4" and "down2", "0.000" and "same".

    Scores differ by subtraction, seconds and shapes by ratio. Shades run to 3 by `SCORE_STEPS` and `RATIO_STEPS`.
    """
    if pd.isna(theirs) or pd.isna(mine) or (column in _RATIOS and min(theirs, mine) <= 0):
        return "", ""
    if column in _RATIOS:
        up, size = mine > theirs, max(mine / theirs, theirs / mine)
        level, text = sum(size >= step for step in RATIO_STEPS), f"{'÷' if mine < theirs else '×'}{size:.3g}"
    else:
        gap = round(mine - theirs, 3)  # rounded as shown, so that text and shade agree
        up, level = gap > 0, sum(abs(gap) >= step for step in SCORE_STEPS)
        text = f"{gap:+.3f}".replace("-", "−") if gap else "0.000"
    return text, f"{'up' if up else 'down'}{level}" if level else "same"
