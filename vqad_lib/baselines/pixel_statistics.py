"""Each pixel a Gaussian of its own: its mean and variance over the training frames, and nothing else.

A frame's score is how far its pixels lie from their means, each in units of its own standard deviation. Scaled by -1/2
and up to a constant it is the log-likelihood of independent Gaussians.
"""

import numpy as np

_BLOCK_FRAMES = 256  # frames turned into float64 at a time: bounds memory


def pixel_statistics_scores(training: np.ndarray, queries: np.ndarray, *, variance_floor: float) -> np.ndarray:
    """Mean squared z-score of frames, over pixels and channels.

    Args:
        training: (n, 3, H, W) uint8, n >= 1.
        queries: (m, 3, H, W) uint8.
        variance_floor: > 0, squared grey levels; a pixel that hardly ever changes would otherwise outweigh all others.

    Returns:
        (m,) float64, >= 0; higher is more anomalous.

    Raises:
        ValueError: frames are not uint8 or of another size, or none are there to train on.
    """
    if not training.dtype == queries.dtype == np.uint8 or training.shape[1:] != queries.shape[1:] or not len(training):
        shapes = f"{training.dtype} {training.shape} and {queries.dtype} {queries.shape}"
        raise ValueError(f"frames must be uint8 (n, 3, H, W), n >= 1, and (m, 3, H, W), got {shapes}")
    mean = sum(block.sum(axis=0) for block in _blocks(training)) / len(training)
    # a second pass: the difference of two large sums would lose digits
    variance = sum(((block - mean) ** 2).sum(axis=0) for block in _blocks(training)) / len(training)
    variance = np.maximum(variance, variance_floor)
    found = [((block - mean) ** 2 / variance).mean(axis=(1, 2, 3)) for block in _blocks(queries)]
    return np.concatenate([np.empty(0), *found])


def _blocks(frames: np.ndarray):
    return (frames[i : i + _BLOCK_FRAMES].astype(np.float64) for i in range(0, len(frames), _BLOCK_FRAMES))
