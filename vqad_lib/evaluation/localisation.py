"""Localisation: how well heatmaps meet the masks of anomalous pixels (section 6.1)."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

HIGHEST_FPR = 0.3  # up to which the regions' overlap is integrated, as usual
_THRESHOLDS = 300


def localisation_metrics(heatmaps: NDArray, masks: NDArray) -> dict[str, float]:
    """Three areas over all pixels of all images.

    Args:
        heatmaps: (n, H, W) finite; higher is more anomalous.
        masks: (n, H, W) 0 or 1; normal images have 0 throughout.

    Returns:
        pixel_auroc and pixel_ap in [0, 1]; aupro in [0, 1]: the share of each connected anomalous region that is
        found, averaged over regions, over false-positive rates of normal pixels up to 0.3. NaN where no pixel, or
        every pixel, is anomalous.
    """
    anomalous = masks.astype(bool)
    if anomalous.all() or not anomalous.any():
        return dict.fromkeys(("pixel_auroc", "pixel_ap", "aupro"), float("nan"))
    flat = anomalous.ravel(), heatmaps.ravel()
    areas = {"pixel_auroc": float(roc_auc_score(*flat)), "pixel_ap": float(average_precision_score(*flat))}
    return areas | {"aupro": per_region_overlap(heatmaps, anomalous)}


def per_region_overlap(heatmaps: NDArray, masks: NDArray) -> float:
    """AUPRO, see `localisation_metrics`; at 300 thresholds, evenly spread over the false-positive rates."""
    normal = np.sort(heatmaps[~masks])[::-1]
    fpr = np.linspace(0, HIGHEST_FPR, _THRESHOLDS)
    thresholds = normal[(fpr * len(normal)).astype(int)]
    overlaps = []
    for heatmap, mask in zip(heatmaps, masks, strict=True):
        regions, n = ndimage.label(mask, np.ones((3, 3)))
        for region in range(1, n + 1):
            values = np.sort(heatmap[regions == region])
            overlaps.append(1 - np.searchsorted(values, thresholds, side="right") / len(values))
    return float(np.trapezoid(np.mean(overlaps, 0), fpr) / HIGHEST_FPR)
