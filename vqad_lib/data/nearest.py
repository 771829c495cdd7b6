"""How much of a test set the training set gives away: the nearest training frame, in grey levels and in time.

`gaps` leave out training frames close in time, and so measure what is left of that.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

WHOLE_CLIP = np.inf  # a gap: every training frame of the same clip is left out
_BLOCK_ROWS = 256  # frames turned into float64 at a time: bounds memory


def nearest_training_distances(
    queries: np.ndarray,
    training: np.ndarray,
    *,
    query_index: pd.DataFrame,
    training_index: pd.DataFrame,
    gaps: Sequence[float] = (0,),
) -> np.ndarray:
    """How far each query is from the nearest training frame among those that are not too close in time.

    Squared differences are exact: they are whole numbers below 2**53, so float64 matrix products do not round.

    Args:
        queries: (m, 3, size, size) uint8.
        training: (n, 3, size, size) uint8, n >= 1.
        query_index, training_index: their rows of `FrameSet.index`: clip and frame.
        gaps: G of them, frames, each >= 0; training frames of the same clip that are closer than a gap are left out.
            0 leaves out none, 1 the frame itself, `WHOLE_CLIP` all of the clip.

    Returns:
        (G, m) float64, root mean squared difference over pixels and channels, in grey levels, [0, 255]; inf where no
        training frame is left.

    Raises:
        ValueError: not uint8, shapes do not match, or `training` is empty.
    """
    if not queries.dtype == training.dtype == np.uint8 or queries.shape[1:] != training.shape[1:] or not len(training):
        shapes = f"{queries.dtype} {queries.shape} and {training.dtype} {training.shape}"
        raise ValueError(f"frames must be uint8 (m, 3, s, s) and (n, 3, s, s), n >= 1, got {shapes}")
    (clip, frame), (known_clip, known_frame) = _when(query_index), _when(training_index)
    best = np.full((len(gaps), len(queries)), np.inf)
    for known in _blocks(len(training)):
        references = _rows(training[known])
        reference_norms = np.einsum("nd,nd->n", references, references)
        for block in _blocks(len(queries)):
            frames = _rows(queries[block])
            # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b, (rows of queries, rows of training)
            squared = np.einsum("nd,nd->n", frames, frames)[:, None] + reference_norms - 2 * (frames @ references.T)
            apart = np.abs(frame[block, None] - known_frame[known])
            apart = np.where(clip[block, None] == known_clip[known], apart, np.inf)
            for place, gap in enumerate(gaps):
                left = np.where(apart < gap, np.inf, squared / frames.shape[1])
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
    """
    clip, frame = _when(index)
    timed, trained = index["part"].to_numpy(dtype=str) != "folder", np.asarray(splits) == "train"
    distance = np.full(len(index), np.nan)
    for name in np.unique(clip[timed & trained]):
        rows, known = timed & (clip == name), frame[timed & trained & (clip == name)]
        distance[rows] = np.abs(frame[rows, None] - known).min(axis=1)
    return distance


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + _BLOCK_ROWS) for start in range(0, n, _BLOCK_ROWS)]


def _rows(frames: np.ndarray) -> np.ndarray:
    return frames.reshape(len(frames), -1).astype(np.float64)


def _when(index: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return index["clip"].to_numpy(dtype=str), index["frame"].to_numpy(dtype=np.int64)
