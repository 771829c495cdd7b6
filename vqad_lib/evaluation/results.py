"""One row of a result table: the sound numbers with their bounds, and the paper's numbers beside them."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vqad_lib.config import EvaluationConfig
from vqad_lib.evaluation.bootstrap import METRICS, bootstrap_intervals
from vqad_lib.evaluation.metrics import choose_threshold, paper_protocol, sound_metrics


def result_row(
    validation: pd.DataFrame, test: pd.DataFrame, *, config: EvaluationConfig, by_clip: bool, what: str
) -> dict[str, float]:
    """Choose the threshold on validation and measure on test.

    Args:
        validation: one row per image: label (0 or 1), score (finite, higher is more anomalous). Normal images alone
            will do.
        test: one row per image: label, score, and clip where `by_clip`.
        config: resamples and seed of the bootstrap, and the quantile for normal images alone.
        by_clip: draw whole clips, for data whose frames are neighbours; otherwise single images.
        what: what an error message calls the result, for example "sample-wise, official".

    Returns:
        f1, f1_low, f1_high, and the same for auroc and auprc, each in [0, 1], and threshold_score, the threshold in
        the unit of the scores. Bounds are NaN where `by_clip` finds only one clip.

    Raises:
        VqadError: a split is empty or holds a score that is not finite, or test has one class only.
    """
    threshold = choose_threshold(
        validation["label"],
        validation["score"],
        normal_quantile=config.normal_quantile,
        what=f"{what}: validation split",
    )
    points = sound_metrics(test["label"], test["score"], threshold=threshold, what=f"{what}: test split")
    bounds = bootstrap_intervals(
        test["label"],
        test["score"],
        threshold=threshold,
        groups=test["clip"] if by_clip else None,
        resamples=config.bootstrap_resamples,
        seed=config.bootstrap_seed,
        what=f"{what}: test split",
    )
    row = {}
    for metric in METRICS:
        row[metric] = points[metric]
        row |= {f"{metric}_{side}": bounds[f"{metric}_{side}"] for side in ("low", "high")}
    return row | {"threshold_score": threshold}


def paper_row(test: pd.DataFrame, what: str) -> dict[str, float]:
    """The paper's protocol on the reported data.

    Args:
        test: one row per image: label (0 or 1), score (finite, higher is more anomalous).
        what: what an error message calls the result.

    Returns:
        f1_paper_protocol in [0, 1], macro-averaged; auc_paper_protocol in [0.5, 1], the best balanced accuracy.

    Raises:
        VqadError: test is empty, holds a score that is not finite, or has one class only.
    """
    best = paper_protocol(test["label"], test["score"], what=f"{what}: test split")
    return {"f1_paper_protocol": best.f1, "auc_paper_protocol": best.auc}


def leak_row(test: pd.DataFrame, frames_away: NDArray[np.float64], *, is_video: bool, what: str) -> dict[str, float]:
    """How much the training frames give away of the test frames, with no model.

    Anomalous frames are never trained on, so only a normal test frame can have a training frame right beside it.

    Args:
        test: one row per test frame: label (0 or 1), score (distance to the nearest training frame, grey levels).
        frames_away: (n,) frames to the nearest training frame of the same clip, NaN where the clip has none.
        is_video: whether the order of the frames is time.
        what: what an error message calls the result.

    Returns:
        median_distance_normal and median_distance_anomalous, grey levels; over normal test frames
        median_frames_to_training (NaN where no clip was trained on) and test_frames_next_to_training, the share with a
        training frame just before or after, in [0, 1], both NaN where `is_video` is false; auroc of the distance.

    Raises:
        VqadError: test is empty, holds a distance that is not finite, or has one class only.
    """
    auroc = sound_metrics(test["label"], test["score"], threshold=0.0, what=f"{what}: test split")["auroc"]
    normal = test["label"].to_numpy() == 0
    gaps = np.asarray(frames_away)[normal]
    known = gaps[np.isfinite(gaps)]
    return {
        "median_distance_normal": float(test["score"][normal].median()),
        "median_distance_anomalous": float(test["score"][~normal].median()),
        "median_frames_to_training": float(np.median(known)) if len(known) else float("nan"),
        "test_frames_next_to_training": float(np.mean(gaps <= 1)) if is_video else float("nan"),
        "auroc": auroc,
    }
