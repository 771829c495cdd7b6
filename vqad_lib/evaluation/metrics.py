"""Point values of both kinds, all of them scikit-learn's own, and the threshold chosen on validation.

The published code of the paper thresholds the scores, takes the "AUC" of the 0/1 predictions, and keeps the threshold
of the data being reported at which that is largest. The ROC curve of 0/1 predictions has one corner, so its area is
the balanced accuracy (tpr + 1 - fpr) / 2: that "AUC" is the best balanced accuracy, and its "F1" is macro-F1 there.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score, roc_curve

from vqad_lib.errors import VqadError


def check_scores(
    labels: ArrayLike, scores: ArrayLike, *, what: str, both_classes: bool = True
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Refuse labels and scores that have no metric.

    Args:
        labels: (n,) 0 (normal) or 1 (anomalous).
        scores: (n,) finite; higher is more anomalous.
        what: what an error message calls them, for example "test split of official".
        both_classes: refuse labels of one class only.

    Returns:
        labels (n,) int64 and scores (n,) float64. Float32 scores are widened, because comparing them with a float64
        threshold would otherwise round the threshold.

    Raises:
        VqadError: nothing there, a label is neither 0 nor 1, a score is NaN or infinite, or one class.
    """
    label_values, score_values = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if not len(label_values):
        raise VqadError(f"{what}: no scores; check that the split holds images")
    if not np.isin(label_values, (0, 1)).all():
        raise VqadError(f"{what}: labels must be 0 (normal) or 1 (anomalous)")
    unusable = int((~np.isfinite(score_values)).sum())
    if unusable:
        raise VqadError(f"{what}: {unusable} of {len(score_values)} scores are NaN or infinite; score the images again")
    if both_classes and label_values.min() == label_values.max():
        present, absent = ("anomalous", "normal") if label_values[0] else ("normal", "anomalous")
        raise VqadError(f"{what}: all {len(label_values)} images are {present}; add {absent} images, both are needed")
    return label_values.astype(np.int64), score_values


def paper_metrics(labels: ArrayLike, scores: ArrayLike, *, what: str = "scores") -> dict[str, float]:
    """Scan every threshold on the reported data itself and keep the best balanced accuracy.

    Args:
        labels: (n,) 0 (normal) or 1 (anomalous).
        scores: (n,) finite; higher is more anomalous.
        what: what an error message calls them.

    Returns:
        f1 in [0, 1], macro-averaged; auc in [0.5, 1], the best balanced accuracy; threshold, at or above which an image
        is called anomalous, ties: the lowest, which the published scan meets first.

    Raises:
        VqadError: as `check_scores`.
    """
    labels, scores = check_scores(labels, scores, what=what)
    fpr, tpr, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    anomalous, normal = labels.sum(), (1 - labels).sum()
    # whole numbers, so that rounding does not decide between thresholds that are equally good
    gain = np.rint(tpr * anomalous) * normal - np.rint(fpr * normal) * anomalous
    threshold = thresholds[gain == gain.max()].min()
    predicted = (scores >= threshold).astype(np.int64)
    return {
        "f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        "auc": float(roc_auc_score(labels, predicted)),
        "threshold": float(threshold),
    }


def paper_row(test: pd.DataFrame, what: str) -> dict[str, float]:
    """The paper's metrics on the reported data.

    Args:
        test: one row per image: label (0 or 1), score (finite, higher is more anomalous).
        what: what an error message calls the result.

    Returns:
        f1_paper_metrics in [0, 1], macro-averaged; auc_paper_metrics in [0.5, 1], the best balanced accuracy.

    Raises:
        VqadError: test is empty, holds a score that is not finite, or has one class only.
    """
    best = paper_metrics(test["label"], test["score"], what=f"{what}: test split")
    return {"f1_paper_metrics": best["f1"], "auc_paper_metrics": best["auc"]}


def held_out_metrics(
    labels: ArrayLike, scores: ArrayLike, *, threshold: float, what: str = "scores"
) -> dict[str, float]:
    """F1 at a threshold that was chosen elsewhere, and the two areas from the scores.

    Args:
        labels: (n,) 0 (normal) or 1 (anomalous).
        scores: (n,) finite; higher is more anomalous.
        threshold: an image is called anomalous when score >= threshold.
        what: what an error message calls them.

    Returns:
        f1 of the anomalous class (0 where no image reaches the threshold), auroc and auprc, each in [0, 1].

    Raises:
        VqadError: as `check_scores`.
    """
    labels, scores = check_scores(labels, scores, what=what)
    predicted = (scores >= threshold).astype(np.int64)
    return {
        "f1": float(f1_score(labels, predicted, zero_division=0)),
        "auroc": float(roc_auc_score(labels, scores)),
        "auprc": float(average_precision_score(labels, scores)),
    }


def choose_threshold(
    labels: ArrayLike, scores: ArrayLike, *, normal_quantile: float, what: str = "validation scores"
) -> float:
    """Choose the operating point on validation.

    With both classes: the score value with the best F1 of the anomalous class, ties: the highest. With normal
    images only: just above the `normal_quantile` of their scores. That quantile is itself a score that was seen, and
    the image that has it should pass as normal, so the threshold is the next float64 after it (`np.nextafter`):
    score >= threshold then says the same as score > quantile.

    Args:
        labels: (n,) 0 (normal) or 1 (anomalous).
        scores: (n,) finite; higher is more anomalous.
        normal_quantile: in [0, 1]; used only where no image is anomalous.
        what: what an error message calls them.

    Returns:
        The threshold, in the unit of the scores.

    Raises:
        VqadError: as `check_scores`, save that normal images alone will do.
    """
    only_normal = not np.any(np.asarray(labels))
    labels, scores = check_scores(labels, scores, what=what, both_classes=not only_normal)
    if only_normal:
        return float(np.nextafter(np.quantile(scores, normal_quantile, method="higher"), np.inf))
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    precision, recall = precision[:-1], recall[:-1]  # the last point predicts nothing and has no threshold
    # F1 = 2 tp / (predicted + anomalous) from whole numbers, so that equal F1 are equal to the last bit
    anomalous = labels.sum()
    hits = np.rint(recall * anomalous)
    predicted = np.rint(np.divide(hits, precision, out=np.zeros_like(hits), where=hits > 0))
    f1 = 2 * hits / (predicted + anomalous)
    return float(thresholds[f1 == f1.max()].max())
