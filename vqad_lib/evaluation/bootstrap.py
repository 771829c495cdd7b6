"""95% percentile bootstrap of F1, AUROC and AUPRC, over images or over whole clips.

A resample is a row of weights: how often each image was drawn. The scores are sorted once; with images in that order
every metric of every resample is a running sum of weights, so no resample is ever built or sorted.

Neighbouring frames of a clip are alike, so drawing single frames would understate the uncertainty: for clips, whole
clips are drawn with replacement (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8).
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vqad_lib.errors import VqadError
from vqad_lib.evaluation.metrics import check_scores

METRICS = ("f1", "auroc", "auprc")
_BOUNDS = (0.025, 0.975)
_CHUNK_ELEMENTS = 2**18  # weights held at a time; a few arrays of 2 MB stay in a processor's cache


def bootstrap_intervals(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    threshold: float,
    groups: ArrayLike | None,
    resamples: int,
    seed: int,
    what: str = "scores",
) -> dict[str, float]:
    """Bound F1, AUROC and AUPRC by resampling the images or the clips.

    The threshold stays fixed: it was chosen on other data. Resamples that drew one class only have no AUROC and are
    left out of all three. The result depends on the seed and on the images, not on the order of the rows.

    Args:
        labels: (n,) 0 (normal) or 1 (anomalous).
        scores: (n,) finite; higher is more anomalous.
        threshold: an image is called anomalous when score >= threshold.
        groups: (n,) the clip of each image, to draw whole clips; None draws single images.
        resamples: how many, at least 1.
        seed: of the draws.
        what: what an error message calls the scores.

    Returns:
        f1_low, f1_high, auroc_low, auroc_high, auprc_low, auprc_high, each in [0, 1]. All are NaN where there is only
        one clip to draw from: its interval would have no width, and would claim a certainty that is not there.

    Raises:
        VqadError: as `check_scores`; an image has no clip; no resample drew both classes.
    """
    if resamples < 1:
        raise VqadError(f"evaluation.bootstrap_resamples: must be at least 1, got {resamples}")
    labels, scores = check_scores(labels, scores, what=what)
    clip = clip_numbers(groups, len(labels), what)
    if clip is not None and clip.max() == 0:
        return {f"{metric}_{side}": float("nan") for metric in METRICS for side in ("low", "high")}
    order = np.lexsort((labels, -scores))  # images of equal score and label are interchangeable
    labels, scores = labels[order], scores[order]
    clip = None if clip is None else clip[order]
    chunks = [
        resampled_metrics(labels, scores, weights, threshold=threshold)
        for weights in resample_weights(len(labels), clip, resamples=resamples, seed=seed)
    ]
    return _percentile_bounds(np.concatenate(chunks), what)


def resampled_metrics(
    labels: NDArray[np.int64], scores: NDArray[np.float64], weights: NDArray, *, threshold: float
) -> NDArray[np.float64]:
    """F1, AUROC and AUPRC of every resample.

    AUROC is the weighted share of (anomalous, normal) pairs in the right order, a tie counting half. AUPRC is average
    precision, images of equal score entering together. Both equal scikit-learn's with `sample_weight`.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) never increasing.
        weights: (R, n) whole numbers >= 0, how often each resample drew each image.
        threshold: an image is called anomalous when score >= threshold.

    Returns:
        (R, 3) float in [0, 1], in the order of `METRICS`; NaN in the rows of resamples with one class only.

    Raises:
        ValueError: the scores increase somewhere.
    """
    if np.any(np.diff(scores) > 0):
        raise ValueError("scores must be sorted from highest to lowest")
    first_of_tie = np.flatnonzero(np.r_[True, np.diff(scores) < 0])  # (m,) where each distinct score begins
    weights = weights.astype(np.float64)
    anomalous = np.add.reduceat(weights * labels, first_of_tie, axis=1)  # (R, n) -> (R, m)
    either = np.add.reduceat(weights, first_of_tie, axis=1)
    reached = int((scores[first_of_tie] >= threshold).sum())  # the first distinct scores are called anomalous

    hits, drawn = np.cumsum(anomalous, axis=1), np.cumsum(either, axis=1)  # (R, m) at or above each distinct score
    n_anomalous, n_drawn = hits[:, -1], drawn[:, -1]  # (R,)
    pairs = n_anomalous * (n_drawn - n_anomalous)
    pairs[pairs == 0] = np.nan
    ordered = np.einsum("rm,rm->r", either - anomalous, hits - anomalous / 2)
    # a zero denominator has a zero numerator: nothing was drawn down to that score
    precision = hits / np.maximum(drawn, 1)
    auprc = np.einsum("rm,rm->r", anomalous, precision) / np.where(np.isnan(pairs), np.nan, n_anomalous)
    true_positives = anomalous[:, :reached].sum(axis=1)
    called = either[:, :reached].sum(axis=1)
    f1 = 2 * true_positives / np.where(np.isnan(pairs), np.nan, called + n_anomalous)
    return np.stack([f1, ordered / pairs, auprc], axis=1)


def _percentile_bounds(values: NDArray[np.float64], what: str) -> dict[str, float]:
    """The bounds of each column of (resamples, 3), without the rows that are NaN."""
    values = values[~np.isnan(values).any(axis=1)]
    if not len(values):
        raise VqadError(f"{what}: no bootstrap resample drew both classes; raise evaluation.bootstrap_resamples")
    low, high = np.quantile(values, _BOUNDS, axis=0)
    bounds = {}
    for i, metric in enumerate(METRICS):
        bounds |= {f"{metric}_low": float(low[i]), f"{metric}_high": float(high[i])}
    return bounds


def clip_numbers(groups: ArrayLike | None, n: int, what: str) -> NDArray[np.int64] | None:
    """The place of each image's clip among the sorted clip names, (n,), or None where images are drawn.

    Raises:
        VqadError: an image has no clip.
    """
    if groups is None:
        return None
    numbers, _ = pd.factorize(np.asarray(groups), sort=True)
    if len(numbers) != n:
        raise VqadError(f"{what}: {len(numbers)} clips for {n} scores; give the clip of every image")
    if (numbers < 0).any():
        raise VqadError(f"{what}: {(numbers < 0).sum()} of {n} images have no clip; draw single images instead")
    return numbers


def resample_weights(
    n: int, clip: NDArray[np.int64] | None, *, resamples: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Yield (R, n) draw counts, multinomial over images or clips, `resamples` rows in all, a chunk at a time."""
    generator = np.random.default_rng(seed)
    units = n if clip is None else int(clip.max()) + 1
    rows = max(1, _CHUNK_ELEMENTS // n)
    for start in range(0, resamples, rows):
        chunk = min(rows, resamples - start)
        draws = generator.integers(units, size=(chunk, units)) + units * np.arange(chunk)[:, None]
        counts = np.bincount(draws.ravel(), minlength=chunk * units).reshape(chunk, units)
        yield counts if clip is None else counts[:, clip]  # (chunk, clips) -> (chunk, n)
