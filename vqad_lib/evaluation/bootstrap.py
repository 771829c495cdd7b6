"""95% percentile bootstrap of F1, AUROC and AUPRC, over images or over whole clips; and of two models' difference.

A resample is a row of weights: how often each image was drawn. The scores are sorted once; with images in that order
every metric of every resample is a running sum of weights, so no resample is ever built or sorted.

Neighbouring frames of a clip are alike, so drawing single frames would understate the uncertainty: for clips, whole
clips are drawn with replacement (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8).

Two models are compared on the same images, trained from the same seeds. A resample draws seeds, and images or whole
clips, the same for both; so what makes an image hard for both, or a seed unlucky for both, does not count.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vqad_lib.config import EvaluationConfig
from vqad_lib.errors import VqadError
from vqad_lib.evaluation.metrics import check_scores, choose_threshold, held_out_metrics

METRICS = ("f1", "auroc", "auprc")
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
        VqadError: as `check_scores`; no resample drew both classes.
    """
    labels, scores = check_scores(labels, scores, what=what)
    clip = _clip_numbers(groups)
    columns = [f"{metric}_{side}" for metric in METRICS for side in ("low", "high")]
    if clip is not None and clip.max() == 0:
        return dict.fromkeys(columns, float("nan"))
    order = np.lexsort((labels, -scores))  # images of equal score and label are interchangeable
    labels, scores = labels[order], scores[order]
    clip = None if clip is None else clip[order]
    chunks = resample_weights(len(labels), clip, resamples=resamples, seed=seed)
    values = np.concatenate([resampled_metrics(labels, scores, weights, threshold=threshold) for weights in chunks])
    bounds = _bounds(values[~np.isnan(values).any(axis=1)], what).T  # metrics 2
    return dict(zip(columns, bounds.flatten().tolist(), strict=True))


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
    """
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


def _bounds(values: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """The bounds of values of resamples, (R, ...) -> (2, ...)."""
    if not len(values):
        raise VqadError(f"{what}: no bootstrap resample drew both classes; raise evaluation.bootstrap_resamples")
    return np.quantile(values, (0.025, 0.975), axis=0)


def _clip_numbers(groups: ArrayLike | None) -> NDArray[np.int64] | None:
    """The place of each image's clip among the sorted clip names, (n,), or None where images are drawn."""
    return None if groups is None else pd.factorize(np.asarray(groups), sort=True)[0]


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
    known, what_known = (validation["label"], validation["score"]), f"{what}: validation split"
    threshold = choose_threshold(*known, normal_quantile=config.normal_quantile, what=what_known)
    scores, options = (test["label"], test["score"]), {"threshold": threshold, "what": f"{what}: test split"}
    points = held_out_metrics(*scores, **options)
    options |= {"resamples": config.bootstrap_resamples, "seed": config.bootstrap_seed}
    bounds = bootstrap_intervals(*scores, groups=test["clip"] if by_clip else None, **options)
    columns = [f"{metric}{side}" for metric in METRICS for side in ("", "_low", "_high")]
    return {column: (points | bounds)[column] for column in columns} | {"threshold_score": threshold}


def paired_auroc_difference(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: ArrayLike | None,
    resamples: int,
    seed: int,
    what: str = "scores",
) -> dict[str, float | int]:
    """AUROC of `first` minus that of `second`, averaged over training seeds, with a 95% interval and a p-value.

    Args:
        labels: (n,) 0 (normal) or 1 (anomalous).
        first, second: (S, n) finite scores of the same images, one row per training seed; higher is more anomalous.
        groups: (n,) the clip of each image, to draw whole clips; None draws single images.
        resamples: how many, at least 1.
        seed: of the draws.
        what: what an error message calls them.

    Returns:
        difference in [-1, 1]; difference_low and difference_high; p_value, two-sided: twice the share of resamples on
        the other side of 0, (k + 1) / (R + 1), at most 1; seeds (S); seeds_agreeing, in how many of them the
        difference has the sign of the average. Bounds and p-value are NaN where there is one clip alone.

    Raises:
        VqadError: as `check_scores`; the models have different numbers of seeds or images; no resample drew both
            classes.
    """
    first, second = np.atleast_2d(np.asarray(first, float)), np.atleast_2d(np.asarray(second, float))
    if first.shape != second.shape:
        raise VqadError(f"{what}: scores of shape {first.shape} and {second.shape}; give the same seeds and images")
    for row in (*first, *second):
        label_values, _ = check_scores(labels, row, what=what)
    clips, S = _clip_numbers(groups), len(first)
    once = np.ones((1, len(label_values)), dtype=np.int64)
    points = (_aurocs(label_values, first, once) - _aurocs(label_values, second, once))[:, 0]
    difference = float(points.mean())
    result = {"difference": difference, "difference_low": np.nan, "difference_high": np.nan, "p_value": np.nan}
    result |= {"seeds": S, "seeds_agreeing": int((np.sign(points) == np.sign(difference)).sum())}
    if clips is not None and clips.max() == 0:
        return result
    chunks = resample_weights(len(label_values), clips, resamples=resamples, seed=seed)
    resampled = [_aurocs(label_values, first, weights) - _aurocs(label_values, second, weights) for weights in chunks]
    differences = np.concatenate(resampled, axis=1)  # S R
    drawn = np.random.default_rng((seed, 1)).integers(S, size=differences.shape)  # S seeds for each resample
    averages = np.take_along_axis(differences, drawn, axis=0).mean(0)
    averages = averages[~np.isnan(averages)]
    low, high = _bounds(averages, what)
    beyond = min((averages <= 0).sum(), (averages >= 0).sum())
    p_value = min(1.0, 2 * (beyond + 1) / (len(averages) + 1))
    return result | {"difference_low": float(low), "difference_high": float(high), "p_value": float(p_value)}


def _aurocs(labels: NDArray, scores: NDArray, weights: NDArray) -> NDArray[np.float64]:
    """AUROC of S score rows under R weightings of the images: (S, R)."""
    found = []
    for row in scores:
        order = np.lexsort((labels, -row))
        found.append(resampled_metrics(labels[order], row[order], weights[:, order], threshold=np.inf))
    return np.stack(found)[:, :, METRICS.index("auroc")]
