"""The threshold percentile of a detector, chosen on validation, and the AUROC averages that Ped2 papers mix up."""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score

from vqad_lib.errors import VqadError
from vqad_lib.evaluation.metrics import check_scores, paper_metrics

_TIE_DECIMALS = 12  # an area is a sum of floats: two that differ by less are equal


def choose_percentile(
    validation: pd.DataFrame,
    *,
    metrics: Literal["paper", "held_out"],
    fallback: int,
    what: str = "validation split",
) -> int:
    """Choose the percentile of the lambdas that does best on validation.

    Args:
        validation: one row per image and percentile of one detector: threshold_percentile (0..100), label (0 or 1),
            score (finite, higher is more anomalous).
        metrics: "paper": the best `paper_metrics` AUC, then the lowest percentile, as the published code.
            "held_out": the best AUROC, then the lowest percentile.
        fallback: one of the percentiles, the choice where validation has one class only, so that nothing can be
            compared; the profile is held to it.
        what: what an error message calls the scores.

    Returns:
        One of the percentiles in `validation`.

    Raises:
        VqadError: as `check_scores` for any percentile.
    """
    if validation.empty:
        raise VqadError(f"{what}: no scores; check that the split holds images")
    by_percentile = dict(list(validation.groupby("threshold_percentile", sort=True)))
    if validation["label"].nunique() == 1:
        return int(fallback)

    def merit(percentile: float) -> float:
        rows, name = by_percentile[percentile], f"{what}, percentile {int(percentile)}"
        labels, scores = check_scores(rows["label"], rows["score"], what=name)
        area = paper_metrics(labels, scores, what=name)["auc"] if metrics == "paper" else roc_auc_score(labels, scores)
        return round(float(area), _TIE_DECIMALS)

    return int(max(by_percentile, key=merit))  # ties: max keeps the first, the lowest percentile


def clip_auroc(
    labels: ArrayLike, scores: ArrayLike, clips: ArrayLike, *, what: str = "scores"
) -> dict[str, float | int]:
    """The AUROC averages in use for video, each under its own name.

    Args:
        labels: (n,) 0 (normal) or 1 (anomalous).
        scores: (n,) finite; higher is more anomalous.
        clips: (n,) the clip of each frame.
        what: what an error message calls them.

    Returns:
        micro_auroc: over all frames at once.
        micro_auroc_normalised: the same, after scaling the scores of each clip to [0, 1] by its own lowest and
            highest (0 throughout where they are equal). It looks at a whole clip before scoring its first frame.
        macro_auroc: the mean over the clips that hold both classes; scaling a clip changes nothing here. NaN where
            there is no such clip.
        clips_in_macro: how many clips that were.

    Raises:
        VqadError: as `check_scores`.
    """
    labels, scores = check_scores(labels, scores, what=what)
    frames = pd.DataFrame({"label": labels, "score": scores, "clip": np.asarray(clips)})
    per_clip = frames.groupby("clip")["score"]
    lowest, highest = per_clip.transform("min"), per_clip.transform("max")
    normalised = (frames["score"] - lowest) / (highest - lowest).replace(0, 1)
    mixed = [rows for _, rows in frames.groupby("clip") if rows["label"].nunique() == 2]
    areas = [roc_auc_score(rows["label"], rows["score"]) for rows in mixed]
    return {
        "micro_auroc": float(roc_auc_score(labels, scores)),
        "micro_auroc_normalised": float(roc_auc_score(labels, normalised)),
        "macro_auroc": float(np.mean(areas)) if areas else float("nan"),
        "clips_in_macro": len(areas),
    }
