"""Is one model better than another? A paired bootstrap over training seeds and images.

Both models are scored on the same images, and trained from the same seeds. A resample draws seeds, and images or whole
clips, the same for both; so what makes an image hard for both, or a seed unlucky for both, does not count.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vqad_lib.errors import VqadError
from vqad_lib.evaluation.bootstrap import METRICS, clip_numbers, resample_weights, resampled_metrics
from vqad_lib.evaluation.metrics import check_scores

_AUROC = METRICS.index("auroc")


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
    """AUROC of `first` less that of `second`, averaged over training seeds, with a 95% interval and a p-value.

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
    clips, S = clip_numbers(groups, len(label_values), what), len(first)
    once = np.ones((1, len(label_values)), dtype=np.int64)
    points = (_aurocs(label_values, first, once) - _aurocs(label_values, second, once))[:, 0]
    difference = float(points.mean())
    result = {"difference": difference, "difference_low": np.nan, "difference_high": np.nan, "p_value": np.nan}
    result |= {"seeds": S, "seeds_agreeing": int((np.sign(points) == np.sign(difference)).sum())}
    if clips is not None and clips.max() == 0:
        return result
    differences = np.concatenate(
        [
            _aurocs(label_values, first, weights) - _aurocs(label_values, second, weights)
            for weights in resample_weights(len(label_values), clips, resamples=resamples, seed=seed)
        ],
        axis=1,
    )  # S R
    drawn = np.random.default_rng((seed, 1)).integers(S, size=differences.shape)  # S seeds for each resample
    averages = np.take_along_axis(differences, drawn, axis=0).mean(0)
    averages = averages[~np.isnan(averages)]
    if not len(averages):
        raise VqadError(f"{what}: no bootstrap resample drew both classes; raise evaluation.bootstrap_resamples")
    low, high = np.quantile(averages, (0.025, 0.975))
    beyond = min((averages <= 0).sum(), (averages >= 0).sum())
    p_value = min(1.0, 2 * (beyond + 1) / (len(averages) + 1))
    return result | {"difference_low": float(low), "difference_high": float(high), "p_value": float(p_value)}


def _aurocs(labels: NDArray, scores: NDArray, weights: NDArray) -> NDArray[np.float64]:
    """AUROC of S score rows under R weightings of the images: (S, R)."""
    found = []
    for row in scores:
        order = np.lexsort((labels, -row))
        found.append(resampled_metrics(labels[order], row[order], weights[:, order], threshold=np.inf)[:, _AUROC])
    return np.stack(found)
