"""Scores from numbers, by hand: sample-wise (eq. 9 and 10), weights and maps (eq. 11 and 12), regenerative."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from vqad_lib.detectors.regenerative import regenerative_map, regenerative_score
from vqad_lib.detectors.residuals import anomaly_map, image_score, restoration_weights, smooth, smooth_with_neighbours
from vqad_lib.detectors.sample_wise import TIE_MARGIN_NATS, sample_wise_score, thresholds_at

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
    images = torch.zeros(1, 1, 1, 2)
    restorations = torch.tensor([[1.0, 1.0], [0.0, -1.0], [4.0, 0.0]]).reshape(1, 3, 1, 1, 2)
    exponent = np.exp([2 / 2, 2 / 1, 2 / 4])  # k = 2 over the summed differences 2, 1 and 4
    weights = restoration_weights(images, restorations, temperature=2.0)
    np.testing.assert_allclose(weights.numpy()[0], exponent / exponent.sum(), rtol=1e-6)


def test_eq_11_trusts_the_restoration_that_differs_least_and_adds_up_to_one() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 2, 2, generator=generator)
    restorations = torch.rand(3, 5, 3, 2, 2, generator=generator)
    weights = restoration_weights(images, restorations, temperature=3.0)
    difference = np.abs(images.numpy()[:, None] - restorations.numpy()).sum((2, 3, 4))
    exponent = np.exp(3 / difference)
    np.testing.assert_allclose(weights.numpy(), exponent / exponent.sum(1, keepdims=True), rtol=1e-5)
    assert (weights.argmax(1).numpy() == difference.argmin(1)).all()


def test_eq_11_restoration_equal_to_its_image_takes_all_the_weight() -> None:
    images = torch.ones(1, 3, 2, 2)
    restorations = torch.stack([images, images * 0, images * 0.5], 1)
    assert restoration_weights(images, restorations, temperature=1.0).tolist() == [[1.0, 0.0, 0.0]]
    equal = images[:, None].expand(-1, 4, -1, -1, -1)
    assert restoration_weights(images, equal, temperature=1.0).tolist() == [[0.25] * 4]


# --- smoothing


@pytest.mark.parametrize(("min_pool_px", "average_pool_px"), [(3, 7), (1, 5), (5, 1), (3, 3)])
def test_smoothing_is_minimum_then_average_as_in_scipy(min_pool_px: int, average_pool_px: int) -> None:
    residual = np.random.default_rng(1).uniform(0, 2, (2, 12, 15))
    computed = smooth(torch.from_numpy(residual), min_pool_px=min_pool_px, average_pool_px=average_pool_px).numpy()
    for image, output in zip(residual, computed, strict=True):
        lowest = scipy.ndimage.minimum_filter(image, min_pool_px, mode="constant", cval=np.inf)
        inside = scipy.ndimage.uniform_filter(np.ones_like(image), average_pool_px, mode="constant")
        expected = scipy.ndimage.uniform_filter(lowest, average_pool_px, mode="constant") / inside
        np.testing.assert_allclose(output, expected, rtol=1e-9, atol=1e-12)


def test_smoothing_removes_a_line_and_keeps_a_block() -> None:
    residual = torch.zeros(2, 9, 9)
    residual[0, :, 4] = 1  # thinner than the 3x3 window
    residual[1, 3:6, 3:6] = 1
    smoothed = smooth(residual, min_pool_px=3, average_pool_px=7)
    assert smoothed[0].max() == 0
    assert smoothed[1, 4, 4].item() == pytest.approx(1 / 49)  # one pixel survives the minimum


def test_smoothing_with_neighbours_is_smoothing_in_three_dimensions_as_in_scipy() -> None:
    residuals = np.random.default_rng(1).uniform(0, 2, (2, 5, 12, 15))
    computed = smooth_with_neighbours(torch.from_numpy(residuals), min_pool_px=3, average_pool_px=7).numpy()
    for stack, output in zip(residuals, computed, strict=True):
        lowest = scipy.ndimage.minimum_filter(stack, 3, mode="constant", cval=np.inf)
        inside = scipy.ndimage.uniform_filter(np.ones_like(stack), 7, mode="constant")
        np.testing.assert_allclose(output, scipy.ndimage.uniform_filter(lowest, 7, mode="constant") / inside, rtol=1e-9)


def test_one_restoration_has_no_neighbours() -> None:
    residuals = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    windows = {"min_pool_px": 3, "average_pool_px": 7}
    torch.testing.assert_close(smooth_with_neighbours(residuals, **windows)[:, 0], smooth(residuals[:, 0], **windows))


# --- eq. 12


def test_eq_12_map_by_hand_without_smoothing() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).reshape(1, 1, 2, 2)
    restorations = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, -1.0]]]).reshape(1, 2, 1, 2, 2)
    first, second = np.exp(1 / 1), np.exp(1 / 2)  # differences 1 and 2
    w = np.array([first, second]) / (first + second)
    heatmap = anomaly_map(images, restorations, temperature=1.0, min_pool_px=1, average_pool_px=1)
    np.testing.assert_allclose(heatmap.numpy(), [[[w[0], w[1]], [0, w[1]]]], rtol=1e-6)


def test_eq_12_smooths_each_residual_before_the_sum_by_scipy() -> None:
    generator = np.random.default_rng(2)
    images, restorations = generator.uniform(-1, 1, (2, 3, 11, 12)), generator.uniform(-1, 1, (2, 4, 3, 11, 12))
    heatmap = anomaly_map(
        torch.from_numpy(images), torch.from_numpy(restorations), temperature=50.0, min_pool_px=3, average_pool_px=7
    )
    assert heatmap.shape == (2, 11, 12)
    interior = (slice(4, -4), slice(4, -4))
    for b in range(2):
        residuals = np.abs(images[b] - restorations[b])  # N C H W
        exponent = np.exp(50 / residuals.sum((1, 2, 3)))
        expected, late = np.zeros((11, 12)), np.zeros((11, 12))
        for weight, residual in zip(exponent / exponent.sum(), residuals.mean(1), strict=True):
            lowest = scipy.ndimage.minimum_filter(residual, 3)
            expected += weight * scipy.ndimage.uniform_filter(lowest, 7)
            late += weight * residual
        np.testing.assert_allclose(heatmap[b].numpy()[interior], expected[interior], rtol=1e-9)
        late = scipy.ndimage.uniform_filter(scipy.ndimage.minimum_filter(late, 3), 7)
        assert np.abs(late - expected)[interior].min() > 1e-3  # smoothing after the sum would be something else


def test_weights_over_colour_channels_by_hand() -> None:
    images = torch.zeros(1, 2, 1, 2)
    first, second = [[[1.0, 1.0]], [[0.5, 0.0]]], [[[0.0, 0.0]], [[2.0, -2.0]]]  # channels of two restorations
    restorations = torch.tensor([[first, second]])
    options = {"temperature": 1.0, "min_pool_px": 1, "average_pool_px": 1}
    heatmap = anomaly_map(images, restorations, weights_over="colour_channels", **options)
    a, b = np.exp(1 / 2), np.exp(1 / 0.5)  # channel sums 2 and 0.5; in the second restoration 0 and 4
    expected = np.array([[a + 0.5 * b, a]]) / (a + b)  # the second: all weight on the channel without a difference
    np.testing.assert_allclose(heatmap.numpy()[0], expected / 2, rtol=1e-6)


def test_image_score_is_the_mean_of_the_heatmap() -> None:
    heatmap = torch.tensor([[[0.0, 1.0], [2.0, 1.0]], [[0.0, 0.0], [0.0, 2.0]]])
    assert image_score(heatmap).tolist() == [1.0, 0.5]
    assert image_score(heatmap, limit=1.0).tolist() == [0.75, 0.25]


# --- section 3.6


def test_regenerative_score_is_the_mean_absolute_difference_by_hand() -> None:
    images = torch.zeros(2, 3, 1, 2)
    reconstructions = torch.zeros(2, 3, 1, 2)
    reconstructions[0, :, 0, 0] = torch.tensor([0.5, -1.0, 1.5])
    assert regenerative_map(images, reconstructions).tolist() == [[[1.0, 0.0]], [[0.0, 0.0]]]
    assert regenerative_score(images, reconstructions).tolist() == [0.5, 0.0]
