"""Local scores: four signals in one order, calibrated by position, and the highest part of their sum."""

import pytest
import torch
from torch.nn import functional as F

from vqad.local import MIXTURES, SIGNALS, Calibration, image_scores, signal_maps
from vqad.segmenter import Segmenter, segmentation_loss
from vqad_lib.config import PixelSnailConfig
from vqad_lib.detectors.residuals import regenerative_map
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.models.prior import code_nll


@pytest.fixture
def networks(autoencoder_config):
    sizes = {"channels": 8, "blocks": 1, "residual_blocks": 1, "kernel_px": 3, "heads": 2, "key_dim": 4}
    config = PixelSnailConfig(**sizes, dropout=0.0, attention_grid="whole")
    prior = PixelSnail(config, codebook_size=autoencoder_config.codebook_size, grid=(8, 8))
    return VQAutoencoder(autoencoder_config).eval(), prior.eval()


def test_signals_are_what_they_are_called(networks):
    autoencoder, prior = networks
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    segmenter = Segmenter(4).eval()
    maps = signal_maps(autoencoder, prior, segmenter, images, window_px=1)
    assert maps.shape == (3, len(SIGNALS), 16, 16)
    codes = autoencoder.encode(images)
    torch.testing.assert_close(maps[:, 0], regenerative_map(images, autoencoder.decode(codes)))
    seen = torch.cat([images, autoencoder.decode(codes), maps[:, :3]], 1)
    torch.testing.assert_close(maps[:, 3], segmenter(seen))
    vectors = autoencoder.encoder(images)
    distance = (vectors - autoencoder.quantiser.embed(codes)).pow(2).sum(1).log()
    nll = code_nll(prior.logits(codes), codes)
    for place, expected in ((1, distance), (2, nll)):
        torch.testing.assert_close(
            F.avg_pool2d(maps[:, place], 2), F.avg_pool2d(_up(expected), 2), rtol=1e-4, atol=1e-4
        )


def _up(coarse):
    return F.interpolate(coarse[:, None], scale_factor=2, mode="bilinear", align_corners=False)[:, 0]


def test_calibrated_maps_have_mean_0_and_deviation_1_at_every_position():
    scale = torch.linspace(1, 9, 6 * 8).reshape(6, 8)
    maps = torch.randn(4000, 4, 6, 8) * scale + 10 * scale
    heatmaps = Calibration.of(maps, window_px=1).heatmaps(maps, "nll")
    torch.testing.assert_close(heatmaps.mean(0), torch.zeros(6, 8), rtol=0, atol=1e-3)
    torch.testing.assert_close(heatmaps.std(0), torch.ones(6, 8), rtol=0, atol=1e-3)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_a_mixture_is_the_sum_of_its_signals(mixture):
    maps = torch.randn(20, 4, 4, 4)
    calibration = Calibration.of(maps, window_px=3)
    expected = sum(calibration.heatmaps(maps, signal) for signal in mixture.split("+"))
    torch.testing.assert_close(calibration.heatmaps(maps, mixture), expected)


def test_where_all_images_are_alike_nothing_is_divided_by_nothing():
    maps = torch.randn(10, 4, 4, 4)
    maps[:, :, 0] = 1.0
    assert Calibration.of(maps, window_px=1).heatmaps(maps, "residual+distance+nll+marks").isfinite().all()


def test_scores_are_means_of_the_highest_pixels():
    heatmaps = torch.arange(200.0).reshape(2, 10, 10)
    assert image_scores(heatmaps, 0.1).tolist() == [94.5, 194.5]
    assert image_scores(heatmaps, 0.001).tolist() == [99.0, 199.0], "one pixel at the least"


@pytest.mark.parametrize("size", [(16, 16), (10, 6)])
def test_segmenter_marks_every_pixel(size):
    assert Segmenter(4)(torch.randn(2, 9, *size)).shape == (2, *size)


def test_segmentation_loss_wants_the_mask():
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, 2:4, 2:4] = True
    right, nothing, everything = (masks * 20.0 - 10, torch.full((2, 8, 8), -10.0), torch.full((2, 8, 8), 10.0))
    losses = [segmentation_loss(logits, masks) for logits in (right, nothing, everything)]
    assert losses[0] < 0.01
    assert losses[1] > 0.5
    assert losses[2] > losses[1], "a false alarm everywhere is worse than to find nothing"
