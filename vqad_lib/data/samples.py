"""Which frames the figures show: picked by a fixed rule, so that every figure and every run shows the same ones."""

import numpy as np
import pandas as pd


def anomalous_examples(index: pd.DataFrame, *, n: int, among: np.ndarray | None = None) -> np.ndarray:
    """The middle anomalous frame of n clips spread evenly over those that have one.

    Where there are fewer clips than n (an image folder has one), frames are spread over each clip instead.

    Args:
        index: one row per frame with clip, frame, label.
        n: how many, at most.
        among: (len(index),) bool, the frames to choose from; all by default.

    Returns:
        (<= n,) int64 row numbers, ascending.
    """
    return _spread(index, index["label"].to_numpy() == 1, n, among)


def normal_examples(index: pd.DataFrame, *, n: int, among: np.ndarray | None = None) -> np.ndarray:
    """Like `anomalous_examples`, for normal frames."""
    return _spread(index, index["label"].to_numpy() == 0, n, among)


def _spread(index: pd.DataFrame, wanted: np.ndarray, n: int, among: np.ndarray | None) -> np.ndarray:
    rows = np.flatnonzero(wanted if among is None else wanted & among)
    by_clip = [group for _, group in pd.Series(rows).groupby(index["clip"].to_numpy()[rows])]
    if len(by_clip) < n:
        return rows[np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int))]
    picked = np.linspace(0, len(by_clip) - 1, n).round().astype(int)
    return np.sort([by_clip[i].iloc[len(by_clip[i]) // 2] for i in picked]).astype(np.int64)
