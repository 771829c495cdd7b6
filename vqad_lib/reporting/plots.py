"""Charts: scores of normal and anomalous images (Figures 6-8), training curves, differences, the leak in time."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas import DataFrame
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from vqad_lib.evaluation.metrics import check_scores
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.reporting.figures import COLOURS, FULL_NAMES, legend_beneath, subplots

_NO_MODEL = "nearest training frame"
_NOT_TERMS = ("monitored", "loss", "adversarial", "codes_used", "perplexity")
_SCHEMES = {"paper": (COLOURS["normal"], "o", 0.12), "official": (COLOURS["anomalous"], "s", -0.12)}


def score_histograms(
    scores: DataFrame, *, xlabel: str, thresholds: dict[str, float] | None = None, root_axis: bool = False
) -> Figure:
    """Normal against anomalous scores, one panel a model, on one score axis (Figures 6-8).

    Args:
        scores: columns model (or what else a panel shows), label (0 normal or 1 anomalous), score (float, any range).
        xlabel: the score's name with its unit, for example "sample-wise score (nats)".
        thresholds: model -> decision threshold in the score's unit, chosen on validation (column threshold_score of
            Tables 6-8), drawn as a dashed line.
        root_axis: a square-root score axis, for scores >= 0 that crowd near zero. The axis says so.
    """
    models, values = _in_order(scores), scores["score"].to_numpy(dtype=float)
    columns = min(2, len(models))
    rows = -(-len(models) // columns)
    size_in = (3.6 * columns, 2.2 * rows + 0.6)
    figure, axes = subplots(rows, columns, figsize=size_in, sharex=True, sharey=True, squeeze=False)
    power = 2 if root_axis else 1
    # of equal width on the axis that is drawn; rounding must not leave the extreme scores outside
    edges = np.histogram_bin_edges(values ** (1 / power), bins=40) ** power
    edges[0], edges[-1] = min(edges[0], values.min()), max(edges[-1], values.max())
    for axis, model in zip(axes.flat, models, strict=False):
        _draw_histogram(axis, scores[scores["model"] == model], edges)
        if thresholds and model in thresholds:
            style = {"color": "#222222", "linestyle": "--", "linewidth": 1}
            axis.axvline(thresholds[model], label="decision threshold, chosen on validation", **style)
        axis.set(title=FULL_NAMES.get(model, model), xlabel=xlabel, ylabel="share of class (%)")
        if root_axis:
            axis.set_xscale("function", functions=(np.sqrt, np.square))
            axis.set(xlim=(edges[0], edges[-1]), xlabel=f"{xlabel}, square-root axis")
        axis.label_outer()
    for axis in axes.flat[len(models) :]:
        axis.set_visible(False)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _in_order(scores: DataFrame) -> list[str]:
    """The models of a table: those with a colour of their own first, then the others as they come."""
    present = scores["model"].unique().tolist()
    return sorted(present, key=[*COLOURS, *present].index)


def _draw_histogram(axis: Axes, scores: DataFrame, edges: NDArray) -> None:
    for label, name in enumerate(("normal", "anomalous")):
        values = scores.loc[scores["label"] == label, "score"].to_numpy(dtype=float)
        if len(values):
            weights = np.full(len(values), 100 / len(values))  # shares, for the classes differ in size
            filled = np.flatnonzero(np.histogram(values, edges)[0])
            own = edges[filled[0] : filled[-1] + 2]  # no line along zero where the class has no scores
            colours = {"facecolor": (COLOURS[name], 0.35), "edgecolor": COLOURS[name], "linewidth": 1.3}
            axis.hist(values, own, weights=weights, histtype="stepfilled", label=name, **colours)
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
        VqadError: a model's labels or scores have no curve.
    """
    figure, axes = subplots(len(scores), 2, figsize=(7.2, 4.7 * len(scores)), squeeze=False)
    for (scheme, frame), (roc, pr) in zip(scores.items(), axes, strict=True):
        for model in _in_order(frame):
            of_model = frame[frame["model"] == model]
            labels, values = check_scores(of_model["label"], of_model["score"], what=f"{model}, scheme {scheme}")
            style = {"color": COLOURS.get(model), "linestyle": "--" if model == _NO_MODEL else "-"}
            false_positives, true_positives, _ = roc_curve(labels, values)
            roc.plot(false_positives, true_positives, label=f"{model}  {roc_auc_score(labels, values):.3f}", **style)
            precision, recall, _ = precision_recall_curve(labels, values)
            # precision holds from one recall to the next lower one, as in the average precision; lines would flatter
            area = average_precision_score(labels, values)
            pr.plot(recall, precision, drawstyle="steps-post", label=f"{model}  {area:.3f}", **style)
        base_rate = float(frame["label"].mean())
        roc.set(title=f"ROC, scheme {scheme}", xlabel="false positive rate", ylabel="true positive rate")
        pr.set(title=f"precision and recall, scheme {scheme}", xlabel="recall", ylabel="precision")
        for axis, area, guess in ((roc, "AUROC", [0, 1]), (pr, "AUPRC", [base_rate, base_rate])):
            style = {"linestyle": ":", "color": "#888888", "linewidth": 1, "zorder": 1}
            axis.plot([0, 1], guess, label=f"guess  {np.mean(guess):.3f}", **style)
            axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
            legend_beneath(axis, ncols=2, title=area, title_fontsize=8)
    return figure


def training_curves(curves: DataFrame, *, network: str, title: str, uniform_nats: float | None = None) -> Figure:
    """Training and validation loss; of an autoencoder its terms and the perplexity of its codebook too; of a VQ-GAN the
    two sides of the game and the adaptive weight, from its lowest to its highest value in each epoch.

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
    shown = {name: column for name, column in terms.items() if not name.startswith((*_NOT_TERMS, "adaptive"))}
    shown = {name: column for name, column in shown.items() if (curves[column] > 0).any()}
    game = {"generator": f"{prefix}adversarial", "discriminator": "train_discriminator_loss"}
    both, unit = ("train", "validation"), "loss" if uniform_nats is None else "nats per code"
    panels = {(title, unit): {part: f"{part}_{network}_monitored" for part in both}}
    if shown:  # they differ in size by orders of magnitude
        panels["terms, in training", "loss, log scale"] = shown
    if "perplexity" in terms:
        panels["codebook", "perplexity"] = {part: f"{part}_{network}_perplexity" for part in both}
    if set(game.values()) <= set(curves):
        panels["adversarial loss (eq. 13)", unit] = game
        # the discriminator's loss is recorded as zero until the game begins
        begun = curves[game["generator"]].notna()
        curves = curves.assign(train_discriminator_loss=curves["train_discriminator_loss"].where(begun))
        weight = {word: f"{prefix}adaptive_weight_{word}" for word in ("highest", "lowest")}
        panels["adaptive weight (eq. 16)", "λ, log scale"] = weight | {"mean": f"{prefix}adaptive_weight"}
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure, axes = subplots(rows, columns, figsize=(3.4 * columns + 0.6, 3.0 * rows), squeeze=False)
    if uniform_nats is not None and np.isfinite(uniform_nats):
        axes[0, 0].axhline(uniform_nats, linestyle=":", color="grey", label="uniform guess")
    for axis, ((name, unit), lines) in zip(axes.flat, panels.items(), strict=False):
        for label, column in lines.items():
            axis.plot(*curves[["epoch", column]].dropna().to_numpy().T, marker="o", markersize=4, label=label)
        axis.set(title=name, xlabel="epoch", ylabel=unit, yscale="log" if "log" in unit else "linear")
        axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(6, integer=True))
        legend_beneath(axis, ncols=3, columnspacing=1)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    return figure


def forest(rows: DataFrame, *, xlabel: str) -> Figure:
    """One line per comparison, scheme by scheme, the paper's difference, if it is there, as a cross: a forest plot.

    Args:
        rows: scheme, detector, comparison, difference, difference_low, difference_high, and reported_difference or not.
        xlabel: what is on the axis, with its unit.
    """
    # "pixel_wise", "GP - VP" is "pixel-wise: GP − VP"
    words = (rows["detector"] + ": " + rows["comparison"]).str.replace("_wise", "-wise").str.replace(" - ", " − ")
    rows = rows.assign(name=words.str.replace("_", " "))
    names = rows["name"].unique()
    place = pd.Series(-np.arange(len(names)), names)
    figure, axis = subplots(figsize=(6.2, 0.6 + 0.42 * len(names)))
    for scheme, part in rows.groupby("scheme", sort=False):
        colour, marker, offset = _SCHEMES[scheme]
        middle, y = part["difference"], part["name"].map(place) + offset
        bars = [middle - part["difference_low"], part["difference_high"] - middle]
        style = {"fmt": marker, "color": colour, "markersize": 4, "linewidth": 1.2}
        axis.errorbar(middle, y, xerr=bars, label=f"scheme {scheme}", **style)
    if "reported_difference" in rows:
        theirs = rows.drop_duplicates("name")["reported_difference"]
        axis.plot(theirs, place, "x", color="#333333", markersize=5, label="paper, its AUC")
    axis.axvline(0, color="#333333", linewidth=0.8)
    axis.set(xlabel=xlabel, yticks=place, yticklabels=names)
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def leak_in_time_figure(rows: DataFrame, *, left_out: str) -> Figure:
    """Left: the nearest training frame, ever more of them left out. Right: every model, by the gap of the test frames.

    Args:
        rows: model, view, frames (text, "" on scheme official), auroc, auroc_low, auroc_high (NaN: no bar),
            normal_frames.
        left_out: the value of `view` on the left.
    """
    figure, axes = subplots(1, 2, figsize=(7.6, 3.8), sharey=True, width_ratios=[1.2, 1])
    is_left = rows["view"] == left_out
    for axis, part in zip(axes, (rows[is_left], rows[~is_left]), strict=True):
        counts = part.groupby("frames", sort=False)["normal_frames"].first()
        models = part.groupby("model", sort=False)
        for number, (model, own) in enumerate(models):
            places = own["frames"].map(counts.index.get_loc) + 0.7 * ((number + 0.5) / len(models) - 0.5)
            bars = [own["auroc"] - own["auroc_low"], own["auroc_high"] - own["auroc"]]
            style = {"fmt": "o" if model in COMBINATIONS.values() else "D", "markersize": 4.5, "elinewidth": 1}
            axis.errorbar(places, own["auroc"], np.clip(bars, 0, None), color=COLOURS.get(model), label=model, **style)
        names = [f"{frames or 'scheme official'}\n({count})" for frames, count in counts.items()]
        axis.set_xticks(range(len(counts)), names, fontsize=7.5)
        axis.grid(visible=False, axis="x")
    axes[0].set(title="Scheme paper, training frames left out", ylabel="AUROC", ylim=(None, 1.03))  # markers at 1 whole
    axes[0].set_xlabel("closer than so many frames in the clip\n(normal test frames)")
    axes[1].set_title("All models, nothing trained anew")
    axes[1].set_xlabel("frames to the nearest training frame\n(normal test frames)")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure
