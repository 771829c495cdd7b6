"""ROC and precision-recall curves of several models, one row of panels for each split (beside Figures 6-8)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from vqad_lib.errors import VqadError
from vqad_lib.evaluation.metrics import check_scores
from vqad_lib.reporting.figures import COLOURS, subplots

_COLUMNS = {"model", "label", "score"}
_UNIT = np.linspace(0, 1, 6)
_NO_MODEL = "nearest training frame"


def operating_curves(scores: dict[str, DataFrame]) -> Figure:
    """ROC curves on the left, precision-recall curves on the right, one row for each split.

    Args:
        scores: split -> columns model, label (0 normal or 1 anomalous), score (higher is more anomalous), test images.
            Each model needs both classes. "nearest training frame" is drawn dashed.

    Returns:
        The figure. Legends give AUROC and AUPRC, the areas that the result tables have; all axes run from 0 to 1. The
        dotted lines are what a guess reaches.

    Raises:
        VqadError: no split, a column is missing, or a model's labels or scores have no curve.
    """
    if not scores:
        raise VqadError("operating curves need the scores of one split at least")
    figure, axes = subplots(len(scores), 2, figsize=(7.2, 4.1 * len(scores) + 0.1), squeeze=False, layout="constrained")
    for (split, frame), (roc, pr) in zip(scores.items(), axes, strict=True):
        missing = _COLUMNS - set(frame.columns)
        if missing:
            raise VqadError(f"operating curves, split {split}: no column {', '.join(sorted(missing))}")
        for model in _in_order(frame):
            _draw(roc, pr, frame[frame["model"] == model], model, split)
        guess = {"linestyle": ":", "color": "#888888", "linewidth": 1, "zorder": 1}
        base_rate = float(frame["label"].mean())
        roc.plot([0, 1], [0, 1], label="guess  0.500", **guess)
        pr.plot([0, 1], [base_rate, base_rate], label=f"guess  {base_rate:.3f}", **guess)
        _finish(roc, f"ROC, split {split}", "false positive rate", "true positive rate", "AUROC")
        _finish(pr, f"precision and recall, split {split}", "recall", "precision", "AUPRC")
    return figure


def _in_order(frame: DataFrame) -> list[str]:
    present = list(dict.fromkeys(frame["model"]))
    return [name for name in COLOURS if name in present] + [name for name in present if name not in COLOURS]


def _draw(roc: Axes, pr: Axes, frame: DataFrame, model: str, split: str) -> None:
    labels, values = check_scores(frame["label"], frame["score"], what=f"{model}, split {split}")
    style = {
        "color": COLOURS.get(model),
        "linewidth": 1.2 if model == _NO_MODEL else 1.6,
        "linestyle": "--" if model == _NO_MODEL else "-",
        "zorder": 2 if model == _NO_MODEL else 3,
    }
    false_positives, true_positives, _ = roc_curve(labels, values)
    roc.plot(false_positives, true_positives, label=f"{model}  {roc_auc_score(labels, values):.3f}", **style)
    precision, recall, _ = precision_recall_curve(labels, values)
    # precision holds from one recall to the next lower one, as in the average precision; lines between would flatter
    area = average_precision_score(labels, values)
    pr.plot(recall, precision, drawstyle="steps-post", label=f"{model}  {area:.3f}", **style)


def _finish(axis: Axes, title: str, xlabel: str, ylabel: str, area: str) -> None:
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axis.set(xticks=_UNIT, yticks=_UNIT, aspect="equal")
    # beneath the panel, where no curve can run
    axis.legend(title=area, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, frameon=False, title_fontsize=8)
