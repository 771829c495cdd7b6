"""Tables 1 and 2 for the page: one line per component, the paper's shape beside ours."""

import pandas as pd
from markupsafe import Markup, escape
from pandas import DataFrame, Series

_SIDES = ("height", "width", "channels")


def shapes_html(frame: DataFrame) -> Markup:
    """A table of components with their shapes, height × width × channels, and by what factor ours differ.

    Args:
        frame: see `architecture.beside_paper_shapes`.
    """
    heads = ("Component", "Component in the paper", "Shape, paper", "Shape, ours", "Δ")
    kinds = ("name", "name", "edge", "", "")
    head = "".join(f'<th scope="col" class="{kind}">{name}</th>' for name, kind in zip(heads, kinds, strict=True))
    rows = []
    for _, row in frame.iterrows():
        text, shade = _difference(row)
        rows.append(
            f'<tr><th scope="row">{_text(row["component"])}</th><th scope="row">{_text(row["component_in_paper"])}</th>'
            f'<td class="number paper edge">{_shape(row, "paper_")}</td><td class="number">{_shape(row, "")}</td>'
            f'<td class="number delta {shade}">{escape(text)}</td></tr>'
        )
    return Markup(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")


def _text(value: object) -> str:
    return "–" if pd.isna(value) else str(escape(value))


def _shape(row: Series, prefix: str) -> str:
    sides = [row[prefix + side] for side in _SIDES]
    return "–" if any(pd.isna(side) for side in sides) else " × ".join(f"{int(side)}" for side in sides)


def _difference(row: Series) -> tuple[str, str]:
    """ "size ÷2, channels ÷4" and a shade; "=" where the shapes are the same."""
    if any(pd.isna(row[prefix + side]) for side in _SIDES for prefix in ("", "paper_")):
        return "–", "none"
    height, width, channels = (row[side] / row[f"paper_{side}"] for side in _SIDES)
    ratios = {"size": height} if height == width else {"height": height, "width": width}
    changed = {name: ratio for name, ratio in (ratios | {"channels": channels}).items() if ratio != 1}
    words = [f"{name} ×{ratio:.3g}" if ratio > 1 else f"{name} ÷{1 / ratio:.3g}" for name, ratio in changed.items()]
    if not words:
        return "=", "same"
    return ", ".join(words), "up1" if min(changed.values()) > 1 else "down1"
