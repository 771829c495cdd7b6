"""AUROC by distance in time to the training frames: what split "paper" owes to frames that lie between training frames.

Most normal test frames of split "paper" have a training frame right beside them, so trained models cannot be shown at
larger gaps without training them anew. The distance to the nearest training frame can: training frames are left out.
"""

from itertools import takewhile

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from vqad_lib.data.leak import frames_to_nearest_training
from vqad_lib.data.leak_in_time import WHOLE_CLIP, nearest_beyond_gaps
from vqad_lib.evaluation.bootstrap import bootstrap_intervals
from vqad_lib.workflow.results import NEAREST
from vqad_lib.workflow.run import Run

# what a row is about
LEFT_OUT = "training frames of the same clip that are closer are left out"
BY_GAP = "normal test frames whose nearest training frame is so far"
OTHER_SPLIT = "split official"
WHOLE_CLIP_NAME, ONE_FRAME, FARTHER = "whole clip", "1", "2 or more"


def left_out_rows(run: Run) -> pd.DataFrame:
    """AUROC of the nearest-frame distance on split "paper", training frames ever farther in time being left out.

    All test frames are scored, normal and anomalous ones by the same rule, with no model.

    Returns:
        A row for gaps 1, 2, 4, ... up to half the longest clip, and for the whole clip: model, view, frames (the gap
        as text), auroc, auroc_low, auroc_high (95%, over images), normal_frames, anomalous_frames. Gaps that leave a
        frame without any training frame are missing.
    """
    subsets, index, images = run.subsets("paper"), run.frames.index, run.frames.images
    test, training = (np.flatnonzero(subsets == subset) for subset in ("test", "train"))
    half = index["clip"].value_counts().max() / 2
    gaps = [*takewhile(lambda gap: gap <= half, (2.0**n for n in range(32))), WHOLE_CLIP]
    distances = nearest_beyond_gaps(
        np.asarray(images[test]),
        np.asarray(images[training]),
        query_index=index.iloc[test],
        training_index=index.iloc[training],
        gaps=gaps,
    )
    rows = []
    for gap, scores in zip(gaps, distances, strict=True):
        if np.isfinite(scores).all():
            name = WHOLE_CLIP_NAME if gap == WHOLE_CLIP else f"{gap:.0f}"
            tested = index.iloc[test][["label", "clip"]].assign(score=scores)
            rows.append(_row(run, NEAREST, LEFT_OUT, name, tested, by_clip=False))
    return pd.DataFrame(rows)


def gap_rows(run: Run, scores: dict[str, dict[str, pd.DataFrame]]) -> pd.DataFrame:
    """AUROC of each model on normal test frames beside a training frame, on those farther off, and on split "official".

    Anomalous test frames are all of them, for none is ever trained on.

    Args:
        scores: split -> row of Table 5 -> test scores: image_id, clip, label, score.

    Returns:
        Rows with the columns of `left_out_rows`. A group without normal frames has no row.
    """
    index = run.frames.index
    gap = pd.Series(frames_to_nearest_training(index, run.subsets("paper")), index=index["image_id"])
    rows = []
    for model, tested in scores["paper"].items():
        apart, normal = tested["image_id"].map(gap), tested["label"] == 0
        for name, wanted in ((ONE_FRAME, apart <= 1), (FARTHER, apart > 1)):
            if (normal & wanted).any():
                rows.append(_row(run, model, BY_GAP, name, tested[~normal | wanted], by_clip=False))
    for model, tested in scores.get("official", {}).items():
        rows.append(_row(run, model, OTHER_SPLIT, "", tested, by_clip=True))
    return pd.DataFrame(rows)


def _row(run: Run, model: str, view: str, frames: str, tested: pd.DataFrame, *, by_clip: bool) -> dict[str, object]:
    config, what = run.profile.evaluation, f"{model}, {view} {frames}"
    bounds = bootstrap_intervals(
        tested["label"],
        tested["score"],
        threshold=float(tested["score"].median()),  # of F1, which is not read here
        groups=tested["clip"] if by_clip else None,
        resamples=config.bootstrap_resamples,
        seed=config.bootstrap_seed,
        what=what,
    )
    return {
        "model": model,
        "view": view,
        "frames": frames,
        "auroc": float(roc_auc_score(tested["label"], tested["score"])),
        "auroc_low": bounds["auroc_low"],
        "auroc_high": bounds["auroc_high"],
        "normal_frames": int((tested["label"] == 0).sum()),
        "anomalous_frames": int((tested["label"] == 1).sum()),
    }
