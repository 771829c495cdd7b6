"""AUPRO by hand and against Anomalib's; what has no area."""

import itertools

import numpy as np
import pytest

from vqad_lib.evaluation.localisation import localisation_metrics, per_region_overlap


def one_image(*, found: float) -> tuple[np.ndarray, np.ndarray]:
    """100 normal pixels, and a region of 50, of which a share stands above all normal ones and the rest below."""
    mask = np.zeros((15, 10), bool)
    mask[:5] = True
    heatmap = np.linspace(0, 1, 150).reshape(15, 10) * 0.5
    heatmap[:5] = -1
    heatmap[:5].flat[: int(50 * found)] = 2
    return heatmap[None], mask[None]


@pytest.mark.parametrize("found", [0.0, 0.5, 1.0])
def test_overlap_of_a_region_that_is_found_or_not(found):
    assert per_region_overlap(*one_image(found=found)) == pytest.approx(found, abs=0.01)


def test_overlap_by_looking_at_each_of_300_thresholds():
    draw = np.random.default_rng(3)
    masks = np.zeros((3, 16, 16), bool)
    masks[0, 2:5, 3:9] = masks[1, 1:3, 1:3] = masks[1, 8:14, 4:15] = True  # two regions in one, none in another
    heatmaps = draw.normal(size=masks.shape) + masks
    normal = sorted(heatmaps[~masks], reverse=True)
    regions = [heatmaps[0, 2:5, 3:9], heatmaps[1, 1:3, 1:3], heatmaps[1, 8:14, 4:15]]
    rates = [0.3 * i / 299 for i in range(300)]
    found = [np.mean([(region > normal[int(rate * len(normal))]).mean() for region in regions]) for rate in rates]
    expected = sum((a + b) / 2 for a, b in itertools.pairwise(found)) / 299
    assert per_region_overlap(heatmaps, masks) == pytest.approx(expected, rel=1e-9)


def test_small_and_large_regions_count_the_same():
    heatmap, mask = np.zeros((1, 12, 12)), np.zeros((1, 12, 12), bool)
    mask[0, :2, :2], mask[0, 4:12, 4:12] = True, True
    heatmap[0, 4:12, 4:12] = 1.0  # the large one is found, the small one is not
    heatmap[0, :2, :2] = -1.0
    metrics = localisation_metrics(heatmap, mask)
    assert metrics["aupro"] == pytest.approx(0.5, abs=0.01)
    assert metrics["pixel_auroc"] == pytest.approx(64 / 68, abs=1e-9)


def test_perfect_and_inverted_heatmaps():
    mask = np.random.default_rng(0).random((4, 8, 8)) > 0.8
    assert set(localisation_metrics(mask.astype(float), mask).values()) == {1.0}
    assert localisation_metrics(-mask.astype(float), mask)["pixel_auroc"] == 0


@pytest.mark.parametrize("value", [0, 1])
def test_one_class_has_no_area(value):
    found = localisation_metrics(np.zeros((2, 4, 4)), np.full((2, 4, 4), value))
    assert list(found) == ["pixel_auroc", "pixel_ap", "aupro"]
    assert np.isnan(list(found.values())).all()


def test_aupro_is_anomalibs():
    pytest.importorskip("anomalib")
    import torch
    from anomalib.metrics.aupro import _AUPRO

    draw = np.random.default_rng(1)
    masks = np.zeros((6, 32, 32), bool)
    for mask in masks:
        y, x = draw.integers(0, 24, 2)
        mask[y : y + 6, x : x + 8] = True
    heatmaps = draw.normal(size=masks.shape) + 1.5 * masks
    theirs = _AUPRO(fpr_limit=0.3)
    theirs.update(torch.from_numpy(heatmaps), torch.from_numpy(masks).int())
    assert per_region_overlap(heatmaps, masks) == pytest.approx(theirs.compute().item(), abs=0.01)
