"""The figure of AUROC against distance in time to the training frames, from its table alone."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from vqad_lib.errors import VqadError
from vqad_lib.reporting.figures import COLOURS, subplots

_MARKERS = {"VP": "o", "VT": "o", "GP": "s", "GT": "s", "Ganomaly": "D", "DFKDE": "D", "nearest training frame": "v"}
_OTHER_MARKER = "^"


def leak_in_time_figure(rows: DataFrame, *, left_out: str, by_gap: str, other_split: str) -> Figure:
    """Left: the nearest training frame, ever more of them left out. Right: every model, by the gap of the test frames.

    Args:
        rows: model, view, frames (text), auroc, auroc_low, auroc_high (NaN: no bar), normal_frames.
        left_out, by_gap, other_split: the values of `view`.

    Raises:
        VqadError: there are no rows of the first two views.
    """
    curve, groups, official = (rows[rows["view"] == view] for view in (left_out, by_gap, other_split))
    if curve.empty or groups.empty:
        raise VqadError("the leak in time needs AUROC with training frames left out, and by gap")
    figure, (left, right) = subplots(
        1, 2, figsize=(7.6, 3.8), sharey=True, layout="constrained", width_ratios=[1, 1.15]
    )
    _draw_curve(left, curve, official)
    _draw_groups(right, groups, official)
    lowest = np.nanmin(rows[["auroc", "auroc_low"]].to_numpy(dtype=float))
    left.set_ylim(min(0.5, np.floor(lowest * 10) / 10), 1.03)  # markers at 1 are seen whole
    left.set_ylabel("AUROC")
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def _draw_curve(axis: Axes, curve: DataFrame, official: DataFrame) -> None:
    model = curve["model"].iloc[0]
    places, colour = np.arange(len(curve)), COLOURS[model]
    axis.fill_between(places, curve["auroc_low"], curve["auroc_high"], color=colour, alpha=0.15, linewidth=0)
    axis.plot(places, curve["auroc"], color=colour, marker="v", markersize=4)
    axis.set_xticks(places, [name.replace(" ", "\n") for name in curve["frames"]])
    axis.set_xlabel("training frames of the clip closer than this\nare left out (frames)")
    axis.set_title(f"Split paper: {model}, no model")
    for value in official.loc[official["model"] == model, "auroc"]:
        axis.axhline(value, color=colour, linestyle="--", linewidth=1)
        right_below = {"xytext": (0, -4), "textcoords": "offset points", "ha": "right", "va": "top", "fontsize": 7.5}
        axis.annotate("the same on split official", (places[-1], value), **right_below)
    axis.grid(visible=False, axis="x")


def _draw_groups(axis: Axes, groups: DataFrame, official: DataFrame) -> None:
    names, models = list(dict.fromkeys(groups["frames"])), list(dict.fromkeys(groups["model"]))
    columns = [(f"{name} frame" + ("s" if " " in name else ""), groups[groups["frames"] == name]) for name in names]
    columns += [("other clips\n(split official)", official)] if len(official) else []
    for number, model in enumerate(models):
        shift = 0.7 * ((number + 0.5) / len(models) - 0.5)
        found = [part[part["model"] == model].assign(place=x + shift) for x, (_, part) in enumerate(columns)]
        places, middle, low, high = pd.concat(found)[["place", "auroc", "auroc_low", "auroc_high"]].to_numpy(float).T
        bars = np.nan_to_num(np.stack([middle - low, high - middle]).clip(min=0))
        axis.errorbar(
            places,
            middle,
            yerr=bars,
            color=COLOURS[model],
            marker=_MARKERS.get(model, _OTHER_MARKER),
            linestyle="none",
            markersize=4.5,
            elinewidth=1,
            label=model,
        )
    labels = [f"{name}\n{part['normal_frames'].iloc[0]} normal frames" for name, part in columns]
    axis.set_xticks(range(len(columns)), labels)
    axis.set_xlim(-0.5, len(columns) - 0.5)
    for x in range(1, len(columns)):
        axis.axvline(x - 0.5, color="#CCCCCC", linewidth=0.7)
    axis.set_xlabel("from a normal test frame to the nearest training frame")
    axis.set_title("All models, nothing trained anew")
    axis.grid(visible=False, axis="x")
