"""Scores of normal and anomalous images: histograms (Figures 6-8, the leak), ROC and precision-recall curves."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas import DataFrame
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from vqad_lib.errors import VqadError
from vqad_lib.evaluation.metrics import check_scores
from vqad_lib.reporting.figures import COLOURS, FULL_NAMES, subplots

_COLUMNS = {"model", "label", "score"}
_CLASSES = {"normal": (0, "normal"), "anomalous": (1, "anomalous")}
_UNIT = np.linspace(0, 1, 6)
_NO_MODEL = "nearest training frame"


def score_histograms(
    scores: DataFrame,
    *,
    xlabel: str,
    thresholds: dict[str, float] | None = None,
    threshold_label: str = "decision threshold, chosen on validation",
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
    _check_columns(scores, "score histograms")
    models = _in_order(scores)
    columns = min(2, len(models))
    rows = -(-len(models) // columns)
    options = {"sharex": True, "squeeze": False, "layout": "constrained"}
    figure, axes = subplots(rows, columns, figsize=(3.6 * columns, 2.2 * rows + 0.6), **options)
    values = scores["score"].to_numpy(dtype=float)
    linear_up_to = _linear_up_to(values) if log_scores else None
    edges = _bin_edges(values, linear_up_to)
    for axis, model in zip(axes.flat, models, strict=False):
        _draw_histogram(axis, scores[scores["model"] == model], edges)
        if thresholds and model in thresholds:
            axis.axvline(thresholds[model], color="#222222", linestyle="--", linewidth=1, label=threshold_label)
        axis.set_title(FULL_NAMES.get(model, model))
        if linear_up_to is not None:
            axis.set_xscale("symlog", linthresh=linear_up_to)
            axis.xaxis.set_major_locator(mpl.ticker.FixedLocator(_log_ticks(edges, linear_up_to)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axis.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    for axis in axes.flat[len(models) :]:
        axis.set_visible(False)
    if linear_up_to is not None:
        begins = "" if values.min() > 0 else f" above {float(f'{linear_up_to:.2g}'):g}"
        xlabel += f"\nlogarithmic axis{begins}"
    # axis labels, for the footer's strip does not make room for a supxlabel
    for axis in axes[-1]:
        axis.set_xlabel(xlabel)
    for axis in axes[:, 0]:
        axis.set_ylabel("share of class (%)")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    return figure


def _check_columns(scores: DataFrame, what: str) -> None:
    missing = _COLUMNS - set(scores)
    if missing or scores.empty:
        raise VqadError(f"{what} need model, label and score; missing: {', '.join(sorted(missing)) or 'rows'}")


def _in_order(scores: DataFrame) -> list[str]:
    """The models of a table: those with a colour of their own first, then the others as they come."""
    present = scores["model"].unique().tolist()
    return sorted(present, key=lambda name: [*COLOURS, *present].index(name))


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
    edges = transform.inverted().transform(np.linspace(*transform.transform(np.array([low, high])), bins + 1))
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
    for name, written in _CLASSES.items():
        values = scores.loc[scores["label"].isin(written), "score"].to_numpy(dtype=float)
        if len(values):
            weights = np.full(len(values), 100 / len(values))  # shares, for the classes differ in size
            filled = np.flatnonzero(np.histogram(values, edges)[0])
            own = edges[filled[0] : filled[-1] + 2]  # no line along zero where the class has no scores
            options = {"bins": own, "weights": weights, "color": COLOURS[name]}
            axis.hist(values, alpha=0.35, histtype="stepfilled", **options)
            axis.hist(values, histtype="step", linewidth=1.3, label=name, **options)
    axis.grid(visible=False, axis="x")


def operating_curves(scores: dict[str, DataFrame]) -> Figure:
    """ROC curves on the left, precision-recall curves on the right, one row for each scheme (beside Figures 6-8).

    Args:
        scores: scheme -> columns model, label (0 normal or 1 anomalous), score (higher is more anomalous), test images.
            Each model needs both classes. "nearest training frame" is drawn dashed.

    Returns:
        The figure. Legends give AUROC and AUPRC, the areas that the result tables have; all axes run from 0 to 1. The
        dotted lines are what a guess reaches.

    Raises:
        VqadError: no scheme, a column is missing, or a model's labels or scores have no curve.
    """
    if not scores:
        raise VqadError("operating curves need the scores of one scheme at least")
    figure, axes = subplots(len(scores), 2, figsize=(7.2, 4.1 * len(scores) + 0.1), squeeze=False, layout="constrained")
    for (scheme, frame), (roc, pr) in zip(scores.items(), axes, strict=True):
        _check_columns(frame, f"operating curves, scheme {scheme},")
        for model in _in_order(frame):
            _draw_curves(roc, pr, frame[frame["model"] == model], model, scheme)
        guess = {"linestyle": ":", "color": "#888888", "linewidth": 1, "zorder": 1}
        base_rate = float(frame["label"].mean())
        roc.plot([0, 1], [0, 1], label="guess  0.500", **guess)
        pr.plot([0, 1], [base_rate, base_rate], label=f"guess  {base_rate:.3f}", **guess)
        roc.set(title=f"ROC, scheme {scheme}", xlabel="false positive rate", ylabel="true positive rate")
        pr.set(title=f"precision and recall, scheme {scheme}", xlabel="recall", ylabel="precision")
        for axis, area in ((roc, "AUROC"), (pr, "AUPRC")):
            axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xticks=_UNIT, yticks=_UNIT, aspect="equal")
            # beneath the panel, where no curve can run
            style = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.17), "ncols": 2, "frameon": False}
            axis.legend(title=area, title_fontsize=8, **style)
    return figure


def _draw_curves(roc: Axes, pr: Axes, frame: DataFrame, model: str, scheme: str) -> None:
    labels, values = check_scores(frame["label"], frame["score"], what=f"{model}, scheme {scheme}")
    style = {"color": COLOURS.get(model), "linewidth": 1.6, "zorder": 3}
    if model == _NO_MODEL:
        style |= {"linewidth": 1.2, "linestyle": "--", "zorder": 2}
    false_positives, true_positives, _ = roc_curve(labels, values)
    roc.plot(false_positives, true_positives, label=f"{model}  {roc_auc_score(labels, values):.3f}", **style)
    precision, recall, _ = precision_recall_curve(labels, values)
    # precision holds from one recall to the next lower one, as in the average precision; lines between would flatter
    area = average_precision_score(labels, values)
    pr.plot(recall, precision, drawstyle="steps-post", label=f"{model}  {area:.3f}", **style)
