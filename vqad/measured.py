"""How good a detector is on labelled images: by kind of defect, of images and of pixels, with intervals."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vqad_lib.evaluation.bootstrap import bootstrap_intervals
from vqad_lib.evaluation.localisation import localisation_metrics
from vqad_lib.evaluation.metrics import held_out_metrics

_RESAMPLES = 1000


def evaluation_table(
    scores: NDArray, heatmaps: NDArray, masks: NDArray, kinds: list[str], *, threshold: float, has_masks: bool
) -> pd.DataFrame:
    """A row for all defects together, then one a kind, each against all normal images.

    Args:
        scores: (n,); higher is more abnormal.
        heatmaps, masks: (n, H, W).
        kinds: n; "" for normal images.

    Returns:
        kind, images, auroc with auroc_low and auroc_high (95%, bootstrap over images), auprc, found (share of the
        abnormal images from the threshold on), false_alarms (of the normal ones), pixel_auroc, pixel_ap, aupro (empty
        without masks).
    """
    kind = np.array(kinds)
    rows = []
    for name in ["all", *sorted({*kinds} - {""})]:
        rows_of = (kind == "") | (kind == name) | (name == "all")
        label, value = (kind[rows_of] != "").astype(int), scores[rows_of]
        areas = held_out_metrics(label, value, threshold=threshold)
        bounds = bootstrap_intervals(label, value, threshold=threshold, groups=None, resamples=_RESAMPLES, seed=0)
        row = {"kind": name, "images": int(label.sum()), "auroc": areas["auroc"]}
        row |= {key: bounds[key] for key in ("auroc_low", "auroc_high")} | {"auprc": areas["auprc"]}
        row |= {
            "found": (value[label == 1] >= threshold).mean(),
            "false_alarms": (value[label == 0] >= threshold).mean(),
        }
        if has_masks:
            row |= localisation_metrics(heatmaps[rows_of], masks[rows_of])
        rows.append(row)
    return pd.DataFrame(rows)
