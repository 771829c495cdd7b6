"""Seconds per image: who is timed on what, in which order; the clock is a fake one, so nothing here takes time."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from vqad_lib.analysis import runtime
from vqad_lib.analysis.runtime import FAST, METHODS, PLAIN, chosen_thresholds, seconds_per_image
from vqad_lib.config import SpeedConfig, profile_from_mapping

THRESHOLDS = {
    "sample_wise": {20: 1.0},
    "pixel_wise": {90: 2.0},
    "light_pixel_wise": {80: 3.0},
    "regenerative": {-1: math.nan},
}
COST_S = {"sample_wise": 0.1, "pixel_wise": 0.3, "light_pixel_wise": 0.2, "regenerative": 0.05, "plain": 4.0}


class Scorer:
    """Takes as long as a method costs, by the fake clock; `slow_turn` is the number of a call that takes double."""

    device = torch.device("cpu")

    def __init__(self, slow_turn: int = -1) -> None:
        self.now, self.calls, self.slow_turn = 0.0, [], slow_turn

    def scores(self, images, image_ids, jobs, *, algorithm):
        (detector,) = jobs
        assert jobs[detector] == THRESHOLDS[detector]
        assert len(images) == len(image_ids)
        assert images.dtype == torch.float32
        self.now += (
            COST_S["plain" if algorithm == "plain" else detector]
            * len(images)
            * (2 if len(self.calls) == self.slow_turn else 1)
        )
        self.calls.append((detector, algorithm, len(images)))


def timed(monkeypatch, scorer: Scorer, **config) -> pd.DataFrame:
    monkeypatch.setattr(runtime.time, "perf_counter", lambda: scorer.now)
    frames, names = np.zeros((6, 3, 4, 4), np.uint8), [f"i{i}" for i in range(6)]
    settings = SpeedConfig(**{"images": 6, "repeats": 3, "plain_seconds": 24.0} | config)
    return seconds_per_image(scorer, frames, names, THRESHOLDS, config=settings, title="VP")


def test_rows_by_hand(monkeypatch):
    rows = timed(monkeypatch, Scorer())
    times = ["seconds_per_image", "seconds_low", "seconds_high"]
    assert list(rows) == ["method", *times, "images", "times_faster_than_plain"]
    assert list(rows["method"]) == ["Sample-wise", PLAIN, FAST, "Light Pixel-wise", "Regenerative"]
    np.testing.assert_allclose(rows["seconds_per_image"], [0.1, 4.0, 0.3, 0.2, 0.05])
    assert list(rows["images"]) == [6, 2, 6, 6, 6]  # 24 s for 3 repeats of 4 s an image
    np.testing.assert_allclose(rows["times_faster_than_plain"], [math.nan, math.nan, 4.0 / 0.3, math.nan, math.nan])


def test_methods_take_turns(monkeypatch):
    scorer = Scorer()
    timed(monkeypatch, scorer)
    turns = [call[:2] for call in scorer.calls[len(METHODS) + 1 :]]  # after one call each and one more of the plain one
    methods = list(METHODS.values())
    assert turns == methods + methods[1:] + methods[:1] + methods[2:] + methods[:2]


def test_spread_over_repeats(monkeypatch):
    scorer = Scorer(slow_turn=len(METHODS) + 1)  # the first timed call, which is sample-wise
    row = timed(monkeypatch, scorer).set_index("method").loc["Sample-wise"]
    np.testing.assert_allclose(row[["seconds_per_image", "seconds_low", "seconds_high"]].astype(float), [0.1, 0.1, 0.2])


@pytest.mark.parametrize(("plain_seconds", "images"), [(0.001, 1), (1e6, 6)])
def test_plain_gets_at_least_one_image_and_at_most_all(monkeypatch, plain_seconds, images):
    rows = timed(monkeypatch, Scorer(), plain_seconds=plain_seconds).set_index("method")
    assert rows.at[PLAIN, "images"] == images


def test_lambda_is_the_one_that_validation_selects(profile_mapping):
    run = SimpleNamespace(profile=profile_from_mapping(profile_mapping, source="test"))
    label = [0, 0, 1, 1]
    parts = []
    for percentile, score in ((20, [0.0, 2.0, 1.0, 3.0]), (90, [0.0, 1.0, 2.0, 3.0])):  # the second separates
        part = pd.DataFrame({"split": "validation", "label": label, "score": score, "detector": "pixel_wise"})
        parts.append(part.assign(threshold_percentile=percentile, threshold_nats=percentile / 10))
    pixel = pd.concat(parts)
    others = [
        pixel[pixel["threshold_percentile"] == 20].assign(detector=name) for name in ("sample_wise", "light_pixel_wise")
    ]
    test = pixel.assign(split="test")
    regenerative = pixel[:4].assign(detector="regenerative", threshold_percentile=-1, threshold_nats=math.nan)
    jobs = chosen_thresholds(run, pd.concat([test, pixel, *others, regenerative]))
    assert jobs["pixel_wise"] == {90: 9.0}
    assert jobs["sample_wise"] == jobs["light_pixel_wise"] == {20: 2.0}
    assert list(jobs["regenerative"]) == [-1]
