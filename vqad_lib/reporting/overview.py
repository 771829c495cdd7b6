"""The results in one look: every detector with every model, and how much of it needs no model at all."""

from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup, escape
from pandas import DataFrame, Series

from vqad_lib.reporting.comparison import difference_text
from vqad_lib.reporting.tables import load_table, table_path

DETECTORS = {6: "Sample-wise", 7: "Pixel-wise", 8: "Light pixel-wise", 9: "Regenerative"}
MODELS = ("VP", "VT", "GP", "GT")
NEAREST = "nearest training frame"


def overview_html(tables: Path) -> Markup:
    """AUC by the paper's protocol with its difference, and AUROC on split official, for Tables 6-9.

    Args:
        tables: reports/<profile>/<data set>/tables.

    Returns:
        A table; empty where Table 6 is not there. Table 9 has one row per autoencoder, which fills two columns.
    """
    found = {number: load_table(tables, number) for number in DETECTORS if table_path(tables, number).exists()}
    if 6 not in found:
        return Markup("")
    official = any("auroc_official" in frame for frame in found.values())
    groups = [("AUC by the paper’s protocol, ours and Δ", "auc_paper_protocol")]
    groups += [("AUROC, split official", "auroc_official")] if official else []
    head = "".join(f'<th scope="colgroup" class="group" colspan="4">{title}</th>' for title, _ in groups)
    names = "".join(f'<th scope="col"{_edge(model)}>{model}</th>' for _ in groups for model in MODELS)
    rows = []
    for number, frame in found.items():
        link = f'<a href="#table_{number:02d}">{DETECTORS[number]}</a>'
        cells = "".join(_cells(frame, column) for _, column in groups)
        rows.append(f'<tr><th scope="row">{link}</th>{cells}</tr>')
    nearest = found[6][found[6]["model"] == NEAREST]
    if len(nearest):
        cells = "".join(_cell(nearest.iloc[0], column, span=4, edge=True) for _, column in groups)
        rows.append(f'<tr><th scope="row">No model: {NEAREST}</th>{cells}</tr>')
    top = f'<tr><th scope="col" class="name" rowspan="2">Detector</th>{head}</tr><tr>{names}</tr>'
    return Markup(f"<table><thead>{top}</thead><tbody>{''.join(rows)}</tbody></table>")


def _edge(model: str) -> str:
    return ' class="edge"' if model == MODELS[0] else ""


def _cells(frame: DataFrame, column: str) -> str:
    by_model = frame.set_index("model")
    pairs = {"VQ-VAE": 2, "VQ-GAN": 2} if "VQ-VAE" in by_model.index else dict.fromkeys(MODELS, 1)
    cells = [
        _cell(by_model.loc[name] if name in by_model.index else None, column, span=span, edge=name in ("VP", "VQ-VAE"))
        for name, span in pairs.items()
    ]
    return "".join(cells)


def _cell(row: Series | None, column: str, *, span: int, edge: bool) -> str:
    value = float("nan") if row is None else row.get(column, float("nan"))
    text, shade = ("–", "") if pd.isna(value) else (f"{value:.3f}", "")
    reported = float("nan") if row is None else row.get("reported_auc", float("nan"))
    if column == "auc_paper_protocol":
        difference, shade = difference_text(reported, value, column)
        text += f" <small>{escape(difference)}</small>" if difference else ""
    classes = " ".join(
        part
        for part in ("number", "edge" if edge else "", "middle" if span > 1 else "", shade)
        if part and part != "none"
    )
    return f'<td class="{classes}"' + (f' colspan="{span}"' if span > 1 else "") + f">{text}</td>"


def leak_facts(tables: Path) -> dict[str, Any]:
    """AUROC of the nearest training frame by split, as text: {"paper": "0.999", "official": "0.672"}.

    Args:
        tables: reports/<profile>/<data set>/tables; the numbers stand in its leak.csv.

    Returns:
        Nothing ({}) where there is no such table, or where split paper does not leak (AUROC below 0.9).
    """
    if not table_path(tables, 0, name="leak").exists():
        return {}
    frame = load_table(tables, 0, name="leak").set_index("protocol")
    leak = frame["auroc"].dropna() if "auroc" in frame else {}
    if leak.get("paper", 0.0) < 0.9:
        return {}
    return {"official": "", **{str(split): f"{value:.3f}" for split, value in leak.items()}}
