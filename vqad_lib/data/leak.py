"""How much of a test set the training set gives away: the nearest training frame, in grey levels and in time."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

_BLOCK_ROWS = 512  # frames turned into float64 at a time: bounds memory


def nearest_training_frame(queries: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find for each query the training frame that differs least.

    Squared differences are exact: they are whole numbers below 2**53, so float64 matrix products do not round. Where
    all channels are equal, as in grey footage, one channel is compared, which gives the same distance.

    Args:
        queries: (m, 3, size, size) uint8.
        training: (n, 3, size, size) uint8, n >= 1.

    Returns:
        distance: (m,) float64, root mean squared difference over pixels and channels, in grey levels, [0, 255].
        nearest: (m,) int64, row of `training`; the first one where several are equally near.

    Raises:
        ValueError: not uint8, shapes do not match, or `training` is empty.
    """
    best = np.full(len(queries), np.inf)
    nearest = np.zeros(len(queries), dtype=np.int64)
    for block, references, squared in mean_squared_differences(queries, training):
        at = squared.argmin(axis=1)
        smallest = squared[np.arange(len(at)), at]
        closer = smallest < best[block]
        nearest[block][closer] = at[closer] + references.start
        best[block][closer] = smallest[closer]
    return np.sqrt(best), nearest


def mean_squared_differences(queries: np.ndarray, training: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Every query against every training frame, a block at a time; arguments and errors as `nearest_training_frame`.

    Yields:
        rows of `queries` (a of them), rows of `training` (b), and (a, b) float64, mean squared differences over pixels
        and channels, squared grey levels.
    """
    if queries.dtype != np.uint8 or training.dtype != np.uint8:
        raise ValueError(f"frames must be uint8, got {queries.dtype} and {training.dtype}")
    if queries.ndim != 4 or queries.shape[1:] != training.shape[1:] or len(training) == 0:
        raise ValueError(
            f"queries {queries.shape} and training {training.shape} must be (m, c, s, s) and (n, c, s, s), n >= 1"
        )
    if _is_grey(queries) and _is_grey(training):
        queries, training = queries[:, :1], training[:, :1]
    for t in range(0, len(training), _BLOCK_ROWS):
        references = _rows(training[t : t + _BLOCK_ROWS])
        reference_norms = np.einsum("nd,nd->n", references, references)
        for q in range(0, len(queries), _BLOCK_ROWS):
            frames = _rows(queries[q : q + _BLOCK_ROWS])
            # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b, (rows of q, rows of t)
            squared = frames @ references.T
            squared *= -2
            squared += np.einsum("nd,nd->n", frames, frames)[:, None]
            squared += reference_norms
            squared /= frames.shape[1]
            yield slice(q, q + len(frames)), slice(t, t + len(references)), squared


def _is_grey(frames: np.ndarray) -> bool:
    return all(
        np.array_equal(frames[i : i + _BLOCK_ROWS, :1], frames[i : i + _BLOCK_ROWS, channel : channel + 1])
        for i in range(0, len(frames), _BLOCK_ROWS)
        for channel in range(1, frames.shape[1])
    )


def _rows(frames: np.ndarray) -> np.ndarray:
    return frames.reshape(len(frames), -1).astype(np.float64)


def frames_to_nearest_training(index: pd.DataFrame, subsets: np.ndarray) -> np.ndarray:
    """How far in time the nearest training frame of the same clip is.

    Args:
        index: n rows with `clip`, `frame` and `part`, as `FrameSet.index`.
        subsets: (n,) str, as `split_frames` returns them.

    Returns:
        (n,) float64, frames; 0 for a training frame itself; NaN where the clip has no training frame, and for an image
        folder, whose order is not time.

    Raises:
        ValueError: `subsets` has another length than `index`.
    """
    if len(subsets) != len(index):
        raise ValueError(f"{len(subsets)} subsets for {len(index)} frames")
    clip, frame = index["clip"].to_numpy(dtype=str), index["frame"].to_numpy(dtype=np.int64)
    in_clip = index["part"].to_numpy(dtype=str) != "folder"
    distance = np.full(len(index), np.nan)
    for name in np.unique(clip[in_clip]):
        rows = np.flatnonzero(in_clip & (clip == name))
        known = np.sort(frame[rows[np.asarray(subsets)[rows] == "train"]])
        if len(known):
            after = np.searchsorted(known, frame[rows])
            before_gap = np.abs(frame[rows] - known[np.maximum(after - 1, 0)])
            after_gap = np.abs(known[np.minimum(after, len(known) - 1)] - frame[rows])
            distance[rows] = np.minimum(before_gap, after_gap)
    return distance
