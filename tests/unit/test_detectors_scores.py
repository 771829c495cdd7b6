"""Scores from numbers, by hand: sample-wise (eq. 9 and 10), weights and maps (eq. 11 and 12), regenerative."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import torch

from vqad_lib.config import DetectorConfig
from vqad_lib.detectors.residuals import (
    anomaly_map,
    regenerative_map,
    restoration_weights,
    smooth,
    smooth_with_neighbours,
)
from vqad_lib.detectors.sample_wise import TIE_MARGIN_NATS, sample_wise_score, thresholds_at

RULE = DetectorConfig(
    threshold_percentiles=(80,),
    n_restorations=1,  # plays no part here
    weights_over="restorations",
    weight_denominator="mean",
    weight_temperature=1.0,
    smooth_over="pixels",
    min_pool_px=3,
    average_pool_px=7,
    map_limit=float("inf"),
    restoration_algorithm="fast",
    chunk_images=4,
    memory_budget_mb=1,
)
UNSMOOTHED = replace(RULE, min_pool_px=1, average_pool_px=1)
PUBLISHED = replace(
    RULE,
    weights_over="colour_channels",
    weight_temperature=3.0,
    smooth_over="pixels_and_restorations",
    map_limit=1.0,
)

# --- eq. 9 and 10


def test_eq_09_adds_up_the_surprise_above_the_threshold() -> None:
    code_nll = torch.tensor([[[0.5, 2.0], [3.0, 1.0]], [[0.1, 0.2], [0.3, 0.4]]])
    assert sample_wise_score(code_nll, threshold_nats=0.75).tolist() == [6.0, 0.0]


def test_eq_10_counts_only_strictly_above_the_threshold() -> None:
    code_nll = torch.tensor([[[0.5, 2.0], [3.0, 1.0]]])
    assert sample_wise_score(code_nll, threshold_nats=2.0).tolist() == [3.0]
    assert sample_wise_score(code_nll, threshold_nats=np.nextafter(2.0, 0.0, dtype=np.float32).item()).tolist() == [5.0]


def test_eq_09_with_probabilities_by_numpy() -> None:
    probability = np.random.default_rng(0).uniform(0.01, 1, (3, 2, 4))
    surprise = -np.log(probability)
    expected = [sum(z for z in image.ravel() if z > 1.2) for image in surprise]
    score = sample_wise_score(torch.from_numpy(surprise), threshold_nats=1.2)
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-12)


def test_sample_wise_refuses_another_number_of_dimensions() -> None:
    with pytest.raises(ValueError, match=r"code_nll must be \(B, h, w\), got \(2, 2\)"):
        sample_wise_score(torch.zeros(2, 2), threshold_nats=1.0)


def test_thresholds_stand_at_percentiles_a_margin_above() -> None:
    code_nll = np.array([[4.0, 1.0], [3.0, 2.0], [5.0, 0.0]], dtype=np.float32)
    thresholds = thresholds_at(code_nll, (0, 20, 50, 90, 100))
    assert list(thresholds) == [0, 20, 50, 90, 100]
    expected = np.array([0.0, 1.0, 2.5, 4.5, 5.0]) + TIE_MARGIN_NATS
    np.testing.assert_allclose(list(thresholds.values()), expected, rtol=0, atol=1e-12)


def test_a_code_is_not_above_its_own_percentile() -> None:
    code_nll = torch.tensor([[[4.0, 1.0], [3.0, 2.0], [5.0, 0.0]]])
    threshold = thresholds_at(code_nll.numpy(), (20,))[20]
    rounded_up = code_nll + 2e-6  # the same codes, computed in another batch size
    assert sample_wise_score(rounded_up, threshold_nats=threshold).item() == pytest.approx(14.0, abs=1e-4)


def test_thresholds_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no codes"):
        thresholds_at(np.zeros((0, 2, 2)), (50,))


# --- eq. 11


def test_eq_11_weights_by_hand() -> None:
    difference = torch.tensor([[0.5, 0.25, 1.0]])
    exponent = np.exp([2 / 0.5, 2 / 0.25, 2 / 1])  # k = 2 over the mean
    weights = restoration_weights(difference, replace(RULE, weight_temperature=2.0), values=4)
    np.testing.assert_allclose(weights.numpy()[0], exponent / exponent.sum(), rtol=1e-6)
    exponent = np.exp([2 / 2, 2 / 1, 2 / 4])  # over the sum of four values
    of_sum = replace(RULE, weight_temperature=2.0, weight_denominator="sum")
    weights = restoration_weights(difference, of_sum, values=4)
    np.testing.assert_allclose(weights.numpy()[0], exponent / exponent.sum(), rtol=1e-6)


def test_eq_11_chooses_by_the_mean_and_hardly_at_all_by_the_sum() -> None:
    """k = 3 on images of 64x64: over the sum it leaves the weights uniform to the fourth digit."""
    difference, values = torch.tensor([[0.150, 0.143, 0.127]]), 3 * 64 * 64
    by_mean, by_sum = (
        restoration_weights(difference, replace(RULE, weight_temperature=3.0, weight_denominator=d), values=values)
        for d in ("mean", "sum")
    )
    np.testing.assert_allclose(by_mean[0], [0.0243, 0.0648, 0.9109], atol=5e-5)
    np.testing.assert_allclose(by_sum[0], [0.3333, 0.3333, 0.3334], atol=5e-5)


def test_eq_11_compares_images_in_0_1() -> None:
    """All of two restorations is off by 0.5 and 0.25 of the range of an image: k over these is in the exponent."""
    images = torch.full((1, 3, 4, 4), -1.0)
    restorations = torch.stack([images + 1.0, images + 0.5], 1)
    heatmap = anomaly_map(images, restorations, replace(RULE, weight_temperature=1.0))
    a, b = np.exp(1 / 0.5), np.exp(1 / 0.25)
    np.testing.assert_allclose(heatmap, np.full((1, 4, 4), (0.5 * a + 0.25 * b) / (a + b)), rtol=1e-6)


def test_eq_11_trusts_the_restoration_that_differs_least_and_adds_up_to_one() -> None:
    difference = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    weights = restoration_weights(difference, RULE, values=12)
    np.testing.assert_allclose(weights.sum(1), np.ones(3), rtol=1e-6)
    assert (weights.argmax(1) == difference.argmin(1)).all()


def test_eq_11_restoration_equal_to_its_image_takes_all_the_weight() -> None:
    assert restoration_weights(torch.tensor([[0.0, 0.5, 0.25]]), RULE, values=12).tolist() == [[1.0, 0.0, 0.0]]
    assert restoration_weights(torch.zeros(1, 4), RULE, values=12).tolist() == [[0.25] * 4]


# --- smoothing


@pytest.mark.parametrize(("min_pool_px", "average_pool_px"), [(3, 7), (1, 5), (5, 1), (3, 3)])
def test_smoothing_is_minimum_then_average_as_in_scipy(min_pool_px: int, average_pool_px: int) -> None:
    residual = np.random.default_rng(1).uniform(0, 2, (2, 12, 15))
    computed = smooth(
        torch.from_numpy(residual), replace(RULE, min_pool_px=min_pool_px, average_pool_px=average_pool_px)
    ).numpy()
    for image, output in zip(residual, computed, strict=True):
        lowest = scipy.ndimage.minimum_filter(image, min_pool_px, mode="constant", cval=np.inf)
        inside = scipy.ndimage.uniform_filter(np.ones_like(image), average_pool_px, mode="constant")
        expected = scipy.ndimage.uniform_filter(lowest, average_pool_px, mode="constant") / inside
        np.testing.assert_allclose(output, expected, rtol=1e-9, atol=1e-12)


def test_smoothing_removes_a_line_and_keeps_a_block() -> None:
    residual = torch.zeros(2, 9, 9)
    residual[0, :, 4] = 1  # thinner than the 3x3 window
    residual[1, 3:6, 3:6] = 1
    smoothed = smooth(residual, RULE)
    assert smoothed[0].max() == 0
    assert smoothed[1, 4, 4].item() == pytest.approx(1 / 49)  # one pixel survives the minimum


def test_smoothing_with_neighbours_is_smoothing_in_three_dimensions_as_in_scipy() -> None:
    """Three restorations deep; windows of the minimum are cut, those of the average padded with zeros that count."""
    residuals = np.random.default_rng(1).uniform(0, 1, (2, 5, 12, 15))
    computed = smooth_with_neighbours(torch.from_numpy(residuals), RULE).numpy()
    for stack, output in zip(residuals, computed, strict=True):
        lowest = scipy.ndimage.minimum_filter(stack, 3, mode="constant", cval=np.inf)
        expected = scipy.ndimage.uniform_filter(lowest, (3, 7, 7), mode="constant")
        np.testing.assert_allclose(output, expected, rtol=1e-9)


def test_other_windows_with_neighbours_are_scipys_too() -> None:
    residuals = np.random.default_rng(2).uniform(0, 1, (1, 4, 11, 13))
    rule = replace(RULE, min_pool_px=5, average_pool_px=9)
    lowest = scipy.ndimage.minimum_filter(residuals[0], (3, 5, 5), mode="constant", cval=np.inf)
    expected = scipy.ndimage.uniform_filter(lowest, (3, 9, 9), mode="constant")
    found = smooth_with_neighbours(torch.from_numpy(residuals), rule)[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_restorations_than_a_window_is_deep(n: int) -> None:
    """Of one or two restorations, all count the same: the minimum spans all, and zeros fill up the average."""
    residuals = torch.full((2, n, 9, 9), 0.5)
    smoothed = smooth_with_neighbours(residuals, RULE)
    assert smoothed[:, :, 4, 4].unique().item() == pytest.approx(0.5 * n / 3)
    assert smoothed[0, 0, 0, 0].item() == pytest.approx(0.5 * n / 3 * 16 / 49)  # a corner sees 4x4 of 7x7


# --- eq. 12


def test_eq_12_map_by_hand_without_smoothing() -> None:
    images = torch.tensor([[1.0, -1.0], [-1.0, -1.0]]).reshape(1, 1, 2, 2)
    restorations = torch.tensor([[[-1.0, -1.0], [-1.0, -1.0]], [[1.0, 1.0], [-1.0, 1.0]]]).reshape(1, 2, 1, 2, 2)
    first, second = np.exp(1 / 0.25), np.exp(1 / 0.5)  # one and two of four pixels differ by all there is
    w = np.array([first, second]) / (first + second)
    heatmap = anomaly_map(images, restorations, UNSMOOTHED)
    np.testing.assert_allclose(heatmap.numpy(), [[[w[0], w[1]], [0, w[1]]]], rtol=1e-6)


@pytest.mark.parametrize("denominator", ["mean", "sum"])
def test_eq_12_smooths_each_residual_before_the_sum_by_scipy(denominator: str) -> None:
    generator = np.random.default_rng(2)
    images, restorations = generator.uniform(-1, 1, (2, 3, 11, 12)), generator.uniform(-1, 1, (2, 4, 3, 11, 12))
    rule = replace(RULE, weight_temperature=50.0, weight_denominator=denominator)
    heatmap = anomaly_map(torch.from_numpy(images), torch.from_numpy(restorations), rule)
    assert heatmap.shape == (2, 11, 12)
    interior = (slice(4, -4), slice(4, -4))
    for b in range(2):
        residuals = np.abs(images[b] - restorations[b]) / 2  # N C H W
        difference = getattr(residuals, denominator)((1, 2, 3))
        exponent = np.exp(50 / difference - 50 / difference.min())
        expected, late = np.zeros((11, 12)), np.zeros((11, 12))
        for weight, residual in zip(exponent / exponent.sum(), residuals.mean(1), strict=True):
            lowest = scipy.ndimage.minimum_filter(residual, 3)
            expected += weight * scipy.ndimage.uniform_filter(lowest, 7)
            late += weight * residual
        np.testing.assert_allclose(heatmap[b].numpy()[interior], expected[interior], rtol=1e-9)
        late = scipy.ndimage.uniform_filter(scipy.ndimage.minimum_filter(late, 3), 7)
        assert np.abs(late - expected)[interior].max() > 1e-4  # smoothing after the sum would be something else


def test_weights_over_colour_channels_by_hand() -> None:
    images = torch.zeros(1, 2, 1, 2)
    first, second = [[[1.0, 1.0]], [[0.5, 0.0]]], [[[0.0, 0.0]], [[1.0, -1.0]]]  # channels of two restorations
    restorations = 2 * torch.tensor([[first, second]])
    heatmap = anomaly_map(images, restorations, replace(UNSMOOTHED, weights_over="colour_channels"))
    a, b = np.exp(1 / 1), np.exp(1 / 0.25)  # channel means 1 and 0.25; in the second restoration 0 and 1
    expected = np.array([[a + 0.5 * b, a]]) / (a + b)  # the second: all weight on the channel without a difference
    np.testing.assert_allclose(heatmap.numpy()[0], expected / 2, rtol=1e-6)


def test_weights_over_colour_channels_of_sums_by_hand() -> None:
    """Two channels of 2x3 pixels that differ by 1 and 0.5: sums 6 and 3, so weights exp(k/6) and exp(k/3)."""
    images = torch.zeros(1, 2, 2, 3)
    restorations = 2 * torch.tensor([1.0, 0.5]).reshape(1, 1, 2, 1, 1).expand(1, 1, 2, 2, 3)
    rule = replace(UNSMOOTHED, weights_over="colour_channels", weight_denominator="sum", weight_temperature=6.0)
    a, b = np.exp(6 / 6), np.exp(6 / 3)
    heatmap = anomaly_map(images, restorations, rule)
    np.testing.assert_allclose(heatmap.numpy(), np.full((1, 2, 3), (a + 0.5 * b) / (a + b)), rtol=1e-6)


def test_each_smoothed_residual_is_cut_before_restorations_are_combined() -> None:
    """Values 1 and 0.2 with equal weights: 0.6 without a limit, (0.5 + 0.2) / 2 with a limit of 0.5."""
    images = torch.full((1, 1, 1, 1), -1.0)
    restorations = torch.tensor([1.0, -0.6]).reshape(1, 2, 1, 1, 1)
    rule = replace(UNSMOOTHED, weights_over="colour_channels")
    assert anomaly_map(images, restorations, rule).item() == pytest.approx(0.6)
    assert anomaly_map(images, restorations, replace(rule, map_limit=0.5)).item() == pytest.approx(0.35)


# --- the published rule


def published_score(image: np.ndarray, restorations: np.ndarray) -> float:
    """(C, H, W) and (N, C, H, W) on the scale of [0, 1] -> the published score, step by step, window by window."""
    residuals = np.abs(image - restorations)
    trust = np.exp(3 / residuals.mean((2, 3)))  # of each channel of each restoration, 3 over its mean difference
    volume = np.einsum("nc,nchw->nhw", trust / trust.sum(1, keepdims=True), residuals)
    places = list(np.ndindex(volume.shape))
    lowest = [volume[max(n - 1, 0) : n + 2, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].min() for n, y, x in places]
    padded = np.pad(np.reshape(lowest, volume.shape), ((1, 1), (3, 3), (3, 3)))  # by zeros, which count
    smoothed = [padded[n : n + 3, y : y + 7, x : x + 7].sum() / (3 * 7 * 7) for n, y, x in places]
    return float(np.mean(np.minimum(smoothed, 1)))


@pytest.mark.parametrize("beyond", [0.0, 3.0])  # published images are not clamped: residuals may exceed 1
@pytest.mark.parametrize("n", [1, 5])
def test_all_options_at_published_give_the_published_score(n: int, beyond: float) -> None:
    generator = np.random.default_rng(3)
    images, restorations = generator.uniform(0, 1, (2, 3, 9, 11)), generator.uniform(0, 1, (2, n, 3, 9, 11))
    restorations[..., 5:] += beyond
    expected = [published_score(image, of_image) for image, of_image in zip(images, restorations, strict=True)]
    scores = [
        anomaly_map(torch.from_numpy(2 * images - 1), torch.from_numpy(2 * restorations - 1), rule).mean((1, 2))
        for rule in (PUBLISHED, replace(PUBLISHED, map_limit=np.inf))
    ]
    np.testing.assert_allclose(scores[0], expected, rtol=1e-12)
    # zeros on both sides of a single restoration keep even these residuals below the limit
    assert (scores[1] > scores[0]).all() == (beyond > 0 and n > 1)


# --- regenerative


def test_regenerative_map_is_the_mean_absolute_difference_by_hand() -> None:
    images = torch.zeros(2, 3, 1, 2)
    reconstructions = torch.zeros(2, 3, 1, 2)
    reconstructions[0, :, 0, 0] = torch.tensor([0.5, -1.0, 1.5])
    assert regenerative_map(images, reconstructions).tolist() == [[[0.5, 0.0]], [[0.0, 0.0]]]  # of images in [0, 1]
