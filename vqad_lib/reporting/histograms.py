"""Score histograms of normal and anomalous images, several panels on one axis (Figures 6-8, the leak)."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas import DataFrame

from vqad_lib.errors import VqadError
from vqad_lib.reporting.figures import COLOURS, FULL_NAMES, subplots


def score_histograms(
    scores: DataFrame,
    *,
    xlabel: str,
    thresholds: dict[str, float] | None = None,
    threshold_label: str = "decision threshold, sound protocol (from validation)",
    log_scores: bool = False,
) -> Figure:
    """Normal against anomalous scores, one panel a model, on one score axis (Figures 6-8).

    Args:
        scores: columns model (or what else a panel shows), label (0 or "normal", 1 or "anomalous"), score (float, any
            range).
        xlabel: the score's name with its unit, for example "sample-wise score (nats)".
        thresholds: model -> decision threshold in the score's unit, drawn as a dashed line.
        threshold_label: which threshold that is, for the legend; by default column threshold_score of Tables 6-8.
        log_scores: a logarithmic score axis; linear close to zero where a score is zero, so that it has its place. The
            axis says so.

    Raises:
        VqadError: a column is missing or there is no score.
    """
    missing = {"model", "label", "score"} - set(scores.columns)
    if missing or scores.empty:
        raise VqadError(
            f"score histograms need model, label and score; missing: {', '.join(sorted(missing)) or 'rows'}"
        )
    models = [name for name in COLOURS if name in set(scores["model"])]
    models += [name for name in dict.fromkeys(scores["model"]) if name not in models]
    columns = min(2, len(models))
    rows = -(-len(models) // columns)
    figure, axes = subplots(
        rows, columns, figsize=(3.6 * columns, 2.2 * rows + 0.6), sharex=True, squeeze=False, layout="constrained"
    )
    values = scores["score"].to_numpy(dtype=float)
    linear_up_to = _linear_up_to(values)
    edges = _bin_edges(values, linear_up_to if log_scores else None)
    for axis, model in zip(axes.flat, models, strict=False):
        _draw_histogram(axis, scores[scores["model"] == model], edges)
        if thresholds and model in thresholds:
            axis.axvline(thresholds[model], color="#222222", linestyle="--", linewidth=1, label=threshold_label)
        axis.set_title(FULL_NAMES.get(model, model) + (f" ({model})" if model in FULL_NAMES else ""))
        if log_scores:
            axis.set_xscale("symlog", linthresh=linear_up_to)
            axis.xaxis.set_major_locator(mpl.ticker.FixedLocator(_log_ticks(edges, linear_up_to)))
            axis.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axis.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axis.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    for axis in axes.flat[len(models) :]:
        axis.set_visible(False)
    # axis labels, for the footer's strip does not make room for a supxlabel
    for axis in axes[-1]:
        axis.set_xlabel(f"{xlabel}\n{_log_name(values)}" if log_scores else xlabel)
    for axis in axes[:, 0]:
        axis.set_ylabel("share of class (%)")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    return figure


def _log_name(values: NDArray) -> str:
    begins = "" if values.min() > 0 else f" above {float(f'{_linear_up_to(values):.2g}'):g}"
    return f"logarithmic axis{begins}"


def _linear_up_to(values: NDArray) -> float:
    """Where a symmetric logarithmic axis begins to be logarithmic."""
    if values.min() > 0:
        return float(values.min())  # logarithmic throughout
    # the smallest positive scores are few; the 5th percentile keeps the linear part short and the log part useful
    return float(np.percentile(np.abs(values[values != 0]), 5)) if np.any(values) else 1.0


def _bin_edges(values: NDArray, linear_up_to: float | None, bins: int = 40) -> NDArray:
    """Edges of equal width on the axis that is drawn: linear, or symmetric logarithmic."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.linspace(low - 0.5, low + 0.5, bins + 1)
    if linear_up_to is None:
        return np.linspace(low, high, bins + 1)
    transform = mpl.scale.SymmetricalLogTransform(10, linear_up_to, 1)
    ends = transform.transform(np.array([low, high]))
    edges = transform.inverted().transform(np.linspace(*ends, bins + 1))
    edges[0], edges[-1] = low, high  # rounding must not leave the extreme scores outside
    return edges


def _log_ticks(edges: NDArray, linear_up_to: float, *, apart: float = 0.12) -> list[float]:
    """Round values within the edges: 0, powers of ten, then 2 and 5 times those, where they leave room for a label.

    Args:
        apart: the least distance between two ticks, as a share of the axis.
    """
    low, high = float(edges[0]), float(edges[-1])
    transform = mpl.scale.SymmetricalLogTransform(10, linear_up_to, 1)
    least_gap = apart * float(np.ptp(transform.transform(np.array([low, high]))))
    exponents = range(int(np.floor(np.log10(linear_up_to))) - 1, int(np.ceil(np.log10(max(high, linear_up_to)))) + 1)
    wanted = [0.0] + [factor * 10.0**exponent for factor in (1, 2, 5) for exponent in reversed(exponents)]
    ticks: list[float] = []
    for value in wanted:
        at = transform.transform(np.array([value, *ticks]))
        if low <= value <= high and np.all(np.abs(at[1:] - at[0]) >= least_gap):
            ticks.append(value)
    return sorted(ticks)


def _draw_histogram(axis: Axes, scores: DataFrame, edges: NDArray) -> None:
    # the class as text, whether it came as 0 and 1 or as words; shares, for the classes differ in size
    words = {0: "normal", 1: "anomalous"}
    names = np.array([words.get(label, label) for label in scores["label"]])
    for name in ("normal", "anomalous"):
        values = scores.loc[names == name, "score"].to_numpy(dtype=float)
        if len(values):
            weights = np.full(len(values), 100 / len(values))
            filled = np.flatnonzero(np.histogram(values, edges)[0])
            own = edges[filled[0] : filled[-1] + 2]  # no line along zero where the class has no scores
            axis.hist(values, own, weights=weights, color=COLOURS[name], alpha=0.35, histtype="stepfilled")
            axis.hist(values, own, weights=weights, color=COLOURS[name], histtype="step", linewidth=1.3, label=name)
    axis.grid(visible=False, axis="x")
