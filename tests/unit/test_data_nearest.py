"""The nearest training frame, against brute force."""

import numpy as np
import pandas as pd
import pytest

from vqad_lib.data import nearest as nearest_module
from vqad_lib.data.nearest import frames_to_nearest_training, nearest_training_frame


def brute_force(queries, training):
    squared = (queries[:, None].astype(np.int64) - training[None].astype(np.int64)) ** 2
    distance = np.sqrt(squared.mean(axis=(2, 3, 4)))
    return distance.min(axis=1), distance.argmin(axis=1)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("block_rows", [512, 3])
def test_against_brute_force(monkeypatch, grey, block_rows):
    monkeypatch.setattr(nearest_module, "_BLOCK_ROWS", block_rows)
    rng = np.random.default_rng(0)
    queries, training = (
        rng.integers(0, 256, (7, 3, 6, 6), dtype=np.uint8),
        rng.integers(0, 256, (11, 3, 6, 6), dtype=np.uint8),
    )
    if grey:
        queries[:], training[:] = queries[:, :1], training[:, :1]
    training[9] = training[2]  # a tie: the first one counts
    queries[4] = training[2]
    distance, nearest = nearest_training_frame(queries, training)
    expected_distance, expected_nearest = brute_force(queries, training)
    np.testing.assert_allclose(distance, expected_distance, rtol=1e-14)
    np.testing.assert_array_equal(nearest, expected_nearest)
    assert (distance[4], nearest[4]) == (0.0, 2)
    assert (distance.dtype, nearest.dtype) == (np.float64, np.int64)


def test_distance_by_hand():
    black, white = np.zeros((1, 3, 2, 2), dtype=np.uint8), np.full((1, 3, 2, 2), 255, dtype=np.uint8)
    assert nearest_training_frame(black, white)[0].tolist() == [255.0]
    one_channel = black.copy()
    one_channel[:, 0] = 30  # a third of the values differ by 30
    np.testing.assert_allclose(nearest_training_frame(one_channel, black)[0], [30 / np.sqrt(3)])


def test_refuses_other_shapes_and_types():
    frames = np.zeros((2, 3, 4, 4), dtype=np.uint8)
    with pytest.raises(ValueError, match="uint8"):
        nearest_training_frame(frames.astype(float), frames)
    with pytest.raises(ValueError, match="must be"):
        nearest_training_frame(frames, frames[:, :, :2])
    with pytest.raises(ValueError, match="must be"):
        nearest_training_frame(frames, frames[:0])
    assert nearest_training_frame(frames[:0], frames)[0].shape == (0,)


def test_distance_in_time():
    index = pd.DataFrame(
        {
            "clip": ["a"] * 6 + ["b"] * 2 + ["normal"],
            "frame": [0, 1, 2, 3, 4, 9, 0, 1, 0],
            "part": ["train"] * 6 + ["test"] * 2 + ["folder"],
        }
    )
    subsets = np.array(["test", "train", "test", "test", "train", "test", "test", "validation", "train"])
    expected = [1, 0, 1, 1, 0, 5, np.nan, np.nan, np.nan]
    np.testing.assert_array_equal(frames_to_nearest_training(index, subsets), expected)
    with pytest.raises(ValueError, match="splits"):
        frames_to_nearest_training(index, subsets[:3])
