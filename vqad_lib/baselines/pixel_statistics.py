"""Each pixel a Gaussian of its own: its mean and variance over the training frames, and nothing else.

A frame's score is how far its pixels lie from their means, each in units of its own standard deviation. Scaled by -1/2
and up to a constant it is the log-likelihood of independent Gaussians.
"""

from dataclasses import dataclass

import numpy as np

_BLOCK_FRAMES = 256  # frames turned into float64 at a time: bounds memory


@dataclass(frozen=True)
class PixelStatistics:
    """Mean and variance of each pixel and channel.

    Attributes:
        mean: (3, H, W) float64, grey levels, [0, 255].
        variance: (3, H, W) float64, squared grey levels, divided by n; not below the floor it was fitted with.
    """

    mean: np.ndarray
    variance: np.ndarray

    def scores(self, frames: np.ndarray) -> np.ndarray:
        """Mean squared z-score over pixels and channels: (m, 3, H, W) uint8 -> (m,) float64, >= 0.

        Raises:
            ValueError: the frames are not uint8 or of another size.
        """
        _check(frames, self.mean.shape)
        found = [((block - self.mean) ** 2 / self.variance).mean(axis=(1, 2, 3)) for block in _blocks(frames)]
        return np.concatenate(found) if found else np.empty(0)


def fit_pixel_statistics(training: np.ndarray, *, variance_floor: float) -> PixelStatistics:
    """Mean and variance of each pixel over the training frames.

    Args:
        training: (n, 3, H, W) uint8, n >= 1.
        variance_floor: > 0, squared grey levels; a pixel that hardly ever changes would otherwise outweigh all others.

    Raises:
        ValueError: no frames, not uint8, or a floor that is not above 0.
    """
    if not variance_floor > 0:
        raise ValueError(f"the variance floor must be above 0, got {variance_floor}")
    if len(training) == 0:
        raise ValueError("no training frames")
    _check(training, training.shape[1:])
    mean = sum(block.sum(axis=0) for block in _blocks(training)) / len(training)
    # a second pass: the difference of two large sums would lose digits
    variance = sum(((block - mean) ** 2).sum(axis=0) for block in _blocks(training)) / len(training)
    return PixelStatistics(mean, np.maximum(variance, variance_floor))


def _check(frames: np.ndarray, shape: tuple[int, ...]) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != shape:
        raise ValueError(f"frames must be uint8 (m, {', '.join(map(str, shape))}), got {frames.dtype} {frames.shape}")


def _blocks(frames: np.ndarray):
    return (frames[i : i + _BLOCK_FRAMES].astype(np.float64) for i in range(0, len(frames), _BLOCK_FRAMES))
