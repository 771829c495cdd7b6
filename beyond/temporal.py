"""Smoothing over time: frames of a clip share their scores with their neighbours."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def smoothed(scores: ArrayLike, clips: ArrayLike, *, frames: float, causal: bool) -> NDArray[np.float64]:
    """Average the scores of a clip with Gaussian weights.

    Args:
        scores: (n,) finite, those of a clip in order of time.
        clips: (n,) the clip of each.
        frames: the standard deviation of the weights, > 0; they end after four of it, and at the ends of a clip.
        causal: weigh the frame and those before it alone, as a camera could; else those after it too.

    Returns:
        (n,) float64.
    """
    scores, clips = np.asarray(scores, dtype=float), np.asarray(clips)
    away = np.arange(-np.ceil(4 * frames), np.ceil(4 * frames) + 1)
    weights = np.exp(-0.5 * (away / frames) ** 2) * ((away >= 0) | (not causal))
    result = np.empty_like(scores)
    for clip in np.unique(clips):
        of_clip = scores[clips == clip]
        sums, weight = (np.convolve(values, weights) for values in (of_clip, np.ones_like(of_clip)))
        kept = slice(len(away) // 2, len(away) // 2 + len(of_clip))
        result[clips == clip] = sums[kept] / weight[kept]
    return result
