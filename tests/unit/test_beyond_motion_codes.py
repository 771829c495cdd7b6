"""Codes of motion: what normal clips have is likely, what is faster is not, if the codebooks have seen such."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from beyond.motion_codes import MotionCodes, Settings, _frequencies, largest
from beyond.official import settings_of, with_something_faster

SETTINGS = Settings(codes=8, codebooks=3)


def walking(n: int, seed: int = 0) -> np.ndarray:
    """Flow of frames in which a region moves at about 1 px: (n, 3, 12, 12)."""
    generator = np.random.default_rng(seed)
    flow = np.zeros((n, 3, 12, 12), np.float32)
    for frame in flow:
        y, x = generator.integers(0, 8, 2)
        angle, speed = generator.uniform(0, 2 * np.pi), generator.uniform(0.5, 1.2)
        frame[0, y : y + 4, x : x + 4], frame[1, y : y + 4, x : x + 4] = speed * np.cos(angle), speed * np.sin(angle)
    flow[:, 2] = np.hypot(flow[:, 0], flow[:, 1])
    return flow


@pytest.mark.parametrize("compressed", [False, True])
def test_faster_motion_is_unlikely_where_codebooks_have_seen_such(compressed):
    normal, test = walking(200), walking(60, seed=1)
    settings = replace(SETTINGS, compressed=compressed)
    wide = MotionCodes.fit(normal, settings, seed=0)
    assert wide.scores(3 * test).min() > np.median(wide.scores(test)) + 1
    narrow = MotionCodes.fit(normal, replace(settings, coverage=1.0), seed=0)
    gained = [np.median(one.scores(3 * test)) - np.median(one.scores(test)) for one in (wide, narrow)]
    assert gained[0] > gained[1] + 1, "a codebook of normal motion alone takes fast motion for the fastest normal one"


def test_maps_are_nats_and_the_mean_over_codebooks():
    normal = walking(80)
    codes = MotionCodes.fit(normal, SETTINGS, seed=0)
    maps = codes.maps(normal)
    assert maps.shape == (80, 12, 12)
    assert maps.min() > 0
    each = [
        MotionCodes(replace(SETTINGS, codebooks=1), codes.codebooks[i : i + 1], codes.nll[i : i + 1]).maps(normal)
        for i in range(3)
    ]
    np.testing.assert_allclose(maps, np.mean(each, 0))
    assert np.argmax(maps[0]) in np.flatnonzero(normal[0, 2] > 0), "what stands still is the usual"


def test_the_same_seed_gives_the_same_scores():
    normal = walking(60)
    scores = [MotionCodes.fit(normal, SETTINGS, seed=seed).scores(normal) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).any()


def test_frequencies_are_counted_by_row_with_one_place_more_for_each_code():
    codes = np.zeros((50, 4, 10), int)
    codes[:, 2:] = 1  # the lower half
    shares = _frequencies(codes, Settings(codes=4, bands=2))
    np.testing.assert_allclose(shares, np.array([[1001, 1, 1, 1], [1, 1001, 1, 1]]) / 1004)
    np.testing.assert_allclose(_frequencies(codes, Settings(codes=4)), np.array([[1001, 1001, 1, 1]]) / 2004)


@pytest.mark.parametrize("window", [1, 2, (3, 2)])
def test_largest_mean_over_a_window(window):
    maps = np.random.default_rng(0).normal(size=(5, 7, 6))
    rows, columns = (window, window) if isinstance(window, int) else window
    windows = np.lib.stride_tricks.sliding_window_view(maps, (rows, columns), axis=(1, 2))
    np.testing.assert_allclose(largest(maps, window), windows.mean((3, 4)).max((1, 2)))


def test_pseudo_anomalies_are_pieces_of_faster_flow_where_something_moves():
    normal, generator = walking(30), np.random.default_rng(0)
    pseudo = with_something_faster(normal, 2 * normal, generator)
    changed = (pseudo != normal).any(1)
    assert changed.any((1, 2)).all()
    assert (normal[:, 2][changed] > 0).all()
    np.testing.assert_array_equal(pseudo[:, 2][changed], 2 * normal[:, 2][changed])


def test_settings_are_read_from_a_row():
    row = pd.DataFrame([{**vars(SETTINGS), "pseudo_auroc": 0.9}]).iloc[0]
    assert settings_of(row) == SETTINGS
