"""Where it is abnormal: what the detectors know of each pixel, against the masks (section 6.1)."""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from vqad_lib.detectors.local import LOCAL_SIGNALS, images_and_signals
from vqad_lib.detectors.scoring import RESTORATIONS, Detectors
from vqad_lib.evaluation.localisation import localisation_metrics
from vqad_lib.experiment.networks import load_detectors
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import at_selected_threshold, combination_scores
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.progress import progress

MAPS = ("pixel-wise restoration", "light pixel-wise restoration", "regeneration", "quantisation error", "NLL")
SUM = "sum of restoration, quantisation error and NLL"
_ADDED = ("pixel-wise restoration", "quantisation error", "NLL")
_AT_MOST = 256  # frames of a split, evenly spread


def maps_of(run: Run, scorer: Detectors, rows: NDArray, thresholds: dict[str, float]) -> dict[str, NDArray]:
    """Each of `MAPS` of some frames: (n, H, W) float32, higher is more anomalous.

    Args:
        rows: n row numbers.
        thresholds: "pixel_wise" and "light_pixel_wise" -> lambda, nats.
    """
    parts, size = [], run.profile.detectors.chunk_images
    chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
    for chunk in progress(chunks, what="maps", unit="chunk"):
        images = to_unit_range(run.images(chunk))
        ids = run.frames.index["image_id"].iloc[chunk].tolist()
        restored = [
            scorer.heatmaps(images, ids, detector=key, threshold_nats=thresholds[key])[0] for key in RESTORATIONS
        ]
        seen = images_and_signals(scorer.autoencoder, scorer.prior, images, window_px=1)
        others = seen[:, -len(LOCAL_SIGNALS) :].unbind(1)
        parts.append(torch.stack([*restored, *others], 1).float().cpu().numpy())
    return dict(zip(MAPS, np.concatenate(parts).swapaxes(0, 1), strict=True))


def localised(run: Run, *, scheme: str) -> tuple[pd.DataFrame, NDArray, dict[str, NDArray]]:
    """How well each map of each combination meets the masks of test frames.

    The sum is of maps in standard deviations from their mean over normal validation frames; lambda is the one that
    validation selects.

    Returns:
        model, signal, frames, pixel_auroc, pixel_ap, aupro (`localisation_metrics`), a row per combination and signal;
        row numbers of the test frames; and the last combination's maps of these, with the sum.
    """
    splits, label = run.splits(scheme), run.frames.index["label"].to_numpy()
    test, normal = _spread(splits == "test"), _spread((splits == "validation") & (label == 0))
    found, maps, scores = [], {}, combination_scores(run, scheme)
    for (autoencoder, prior), model in COMBINATIONS.items():
        scorer = load_detectors(run, autoencoder=autoencoder, prior=prior, scheme=scheme)
        thresholds = {key: at_selected_threshold(run, scores[model], key).nats for key in RESTORATIONS}
        usual, maps = (maps_of(run, scorer, rows, thresholds) for rows in (normal, test))
        maps[SUM] = sum((maps[name] - usual[name].mean()) / (usual[name].std() + 1e-9) for name in _ADDED)
        for signal, heatmaps in maps.items():
            metrics = localisation_metrics(heatmaps, run.frames.masks[test])
            found.append({"model": model, "signal": signal, "frames": len(test)} | metrics)
    return pd.DataFrame(found), test, maps


def _spread(among: NDArray) -> NDArray:
    rows = np.flatnonzero(among)
    return rows[np.linspace(0, len(rows) - 1, min(_AT_MOST, len(rows))).round().astype(int)]
