"""What is left of the leak when training frames close in time are left out: the nearest one at least g frames away."""

import numpy as np
import pandas as pd

from vqad_lib.data.leak import mean_squared_differences

WHOLE_CLIP = np.inf  # a gap: every training frame of the same clip is left out


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
        ValueError: as `mean_squared_differences`; an index of another length.
    """
    if len(query_index) != len(queries) or len(training_index) != len(training):
        raise ValueError(
            f"{len(query_index)} and {len(training_index)} rows for {len(queries)} and {len(training)} frames"
        )
    (clip, frame), (known_clip, known_frame) = (_when(index) for index in (query_index, training_index))
    best = np.full((len(gaps), len(queries)), np.inf)
    for rows, known, squared in mean_squared_differences(queries, training):
        apart = np.abs(frame[rows, None] - known_frame[None, known]).astype(np.float64)
        in_clip = clip[rows, None] == known_clip[None, known]
        for place, gap in enumerate(gaps):
            left = np.where(in_clip & (apart < gap), np.inf, squared)
            best[place, rows] = np.minimum(best[place, rows], left.min(axis=1))
    return np.sqrt(best)


def _when(index: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return index["clip"].to_numpy(dtype=str), index["frame"].to_numpy(dtype=np.int64)
