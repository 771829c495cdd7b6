"""How training went, differences with their intervals, and the leak in time."""

import math
from itertools import cycle

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from vqad_lib.errors import VqadError
from vqad_lib.models.registry import AUTOENCODERS, COMBINATIONS
from vqad_lib.reporting.figures import COLOURS, subplots

_NOT_TERMS = ("monitored", "loss", "adaptive_weight", "adversarial")
_SCHEMES = {"paper": (COLOURS["normal"], "o", 0.12), "official": (COLOURS["anomalous"], "s", -0.12)}
# a marker for each autoencoder, and for the models of others
_OF_AUTOENCODER = dict(zip(AUTOENCODERS, cycle("osphX"), strict=False))
_MARKERS = {name: _OF_AUTOENCODER[autoencoder] for (autoencoder, _), name in COMBINATIONS.items()}
_MARKERS |= {"Ganomaly": "D", "DFKDE": "D", "nearest training frame": "v"}


def training_curves(curves: DataFrame, *, network: str, title: str, uniform_nats: float | None = None) -> Figure:
    """Training and validation loss; beside it the terms, and for a VQ-GAN the two sides of the game.

    Args:
        curves: one row per epoch, as `Trained.curves`: epoch, train_<network>_<term>, validation_<network>_<term>.
        network: key of an autoencoder or of a prior, for example "vqgan".
        uniform_nats: for a prior, the loss of a uniform guess, nats per code; drawn as a dotted line.

    Raises:
        KeyError: `curves` has no monitored loss of that network.
    """
    prefix = f"train_{network}_"
    terms = {column.removeprefix(prefix): column for column in curves if column.startswith(prefix)}
    # without those that are zero throughout, as a codebook of running averages
    terms = {name: column for name, column in terms.items() if name not in _NOT_TERMS and (curves[column] > 0).any()}
    game = {"generator": f"{prefix}adversarial", "discriminator": "train_discriminator_loss"}
    game = game if set(game.values()) <= set(curves) else {}
    panels = 1 + bool(terms) + bool(game)
    figure, axes = subplots(1, panels, figsize=(4.5 if panels == 1 else 3.4 * panels, 3.0), squeeze=False)
    first, last = axes[0, 0], axes[0, -1]
    _draw_lines(first, curves, {part: f"{part}_{network}_monitored" for part in ("train", "validation")})
    if uniform_nats is not None and math.isfinite(uniform_nats):
        first.axhline(uniform_nats, linestyle=":", color="grey", label="uniform guess")
    first.set(title=title, ylabel="loss" if uniform_nats is None else "nats per code")
    if terms:
        _draw_lines(axes[0, 1], curves, terms)
        # the terms differ in size by orders of magnitude
        axes[0, 1].set(title="terms, in training", ylabel="loss", yscale="log")
    if game:
        # the discriminator's loss is recorded as zero until the game begins
        _draw_lines(last, curves[curves[game["generator"]].notna()], game)
        last.set(title="adversarial loss (eq. 13)", ylabel="loss")
    for axis in axes[0]:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(6, integer=True))
        # beneath the panel, where no curve can run
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False, columnspacing=1)
    return figure


def _draw_lines(axis: Axes, curves: DataFrame, columns: dict[str, str]) -> None:
    for name, column in columns.items():
        axis.plot(*curves[["epoch", column]].dropna().to_numpy().T, marker="o", markersize=4, label=name)


def forest(rows: DataFrame, *, xlabel: str) -> Figure:
    """One line per comparison, scheme by scheme, with the paper's difference as a cross: a forest plot.

    Args:
        rows: scheme, detector, comparison, difference, difference_low, difference_high, reported_difference.
        xlabel: what is on the axis, with its unit.
    """
    # "pixel_wise", "GP - VP" is "pixel-wise: GP − VP"
    detectors = rows["detector"].str.replace("_wise", "-wise").str.replace("_", " ")
    rows = rows.rename(columns={"protocol": "scheme"})  # its name in older results
    rows = rows.assign(name=detectors + ": " + rows["comparison"].str.replace(" - ", " − "))
    names = rows["name"].unique()
    place = pd.Series(-np.arange(len(names)), names)
    figure, axis = subplots(figsize=(6.2, 0.6 + 0.42 * len(names)))
    for scheme, part in rows.groupby("scheme", sort=False):
        colour, marker, offset = _SCHEMES[scheme]
        middle, y = part["difference"], part["name"].map(place) + offset
        bars = [middle - part["difference_low"], part["difference_high"] - middle]
        style = {"fmt": marker, "color": colour, "markersize": 4, "linewidth": 1.2}
        axis.errorbar(middle, y, xerr=bars, label=f"scheme {scheme}", **style)
    theirs = rows.drop_duplicates("name")["reported_difference"]
    axis.plot(theirs, place, "x", color="#333333", markersize=5, label="paper, its AUC")
    axis.axvline(0, color="#333333", linewidth=0.8)
    axis.set(xlabel=xlabel, yticks=place, yticklabels=names)
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


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
    options = {"sharey": True, "layout": "constrained", "width_ratios": [1, 1.15]}
    figure, (left, right) = subplots(1, 2, figsize=(7.6, 3.8), **options)
    _draw_curve(left, curve, official)
    _draw_groups(right, groups, official)
    for axis in (left, right):
        axis.grid(visible=False, axis="x")
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
    axis.set_title(f"Scheme paper: {model}")
    for value in official.loc[official["model"] == model, "auroc"]:
        axis.axhline(value, color=colour, linestyle="--", linewidth=1)
        right_below = {"xytext": (0, -4), "textcoords": "offset points", "ha": "right", "va": "top", "fontsize": 7.5}
        axis.annotate("the same on scheme official", (places[-1], value), **right_below)


def _draw_groups(axis: Axes, groups: DataFrame, official: DataFrame) -> None:
    by_gap = groups.groupby("frames", sort=False)
    columns = {f"{name} frame" + ("s" if " " in name else ""): part for name, part in by_gap}
    columns |= {"other clips\n(scheme official)": official} if len(official) else {}
    models = groups["model"].unique()
    for number, model in enumerate(models):
        shift = 0.7 * ((number + 0.5) / len(models) - 0.5)
        found = [part[part["model"] == model].assign(place=x + shift) for x, part in enumerate(columns.values())]
        places, middle, low, high = pd.concat(found)[["place", "auroc", "auroc_low", "auroc_high"]].to_numpy(float).T
        bars = np.nan_to_num(np.stack([middle - low, high - middle]).clip(min=0))
        style = {"fmt": _MARKERS.get(model, "^"), "color": COLOURS.get(model), "markersize": 4.5, "elinewidth": 1}
        axis.errorbar(places, middle, yerr=bars, label=model, **style)
    labels = [f"{name}\n{part['normal_frames'].iloc[0]} normal frames" for name, part in columns.items()]
    axis.set(xticks=range(len(columns)), xticklabels=labels, xlim=(-0.5, len(columns) - 0.5))
    for x in range(1, len(columns)):
        axis.axvline(x - 0.5, color="#CCCCCC", linewidth=0.7)
    axis.set(xlabel="from a normal test frame to the nearest training frame", title="All models, nothing trained anew")
