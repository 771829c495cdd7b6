"""Figures of the benchmarks, each from its table alone."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from pandas import DataFrame

from vqad_lib.models.registry import PRIORS
from vqad_lib.reporting.figures import COLOURS, subplots

ALGORITHM_COLOURS = {"plain": COLOURS["anomalous"], "fast": COLOURS["normal"]}
_PLAIN_NUMBERS = "{x:g}"  # 20, not 2 x 10^1
_AXIS_TITLES = {"images": "images", "n_restorations": "restorations per image", "codes_per_grid": "codes per grid"}


def restoration_figure(rows: DataFrame) -> Figure:
    """How many times faster, over the percentile of the threshold: a panel per prior, a line per number N."""
    priors = list(dict.fromkeys(rows["prior"]))
    figure, axes = subplots(1, len(priors), figsize=(7.6, 3.2), squeeze=False)
    for axis, prior in zip(axes[0], priors, strict=True):
        for n, line in rows[rows["prior"] == prior].groupby("n_restorations"):
            axis.plot(line["percentile"], line["ratio"], marker="o", markersize=4, label=f"N = {n}")
        axis.axhline(1, color="#777777", linewidth=0.8)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(_PLAIN_NUMBERS)
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_xticks(sorted(set(rows["percentile"])))
        axis.set_title(PRIORS[prior].title)
        axis.set_xlabel("threshold percentile")
        axis.set_ylabel("seconds of plain / of fast")
        axis.legend(frameon=False)
    return figure


def detectors_figure(rows: DataFrame) -> Figure:
    """Images per second, logarithmic: a group of bars per detector, a bar per combination."""
    table = rows.pivot_table(index="detector", columns="model", values="images_per_s", sort=False)
    figure, axis = subplots(figsize=(7.6, 0.55 * len(table) + 1.6))
    width = 0.8 / len(table.columns)
    for i, model in enumerate(table.columns):
        known = table[model].dropna()
        at = [list(table.index).index(name) + (i - (len(table.columns) - 1) / 2) * width for name in known.index]
        axis.barh(at, known, height=width, color=COLOURS.get(model, "#777777"), label=model)
    axis.set_yticks(range(len(table)), table.index)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(_PLAIN_NUMBERS)
    axis.set_xlabel("images per second")
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def curves_figure(curves: DataFrame) -> Figure:
    """Loss over steps: a line per settings and seed."""
    figure, axis = subplots(figsize=(6.4, 3.4))
    for settings, style in (("plain", "-"), ("fast", "--")):
        for seed, curve in curves.groupby("seed"):
            label = f"{settings}, one line per seed" if seed == curves["seed"].min() else None
            colour = ALGORITHM_COLOURS[settings]
            axis.plot(curve["step"], curve[settings], style, color=colour, linewidth=1.2, alpha=0.8, label=label)
    axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.set_ylabel("loss (eq. 7)")
    axis.legend(frameon=False)
    return figure


def memory_figure(rows: DataFrame) -> Figure:
    """Peak memory beyond what was there before scoring, over the number of images."""
    figure, axis = subplots(figsize=(5.2, 3.2))
    axis.plot(rows["images"], rows["peak_increase_mib"], marker="o", color=COLOURS["normal"])
    axis.set_xscale("log")
    axis.set_xticks(rows["images"], [f"{n:,}" for n in rows["images"]])
    axis.minorticks_off()
    axis.set_ylim(bottom=0)
    axis.set_xlabel("images")
    axis.set_ylabel("peak increase (MiB)")
    return figure


def scaling_figure(rows: DataFrame, exponents: DataFrame) -> Figure:
    """Seconds over each axis, both logarithmic: a row per prior; the legend has the fitted exponents."""
    priors, names = list(dict.fromkeys(rows["prior"])), list(dict.fromkeys(rows["axis"]))
    size_in = (8.6, 2.6 * len(priors) + 0.4)
    figure, axes = subplots(len(priors), len(names), figsize=size_in, squeeze=False)
    for row, prior in zip(axes, priors, strict=True):
        for axis, name in zip(row, names, strict=True):
            here = (rows["prior"] == prior) & (rows["axis"] == name)
            fitted = exponents[(exponents["prior"] == prior) & (exponents["axis"] == name)]
            _draw_growth(axis, rows[here], fitted.set_index("algorithm")["exponent"].to_dict())
            axis.set_xlabel(_AXIS_TITLES[name])
            axis.set_title(PRIORS[prior].title)
        row[0].set_ylabel("seconds")
    return figure


def _draw_growth(axis: Axes, rows: DataFrame, exponents: dict[str, float]) -> None:
    for algorithm, line in rows.groupby("algorithm", sort=False):
        known = exponents.get(algorithm)
        label = algorithm if known is None else f"{algorithm}, exponent {known:.2f}"
        axis.plot(
            line["value"], line["seconds"], marker="o", markersize=4, color=ALGORITHM_COLOURS[algorithm], label=label
        )
    values = sorted(set(rows["value"]))
    axis.set_xscale("log", base=2)
    axis.set_xticks(values, [f"{value}" for value in values])
    axis.set_yscale("log")
    axis.legend(frameon=False, fontsize=7)


def roofline_figure(rows: DataFrame) -> Figure:
    """A bar per phase: its percentage of the measured roofline."""
    figure, axis = subplots(figsize=(6.8, 0.34 * len(rows) + 1.2))
    at = np.arange(len(rows))
    axis.barh(at, 100 * rows["fraction"], color=COLOURS["normal"])
    axis.set_yticks(at, rows["phase"] + ", " + rows["network"])
    axis.invert_yaxis()
    axis.set_xlabel("operations per second, % of a large matrix product's")
    return figure
