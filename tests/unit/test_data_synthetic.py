"""The synthetic walkway: the same frames every time, and labels that agree with masks."""

import dataclasses
import hashlib

import numpy as np

from vqad_lib.config import SyntheticConfig
from vqad_lib.data.synthetic import Walkway, generate

CONFIG = SyntheticConfig(train_clips=2, test_clips=3, frames_per_clip=12, seed=3)


def test_same_configuration_gives_the_same_frames():
    first, second = generate(CONFIG, 32), generate(CONFIG, 32)
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1].equals(second[1])
    np.testing.assert_array_equal(first[2], second[2])


def test_frames_of_earlier_versions_are_drawn_again():
    """Prepared frames are known by the configuration; whoever changes the drawing raises `GENERATOR_VERSION`."""
    images, _, masks = generate(CONFIG, 32)
    assert Walkway(CONFIG).digest().startswith("e473bf443a5abf3e")
    assert hashlib.sha256(images.tobytes() + masks.tobytes()).hexdigest().startswith("4f89ae8d93dcd89f")


def test_seed_changes_the_frames_and_the_digest():
    other = dataclasses.replace(CONFIG, seed=4)
    assert (generate(CONFIG, 32)[0] != generate(other, 32)[0]).mean() > 0.5
    assert Walkway(CONFIG).digest() == Walkway(dataclasses.replace(CONFIG)).digest()
    configs = (CONFIG, other, dataclasses.replace(CONFIG, train_clips=3))
    assert len({Walkway(config).digest() for config in configs}) == 3


def test_more_clips_begin_with_the_same_clips():
    longer = generate(dataclasses.replace(CONFIG, train_clips=3), 32)[0]
    np.testing.assert_array_equal(longer[:24], generate(CONFIG, 32)[0][:24])


def test_labels_masks_and_kinds_agree():
    images, index, masks = generate(CONFIG, 64)
    assert images.shape == (60, 3, 64, 64)
    assert (images.dtype, masks.dtype) == (np.uint8, np.uint8)
    assert index["image_id"].is_unique
    pixels = masks.reshape(60, -1).sum(axis=1)
    label = index["label"].to_numpy()
    assert (pixels[label == 0] == 0).all()
    assert (pixels[label == 1] >= 4.096).all()  # 0.1% of 64 x 64
    assert set(np.unique(masks)) == {0, 1}
    assert ((index["kind"] == "normal") == (label == 0)).all()
    assert (index["part"][label == 1] == "test").all()
    kinds = index[label == 1].groupby("clip")["kind"].unique().map(list).to_dict()
    assert kinds == {"Test001": ["cart"], "Test002": ["bike"], "Test003": ["skater"]}
    # each test clip starts and ends without its anomaly
    by_clip = index[index["part"] == "test"].groupby("clip")["label"]
    assert by_clip.first().tolist() == by_clip.last().tolist() == [0, 0, 0]
    assert by_clip.mean().between(0.3, 0.8).all()


def test_anomalies_are_visible_and_the_background_is_fixed():
    images, index, masks = generate(CONFIG, 64)
    empty = np.median(images, axis=0)
    difference = np.abs(images - empty).mean(axis=1)
    label = index["label"].to_numpy() == 1
    assert difference[label][masks[label] == 1].mean() > 40
    # sensor noise alone: mean |N(0, 2)| is 1.6 grey levels
    assert np.median(difference) < 3
    assert 60 < images.mean() < 180


def test_sizes_show_the_same_scene():
    small, large = generate(CONFIG, 32), generate(CONFIG, 64)
    reduced = large[0].reshape(60, 3, 32, 2, 32, 2).mean(axis=(3, 5))
    assert np.abs(reduced - small[0]).mean() < 5
