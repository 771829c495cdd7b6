"""Ours beside the paper's: an HTML table in which the differences can be seen, and the rows of summary.csv."""

from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup, escape
from pandas import DataFrame, Series

from vqad_lib.reporting.paper_numbers import reported
from vqad_lib.reporting.shapes import shapes_html
from vqad_lib.reporting.tables import LABEL_COLUMNS, format_column, load_table, row_name, table_path

PAPER_GROUP, SOUND_GROUP = "the paper's protocol", "sound: thresholds from validation, 95% intervals"
SEEDS_GROUP = "mean ± sd over training seeds"
SOUND = ("f1", "auroc", "auprc")
# what stands for each of the paper's columns in ours: (paper's protocol, sound protocol)
COUNTERPARTS = {
    "f1": ("f1_paper_protocol", "f1"),
    "auc": ("auc_paper_protocol", "auroc"),
    "seconds_per_image": ("seconds_per_image", None),
    "lambda_nats": ("threshold_nats", None),
    "threshold_percentile": ("threshold_percentile", None),
    "height": ("height", None),
    "width": ("width", None),
    "channels": ("channels", None),
}
HEADINGS = {
    "model": "Model",
    "method": "Method",
    "percentile": "Percentile",
    "component": "Component",
    "f1": "F1",
    "auc": "AUC",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "seconds_per_image": "s / image",
    "seconds_low": "Fastest repeat",
    "seconds_high": "Slowest repeat",
    "times_faster_than_plain": "Times faster than plain",
    "threshold_nats": "λ (nats)",
    "threshold_percentile": "λ percentile",
    "sound_percentile": "λ percentile, sound",
    "threshold_score": "Decision threshold",
    "auroc_official": "AUROC, official split",
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
        protocol minus reported; same unit as reported); None where we have no number. Rows of Tables 1 and 2 are
        named by line, from 0.
    """
    paper = reported(table).drop(columns="component", errors="ignore")
    ours = load_table(folder, table) if table_path(folder, table).exists() else DataFrame()
    rows = []
    for name in paper.index:
        found = _our_row(ours, table, name)
        for column in paper:
            by_paper, sound = COUNTERPARTS[column]
            theirs, mine = float(paper.at[name, column]), _number(found, by_paper)
            rows.append(
                {
                    "table": table,
                    "row": row_name(name),
                    "column": column,
                    "reported": theirs,
                    "ours_paper_protocol": mine,
                    "ours_sound": _number(found, sound),
                    "difference": None if mine is None else mine - theirs,
                }
            )
    return rows


def key_column(frame: DataFrame, table: int) -> str | None:
    """The column of ours that holds the paper's row names: the one with most of them, the first of equals."""
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
    if row is None or column is None or column not in row or pd.isna(row[column]):
        return None
    return float(row[column])


def html_table(frame: DataFrame, *, table: int | None) -> Markup:
    """A table for the page: the paper's number, ours and the difference side by side; sound scores with intervals.

    Args:
        frame: as `tables.load_table` gives it; the label columns are left out.
        table: 1-27, or None where the paper has no such table.

    First comes the column that names the rows, then what is compared, then what belongs to neither protocol.
    """
    frame = frame.drop(columns=[column for column in LABEL_COLUMNS if column in frame])
    if table in (1, 2) and "component_in_paper" in frame:
        return shapes_html(frame)
    key = key_column(frame, table) if table is not None and table > 2 else None
    text = {column: format_column(frame[column]) for column in frame}
    small = _paper_thresholds(frame, key, table)
    first, groups, plain = _layout(frame, key)
    rows = []
    for index in range(len(frame)):
        cells = [f'<th scope="row">{_words(text[column][index])}</th>' for column in first]
        for name, columns in groups:
            for theirs, mine in columns:
                alone = name.startswith((SOUND_GROUP, SEEDS_GROUP))
                cells += (
                    [_cell(text, mine, index, "number edge")] if alone else _beside(text, frame, theirs, mine, index)
                )
        cells += [_cell(text, column, index, _kind(frame[column]), small.get((index, column))) for column in plain]
        rows.append("<tr>" + "".join(cells) + "</tr>")
    return Markup(f"<table>{_head(frame, first, groups, plain)}<tbody>{''.join(rows)}</tbody></table>")


Groups = list[tuple[str, list[tuple[str, str]]]]


def _layout(frame: DataFrame, key: str | None) -> tuple[list[str], Groups, list[str]]:
    """Split columns into those that name the row, groups of (the paper's column or "", ours), and plain ones."""
    compared = [(f"reported_{name}", mine) for name, (mine, _) in COUNTERPARTS.items() if f"reported_{name}" in frame]
    compared += [(f"paper_{name}", name) for name in frame if f"paper_{name}" in frame]
    compared = [(theirs, mine) for theirs, mine in compared if mine in frame]
    alone = [("", f"{name}_paper_protocol") for name in ("f1", "auc") if f"{name}_paper_protocol" in frame]
    compared += [pair for pair in alone if pair[1] not in {mine for _, mine in compared}]
    sound = [("", name) for name in SOUND if name in frame and f"{name}_low" in frame]
    sound += [("", "auroc_official")] if "auroc_official" in frame else []
    seeds = [("", name) for name in frame if name.endswith("_mean") and f"{name.removesuffix('_mean')}_sd" in frame]
    used = {column for pair in compared + sound + seeds for column in pair} | ({"seeds"} if seeds else set())
    used |= {f"{name}_{end}" for name in frame if f"{name}_high" in frame for end in ("low", "high")}
    used |= {f"{name.removesuffix('_mean')}_sd" for _, name in seeds}
    plain = [column for column in frame if column not in used]
    if key in plain:
        plain.insert(0, plain.pop(plain.index(key)))
    plain = plain or list(frame)[:1]
    # a model that the caption names need not stand in every row
    rest = [column for column in plain[1:] if column != "model" or frame["model"].nunique() > 1]
    # seconds and shapes have no protocol
    compared_group = "beside the paper" if any(mine in COUNTERPARTS for _, mine in compared) else PAPER_GROUP
    many = f"{SEEDS_GROUP} ({frame['seeds'].max():.0f})" if seeds and "seeds" in frame else SEEDS_GROUP
    groups = [(compared_group, compared), (SOUND_GROUP, sound), (many, seeds)]
    return plain[:1], [group for group in groups if group[1]], rest


def heading(column: str) -> str:
    """A column's name for people."""
    if column.endswith("_paper_protocol_mean"):
        return f"{heading(column.removesuffix('_mean'))}, paper’s protocol"
    base = column.removesuffix("_mean").removesuffix("_paper_protocol")
    words = (base[:1].upper() + base[1:]).replace("_", " ")
    return HEADINGS.get(base, words.replace("auroc", "AUROC"))


def _head(frame: DataFrame, first: list[str], groups: Groups, plain: list[str]) -> str:
    span = ' rowspan="2"' if groups else ""
    top = "".join(f'<th scope="col" class="name"{span}>{escape(heading(column))}</th>' for column in first)
    below = ""
    for name, columns in groups:
        width = sum(3 if theirs else 1 for theirs, _ in columns)
        top += f'<th scope="colgroup" class="group" colspan="{width}">{escape(name)}</th>'
        for theirs, mine in columns:
            title = escape(heading(mine))
            below += f'<th scope="col" class="edge">{title}{" paper" if theirs else ""}</th>'
            below += f'<th scope="col">{title} ours</th><th scope="col">Δ</th>' if theirs else ""
    for column in plain:
        top += f'<th scope="col" class="{_kind(frame[column])}"{span}>{escape(heading(column))}</th>'
    return f"<thead><tr>{top}</tr>" + (f"<tr>{below}</tr>" if groups else "") + "</thead>"


def _cell(text: dict[str, list[str]], name: str, index: int, kind: str, small: str | None = None) -> str:
    """One number or text; beneath it its interval, its spread, or what the paper has there."""
    low, high = (text.get(f"{name}_{end}", {index: ""})[index] for end in ("low", "high"))
    spread = text.get(f"{name.removesuffix('_mean')}_sd", {index: ""})[index] if name.endswith("_mean") else ""
    to = " to " if "-" in low + high else "–"  # a dash between negative numbers would be read as a sign
    below = f"{low}{to}{high}".replace("-", "−") if low and high else f"± {spread}" if spread else ""
    below = f"paper {small}" if small else below
    under = f' <small class="under">{escape(below)}</small>' if below else ""
    return f'<td class="{kind}">{_words(text[name][index]) or "–"}{under}</td>'


def _words(text: str) -> str:
    """Escaped; a detector's name for people: "light_pixel_wise" is "light pixel-wise"."""
    return str(escape(text.replace("_wise", "-wise").replace("light_", "light ")))


def _kind(column: Series) -> str:
    return "number" if pd.api.types.is_numeric_dtype(column) else "text"


def _paper_thresholds(frame: DataFrame, key: str | None, table: int | None) -> dict[tuple[int, str], str]:
    """(row, column of ours) -> the lambda or percentile that the paper prints there (Tables 6-8)."""
    # the official split's table has no number of the paper's beside it, so no threshold either
    if key is None or table is None or "reported_f1" not in frame:
        return {}
    paper = reported(table)
    shown = {}
    for theirs, mine in (("lambda_nats", "threshold_nats"), ("threshold_percentile", "threshold_percentile")):
        if theirs in paper and mine in frame:
            values = {row_name(name): f"{value:g}" for name, value in paper[theirs].items()}
            names = enumerate(frame[key].map(row_name))
            shown |= {(index, mine): values[name] for index, name in names if name in values}
    return shown


def _beside(text: dict[str, list[str]], frame: DataFrame, theirs: str, mine: str, index: int) -> list[str]:
    ours = f'<td class="number{"" if theirs else " edge"}">{escape(text[mine][index]) or "–"}</td>'
    if not theirs:
        return [ours]
    difference, shade = difference_text(frame[theirs].iloc[index], frame[mine].iloc[index], mine)
    paper = f'<td class="number paper edge">{escape(text[theirs][index]) or "–"}</td>'
    return [paper, ours, f'<td class="number delta {shade}">{difference or "–"}</td>']


def difference_text(theirs: float, mine: float, column: str) -> tuple[str, str]:
    """The difference in words and its shade: "+0.012" and "up1", "÷4.0" and "down2", "0.000" and "same".

    Scores and shapes differ by subtraction, seconds by ratio. Shades run to 3 by `SCORE_STEPS` and `RATIO_STEPS`.
    """
    if pd.isna(theirs) or pd.isna(mine):
        return "", "none"
    if column.endswith("seconds_per_image"):
        if theirs <= 0 or mine <= 0:
            return "", "none"
        ratio = mine / theirs
        size, sign = max(ratio, 1 / ratio), "up" if ratio > 1 else "down"
        level = sum(size >= step for step in RATIO_STEPS)
        return ("×" if ratio >= 1 else "÷") + f"{size:.3g}", f"{sign}{level}" if level else "same"
    gap = mine - theirs
    if column in ("height", "width", "channels"):
        return (f"{gap:+.0f}".replace("-", "−"), "up2" if gap > 0 else "down2") if gap else ("=", "same")
    # rounded as shown, so that text and shade agree
    gap = round(gap, 3)
    level = sum(abs(gap) >= step for step in SCORE_STEPS)
    shown = f"{gap:+.3f}".replace("-", "−") if gap else "0.000"
    return shown, (("up" if gap > 0 else "down") + str(level)) if level else "same"
