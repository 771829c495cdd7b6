"""Ours beside the paper's: the rows of summary.csv, and a difference in words."""

from pathlib import Path
from typing import Any

import pandas as pd
from pandas import DataFrame, Series

from vqad_lib.paper import reported
from vqad_lib.reporting.tables import LABEL_COLUMNS, load_table, row_name, table_path

# what stands for each of the paper's columns in ours: (by the paper's metrics, by held-out selection)
COUNTERPARTS = {
    "f1": ("f1_paper_protocol", "f1"),
    "auc": ("auc_paper_protocol", "auroc"),
    "lambda_nats": ("threshold_nats", None),
    **{name: (name, None) for name in ("seconds_per_image", "threshold_percentile", "height", "width", "channels")},
}
SCORE_STEPS = (0.01, 0.05, 0.15)
RATIO_STEPS = (1.25, 2.0, 8.0)


def comparison_rows(table: int, folder: Path) -> list[dict[str, Any]]:
    """The rows of summary.csv for one table: one for each number that the paper prints.

    Args:
        table: 1-27.
        folder: reports/<profile>/<data set>/tables.

    Returns:
        Dicts with table, row, column, reported, ours_paper_protocol, ours_sound, difference (ours by the paper's
        metrics minus reported; same unit as reported); None where we have no number. Rows of Tables 1 and 2 are
        named by line, from 0.
    """
    paper = reported(table).drop(columns="component", errors="ignore")
    ours = load_table(folder, table) if table_path(folder, table).exists() else DataFrame()
    rows = []
    for name in paper.index:
        found = _our_row(ours, table, name)
        for column in paper:
            theirs = float(paper.at[name, column])
            mine, held_out = (_number(found, counterpart) for counterpart in COUNTERPARTS[column])
            difference = None if mine is None else mine - theirs
            rows.append(
                {"table": table, "row": row_name(name), "column": column, "reported": theirs}
                | {"ours_paper_protocol": mine, "ours_sound": held_out, "difference": difference}
            )
    return rows


def key_column(frame: DataFrame, table: int) -> str | None:
    """The column of ours that holds the paper's row names: the one with most of them; ties: the first."""
    wanted = {row_name(name) for name in reported(table).index}
    counts = {column: len(wanted & set(frame[column].map(row_name))) for column in frame if column not in LABEL_COLUMNS}
    best = max(counts, key=counts.__getitem__, default=None)
    return best if best is not None and counts[best] else None


def _our_row(ours: DataFrame, table: int, name: object) -> Series | None:
    if ours.empty:
        return None
    if table in (1, 2):  # line by line, for the same component stands on several lines
        lines = ours[ours["paper_height"].notna()]
        return lines.iloc[int(name)] if int(name) < len(lines) else None
    key = key_column(ours, table)
    found = ours[ours[key].map(row_name) == row_name(name)] if key else ours.head(0)
    return found.iloc[0] if len(found) else None


def _number(row: Series | None, column: str | None) -> float | None:
    value = None if row is None or column is None else row.get(column)
    return None if pd.isna(value) else float(value)


def difference_text(theirs: float, mine: float, column: str) -> tuple[str, str]:
    """The difference in words and its shade: "+0.012" and "up1", "÷4.0" and "down2", "0.000" and "same".

    Scores and shapes differ by subtraction, seconds by ratio. Shades run to 3 by `SCORE_STEPS` and `RATIO_STEPS`.
    """
    seconds = column.endswith("seconds_per_image")
    if pd.isna(theirs) or pd.isna(mine) or (seconds and min(theirs, mine) <= 0):
        return "", ""
    if seconds:
        ratio = mine / theirs
        size, up, level = max(ratio, 1 / ratio), ratio > 1, sum(max(ratio, 1 / ratio) >= step for step in RATIO_STEPS)
        text = ("×" if ratio >= 1 else "÷") + f"{size:.3g}"
    elif column in ("height", "width", "channels"):
        gap = mine - theirs
        up, level, text = gap > 0, 2 if gap else 0, f"{gap:+.0f}" if gap else "="
    else:
        gap = round(mine - theirs, 3)  # rounded as shown, so that text and shade agree
        up, level = gap > 0, sum(abs(gap) >= step for step in SCORE_STEPS)
        text = f"{gap:+.3f}" if gap else "0.000"
    return text.replace("-", "−"), f"{'up' if up else 'down'}{level}" if level else "same"
