"""How much of a test set the training set gives away: the nearest training frame, in grey levels and in time.

What is left of that when training frames close in time are left out is measured by `nearest_beyond_gaps`.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

WHOLE_CLIP = np.inf  # a gap: every training frame of the same clip is left out
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
        nearest: (m,) int64, row of `training`; ties: the first one.

    Raises:
        ValueError: not uint8, shapes do not match, or `training` is empty.
    """
    best = np.full(len(queries), np.inf)
    nearest = np.zeros(len(queries), dtype=np.int64)
    for block, references, squared in _mean_squared_differences(queries, training):
        at = squared.argmin(axis=1)
        smallest = squared[np.arange(len(at)), at]
        closer = smallest < best[block]
        nearest[block][closer] = at[closer] + references.start
        best[block][closer] = smallest[closer]
    return np.sqrt(best), nearest


def nearest_beyond_gaps(
    queries: np.ndarray,
    training: np.ndarray,
    *,
    query_index: pd.DataFrame,
    training_index: pd.DataFrame,
    gaps: list[float],
) -> np.ndarray:
    """Distance to the nearest training frame among those that are not too close in time.

    Args:
        queries: (m, 3, size, size) uint8.
        training: (n, 3, size, size) uint8.
        query_index, training_index: their rows of `FrameSet.index`: clip and frame.
        gaps: G of them, frames, each > 0; training frames of the same clip that are closer than a gap are left out.
            1 leaves out none but the frame itself, `WHOLE_CLIP` all of the clip.

    Returns:
        (G, m) float64, root mean squared difference in grey levels; inf where no training frame is left.

    Raises:
        ValueError: as `nearest_training_frame`; an index of another length.
    """
    rows = len(query_index), len(training_index)
    if rows != (len(queries), len(training)):
        raise ValueError(f"{rows[0]} and {rows[1]} rows for {len(queries)} and {len(training)} frames")
    (clip, frame), (known_clip, known_frame) = _when(query_index), _when(training_index)
    best = np.full((len(gaps), len(queries)), np.inf)
    for block, known, squared in _mean_squared_differences(queries, training):
        apart = np.abs(frame[block, None] - known_frame[None, known]).astype(np.float64)
        in_clip = clip[block, None] == known_clip[None, known]
        for place, gap in enumerate(gaps):
            left = np.where(in_clip & (apart < gap), np.inf, squared)
            best[place, block] = np.minimum(best[place, block], left.min(axis=1))
    return np.sqrt(best)


def frames_to_nearest_training(index: pd.DataFrame, splits: np.ndarray) -> np.ndarray:
    """How far in time the nearest training frame of the same clip is.

    Args:
        index: n rows with `clip`, `frame` and `part`, as `FrameSet.index`.
        splits: (n,) str, as `split_frames` returns them.

    Returns:
        (n,) float64, frames; 0 for a training frame itself; NaN where the clip has no training frame, and for an image
        folder, whose order is not time.

    Raises:
        ValueError: `splits` has another length than `index`.
    """
    if len(splits) != len(index):
        raise ValueError(f"{len(splits)} splits for {len(index)} frames")
    clip, frame = _when(index)
    timed, trained = index["part"].to_numpy(dtype=str) != "folder", np.asarray(splits) == "train"
    distance = np.full(len(index), np.nan)
    for name in np.unique(clip[timed & trained]):
        rows, known = timed & (clip == name), frame[timed & trained & (clip == name)]
        distance[rows] = np.abs(frame[rows, None] - known).min(axis=1)
    return distance


def _mean_squared_differences(queries: np.ndarray, training: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
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
    blocks = (frames[i : i + _BLOCK_ROWS] for i in range(0, len(frames), _BLOCK_ROWS))
    return all((block == block[:, :1]).all() for block in blocks)


def _rows(frames: np.ndarray) -> np.ndarray:
    return frames.reshape(len(frames), -1).astype(np.float64)


def _when(index: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return index["clip"].to_numpy(dtype=str), index["frame"].to_numpy(dtype=np.int64)
