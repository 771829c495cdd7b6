"""Smoothing over time: within a clip, by Gaussian weights, from the past alone where it is to be causal."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from beyond.temporal import smoothed


def test_centred_is_a_gaussian_where_no_end_of_a_clip_is_near():
    scores = np.random.default_rng(0).normal(size=60)
    found = smoothed(scores, ["a"] * 60, frames=3, causal=False)
    assert found[12:-12] == pytest.approx(gaussian_filter1d(scores, 3)[12:-12])


def test_a_constant_stays_at_the_ends_of_clips_and_clips_do_not_mix():
    scores = [1.0] * 5 + [7.0] * 3
    for causal in (True, False):
        assert smoothed(scores, ["a"] * 5 + ["b"] * 3, frames=4, causal=causal) == pytest.approx(scores)


def test_causal_sees_no_later_frame():
    scores = np.zeros(20)
    scores[10] = 1
    found = smoothed(scores, ["a"] * 20, frames=2, causal=True)
    assert not found[:10].any()
    assert found[10] == found.max() > 0
    assert (np.diff(found[10:19]) < 0).all()
    assert smoothed(scores, ["a"] * 20, frames=2, causal=False)[9] > 0


def test_order_of_the_clips_does_not_matter():
    scores, clips = np.array([1.0, 10.0, 2.0, 20.0, 3.0]), np.array(["a", "b", "a", "b", "a"])
    found = smoothed(scores, clips, frames=1, causal=False)
    assert found[clips == "a"] == pytest.approx(smoothed([1.0, 2.0, 3.0], ["a"] * 3, frames=1, causal=False))
