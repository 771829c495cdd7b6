"""The nearest training frame, against brute force."""

import numpy as np
import pandas as pd
import pytest

from vqad_lib.data import nearest as nearest_module
from vqad_lib.data.nearest import frames_to_nearest_training, nearest_training_distances


def distances(queries, training):
    index = pd.DataFrame({"clip": "a", "frame": range(max(len(queries), len(training)))})
    known = {"query_index": index[: len(queries)], "training_index": index[: len(training)]}
    return nearest_training_distances(queries, training, **known)[0]


@pytest.mark.parametrize("block_rows", [256, 3])
def test_against_brute_force(monkeypatch, block_rows):
    monkeypatch.setattr(nearest_module, "_BLOCK_ROWS", block_rows)
    rng = np.random.default_rng(0)
    queries, training = (rng.integers(0, 256, (n, 3, 6, 6), dtype=np.uint8) for n in (7, 11))
    queries[4] = training[2]
    found = distances(queries, training)
    squared = (queries[:, None].astype(np.int64) - training[None].astype(np.int64)) ** 2
    np.testing.assert_allclose(found, np.sqrt(squared.mean(axis=(2, 3, 4))).min(axis=1), rtol=1e-14)
    assert found[4] == 0.0


def test_distance_by_hand():
    black, white = np.zeros((1, 3, 2, 2), dtype=np.uint8), np.full((1, 3, 2, 2), 255, dtype=np.uint8)
    assert distances(black, white).tolist() == [255.0]
    one_channel = black.copy()
    one_channel[:, 0] = 30  # a third of the values differ by 30
    np.testing.assert_allclose(distances(one_channel, black), [30 / np.sqrt(3)])


def test_refuses_other_shapes_and_types():
    frames = np.zeros((2, 3, 4, 4), dtype=np.uint8)
    for queries, training in ((frames.astype(float), frames), (frames, frames[:, :, :2]), (frames, frames[:0])):
        with pytest.raises(ValueError, match="must be uint8"):
            distances(queries, training)
    assert distances(frames[:0], frames).shape == (0,)


def test_distance_in_time():
    index = pd.DataFrame(
        {
            "clip": ["a"] * 6 + ["b"] * 2 + ["normal"],
            "frame": [0, 1, 2, 3, 4, 9, 0, 1, 0],
            "part": ["train"] * 6 + ["test"] * 2 + ["folder"],
        }
    )
    splits = np.array(["test", "train", "test", "test", "train", "test", "test", "validation", "train"])
    expected = [1, 0, 1, 1, 0, 5, np.nan, np.nan, np.nan]
    np.testing.assert_array_equal(frames_to_nearest_training(index, splits), expected)
