"""Tables of the page, as columns of cells for the macro `table_of`: differences can be seen, bounds stand beneath."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pandas import DataFrame, Series
from pandas.api.types import is_numeric_dtype

from vqad_lib.models.registry import AUTOENCODERS, COMBINATIONS, PRIORS
from vqad_lib.paper import caption, reported
from vqad_lib.reporting.comparison import COUNTERPARTS, difference_text, key_column
from vqad_lib.reporting.tables import Value, folded, load_table, row_name, table_path, without_labels

PAPERS_GROUP, HELD_OUT_GROUP = "the paper's metrics", "held-out selection, with 95% intervals"
SEEDS_GROUP = "mean ± sd over training seeds"
HELD_OUT = ("f1", "auroc", "auprc")
HEADINGS = {
    "auroc_official": "AUROC, scheme official",
    "seconds_per_image": "s / image",
    "seconds_low": "Fastest repeat",
    "seconds_high": "Slowest repeat",
    "threshold_nats": "λ (nats)",
    "threshold_percentile": "λ percentile",
    "sound_percentile": "λ percentile, held-out",
    "threshold_score": "Decision threshold",
}
_ABBREVIATIONS = {"auc": "AUC", "auroc": "AUROC", "auprc": "AUPRC"}
_NEAREST = "nearest training frame"
_SIDES = ("height", "width", "channels")


class Cell(NamedTuple):
    """What stands in one place of a table on the page.

    Attributes:
        under: small print.
        kind: CSS classes, beside those of its column.
        columns: how many it fills; those that it covers have None in their place.
        href: where it leads.
    """

    text: str
    under: str = ""
    kind: str = ""
    columns: int = 1
    href: str = ""


class Column(NamedTuple):
    """One column: its heading, its cells, their CSS classes ("name" heads the rows), and what stands above several."""

    title: str
    cells: list[Cell | None]
    kind: str = "number"
    group: str = ""


def page_table(frame: DataFrame, *, table: int | None) -> list[Column]:
    """A table for the page: the paper's number, ours and the difference side by side; scores with intervals.

    First comes the column that names the rows, then what is compared, then what belongs to no metric.

    Args:
        frame: as `tables.load_table` gives it; the label columns are left out.
        table: 1-27, or None where the paper has no such table.
    """
    frame = without_labels(frame)
    if table in (1, 2) and "component_in_paper" in frame:
        return _shapes(frame)
    key = key_column(frame, table) if table is not None and table > 2 else None
    values, papers = folded(frame), _paper_thresholds(frame, key, table)
    groups = _groups(frame)
    shown = {name for pairs in groups.values() for pair in pairs for name in pair}
    shown |= {"seeds"} if SEEDS_GROUP in groups else set()
    plain = [name for name in values if name not in shown] or list(values)[:1]
    first = key if key in plain else plain[0]
    columns = [Column(heading(first), [_cell(value) for value in values[first]], "name")]
    for group, pairs in groups.items():
        title = f"{group} ({frame['seeds'].max():.0f})" if group == SEEDS_GROUP and "seeds" in frame else group
        for theirs, mine in pairs:
            name, ours = heading(mine), [_cell(value) for value in values[mine]]
            if not theirs:
                columns.append(Column(name, ours, "number edge", title))
                continue
            differences = [difference_text(*pair, mine) for pair in zip(frame[theirs], frame[mine], strict=True)]
            columns += [
                Column(f"{name} paper", [_cell(value) for value in values[theirs]], "number paper edge", title),
                Column(f"{name} ours", ours, "number", title),
                Column("Δ", [Cell(text, kind=shade) for text, shade in differences], "number delta", title),
            ]
    for name in plain:
        # a model that the caption names need not stand in every row
        if name != first and (name != "model" or frame["model"].nunique() > 1):
            below = papers.get(name, [""] * len(frame))
            cells = [_cell(value, paper) for value, paper in zip(values[name], below, strict=True)]
            columns.append(Column(heading(name), cells, "number" if is_numeric_dtype(frame[name]) else "text"))
    return columns


def _groups(frame: DataFrame) -> dict[str, list[tuple[str, str]]]:
    """What is compared, by the heading above it: (the paper's column or "", ours)."""
    compared = [(f"reported_{name}", mine) for name, (mine, _) in COUNTERPARTS.items()]
    compared += [(f"paper_{name}", name) for name in frame]
    compared = [pair for pair in compared if set(pair) <= set(frame)]
    has_paper = {mine for _, mine in compared}
    alone = [f"{name}_paper_protocol" for name in ("f1", "auc")]
    compared += [("", name) for name in alone if name in frame and name not in has_paper]
    held_out = [("", name) for name in HELD_OUT if {name, f"{name}_low"} <= set(frame)]
    held_out += [("", "auroc_official")] if "auroc_official" in frame else []
    seeds = [("", name) for name in frame if name.endswith("_mean") and f"{name.removesuffix('_mean')}_sd" in frame]
    # seconds and shapes have no metric
    first = "beside the paper" if has_paper & set(COUNTERPARTS) else PAPERS_GROUP
    groups = {first: compared, HELD_OUT_GROUP: held_out, SEEDS_GROUP: seeds}
    return {name: pairs for name, pairs in groups.items() if pairs}


def heading(column: str) -> str:
    """A column's name for people."""
    if column.endswith("_paper_protocol_mean"):
        return f"{heading(column.removesuffix('_mean'))}, paper’s metrics"
    base = column.removesuffix("_mean").removesuffix("_paper_protocol")
    words = " ".join(_ABBREVIATIONS.get(word, word) for word in base.split("_"))
    return HEADINGS.get(base, words[:1].upper() + words[1:])


def _cell(value: Value, paper: str = "") -> Cell:
    """A number or words; beneath it what the paper has there, its interval or its spread."""
    to = " to " if "-" in value.low + value.high else "–"  # a dash between negative numbers would be read as a sign
    interval = f"{value.low}{to}{value.high}".replace("-", "−") if value.low and value.high else ""
    spread = f"± {value.spread}" if value.spread else ""
    # a detector's name for people: "light_pixel_wise" is "light pixel-wise"
    words = value.text.replace("_wise", "-wise").replace("light_", "light ")
    return Cell(words, f"paper {paper}" if paper else interval or spread)


def _paper_thresholds(frame: DataFrame, key: str | None, table: int | None) -> dict[str, list[str]]:
    """Column of ours -> the lambda or percentile that the paper prints in each row, "" where none (Tables 6-8)."""
    # the official scheme's table has no number of the paper's beside it, so no threshold either
    if key is None or table is None or "reported_f1" not in frame:
        return {}
    shown = {}
    for theirs in {"lambda_nats", "threshold_percentile"} & set(reported(table)):
        values = {row_name(name): f"{value:g}" for name, value in reported(table)[theirs].items()}
        shown[COUNTERPARTS[theirs][0]] = [values.get(name, "") for name in frame[key].map(row_name)]
    return shown


def _shapes(frame: DataFrame) -> list[Column]:
    """Tables 1 and 2: a line per component, shapes as height × width × channels, and by what factor ours differ."""
    rows = [row for _, row in frame.iterrows()]
    names = {"Component": "component", "Component in the paper": "component_in_paper"}
    differences = [_shape_difference(row) for row in rows]
    return [
        *(Column(title, [Cell(text) for text in frame[name].fillna("")], "name") for title, name in names.items()),
        Column("Shape, paper", [Cell(_shape(row, "paper_")) for row in rows], "number paper edge"),
        Column("Shape, ours", [Cell(_shape(row, "")) for row in rows]),
        Column("Δ", [Cell(text, kind=shade) for text, shade in differences], "number delta"),
    ]


def _shape(row: Series, prefix: str) -> str:
    sides = [row[prefix + side] for side in _SIDES]
    return "" if any(pd.isna(side) for side in sides) else " × ".join(f"{int(side)}" for side in sides)


def _shape_difference(row: Series) -> tuple[str, str]:
    """ "size ÷2, channels ÷4" and a shade; "=" where the shapes are the same."""
    if not (_shape(row, "") and _shape(row, "paper_")):
        return "", ""
    height, width, channels = (row[side] / row[f"paper_{side}"] for side in _SIDES)
    ratios = {"size": height} if height == width else {"height": height, "width": width}
    changed = {name: ratio for name, ratio in (ratios | {"channels": channels}).items() if ratio != 1}
    words = [f"{name} ×{ratio:.3g}" if ratio > 1 else f"{name} ÷{1 / ratio:.3g}" for name, ratio in changed.items()]
    if not words:
        return "=", "same"
    return ", ".join(words), "up1" if min(changed.values()) > 1 else "down1"


def overview(tables: Path) -> list[Column]:
    """The results in one look: every detector with every model, and how much of it needs no model at all.

    Args:
        tables: reports/<profile>/<data set>/tables.

    Returns:
        AUC by the paper's metrics with its difference, and AUROC on scheme official, from Tables 6-9; [] where Table 6
        is not there. What stands for an autoencoder alone, or for no model, fills several columns.
    """
    found = {number: load_table(tables, number) for number in range(6, 10) if table_path(tables, number).exists()}
    if 6 not in found:
        return []
    rows = [
        (Cell(caption("table", number).short, href=f"#table_{number:02d}"), frame[frame["model"] != _NEAREST])
        for number, frame in found.items()
    ]
    nearest = found[6][found[6]["model"] == _NEAREST]
    rows += [(Cell(f"No model: {_NEAREST}"), nearest)] if len(nearest) else []
    columns = [Column("Detector", [cell for cell, _ in rows], "name")]
    groups = {
        "auc_paper_protocol": "AUC by the paper’s metrics, ours and Δ",
        "auroc_official": heading("auroc_official"),
    }
    for score, group in groups.items():
        if any(score in frame for _, frame in rows):
            for place, model in enumerate(COMBINATIONS.values()):
                cells = [_score_cell(frame.set_index("model"), place, score) for _, frame in rows]
                columns.append(Column(model, cells, "number edge" if place == 0 else "number", group))
    return columns


def _score_cell(frame: DataFrame, place: int, score: str) -> Cell | None:
    """The score of the combination in that place, or of what several columns have in common."""
    (autoencoder, _), model = list(COMBINATIONS.items())[place]
    spans = {model: 1, AUTOENCODERS[autoencoder].title: len(PRIORS), _NEAREST: len(COMBINATIONS)}
    name = next((name for name in spans if name in frame.index), None)
    if name is None or pd.isna(value := frame.loc[name].get(score)):
        return Cell("")
    if place % spans[name]:
        return None
    difference, shade = "", ""
    if score == "auc_paper_protocol":
        difference, shade = difference_text(frame.loc[name].get("reported_auc"), value, score)
    shade += " middle" if spans[name] > 1 else ""
    return Cell(f"{value:.3f}", difference, shade.strip(), spans[name])


def leak_facts(tables: Path) -> dict[str, str]:
    """AUROC of the nearest training frame by scheme, as text: {"paper": "0.999", "official": "0.672"}.

    Args:
        tables: reports/<profile>/<data set>/tables; the numbers stand in its leak.csv.

    Returns:
        Nothing ({}) where there is no such table, or where scheme paper does not leak (AUROC below 0.9).
    """
    if not table_path(tables, 0, name="leak").exists():
        return {}
    frame = load_table(tables, 0, name="leak").rename(columns={"protocol": "scheme"})  # its name in older results
    leak = frame.set_index("scheme").get("auroc", Series(dtype=float)).dropna()
    return {name: f"{value:.3f}" for name, value in leak.items()} if leak.get("paper", 0.0) >= 0.9 else {}
