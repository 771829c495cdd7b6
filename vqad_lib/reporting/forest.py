"""Differences with their intervals, a line each, on both sides of zero: a forest plot."""

import pandas as pd
from matplotlib.figure import Figure

from vqad_lib.reporting.figures import COLOURS, subplots

_SPLITS = {"paper": (COLOURS["VT"], "o"), "official": (COLOURS["GT"], "s")}


def forest(rows: pd.DataFrame, *, xlabel: str) -> Figure:
    """Draw one line per comparison, split by split, with the paper's difference as a cross.

    Args:
        rows: protocol, detector, comparison, difference, difference_low, difference_high, reported_difference.
        xlabel: what is on the axis, with its unit.
    """
    rows = rows.assign(name=[_name(d, c) for d, c in zip(rows["detector"], rows["comparison"], strict=True)])
    names = rows["name"].drop_duplicates().tolist()
    place = {name: -i for i, name in enumerate(names)}
    figure, axis = subplots(figsize=(6.2, 0.6 + 0.42 * len(names)))
    for offset, (protocol, (colour, marker)) in zip((0.12, -0.12), _SPLITS.items(), strict=True):
        part = rows[rows["protocol"] == protocol]
        if part.empty:
            continue
        y = part["name"].map(place) + offset
        middle = part["difference"]
        bars = [middle - part["difference_low"], part["difference_high"] - middle]
        axis.errorbar(
            middle, y, xerr=bars, fmt=marker, color=colour, markersize=4, linewidth=1.2, label=f"split {protocol}"
        )
    theirs = rows.drop_duplicates("name")
    places = list(place.values())
    axis.plot(theirs["reported_difference"], places, "x", color="#333333", markersize=5, label="paper, its AUC")
    axis.axvline(0, color="#333333", linewidth=0.8)
    axis.set(xlabel=xlabel, yticks=places, yticklabels=names)
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _name(detector: str, comparison: str) -> str:
    """ "pixel_wise", "GP - VP" is "pixel-wise: GP − VP"."""
    return f"{detector.replace('_wise', '-wise').replace('_', ' ')}: {comparison.replace(' - ', ' − ')}"
