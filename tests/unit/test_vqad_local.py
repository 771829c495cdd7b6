"""Local scores: signals in one order, calibrated by position, and the highest part of their sum."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.models import vgg16

from vqad.local import MIXTURES, SIGNALS, Calibration, image_scores, mixtures_of, signal_maps
from vqad.perceptual import FeatureCodes
from vqad.segmenter import Segmenter, segmentation_loss
from vqad_lib.config import PixelSnailConfig
from vqad_lib.detectors.local import averaged
from vqad_lib.detectors.residuals import regenerative_map
from vqad_lib.errors import VqadError
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.blocks import to_unit_range
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
    features = FeatureCodes()
    features.load_state_dict({name: torch.randn_like(values) / 9 for name, values in features.state_dict().items()})
    maps = signal_maps(autoencoder, prior, segmenter, features, images, window_px=1)
    assert maps.shape == (3, len(SIGNALS), 16, 16)
    torch.testing.assert_close(maps[:, 4:], features.distance(images))
    torch.testing.assert_close(signal_maps(autoencoder, prior, segmenter, None, images, window_px=1), maps[:, :4])
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
    maps = torch.randn(20, len(SIGNALS), 4, 4)
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


@pytest.mark.parametrize("window_px", [1, 3, 5, 7])
def test_windows_are_cut_at_the_border(window_px):
    maps = torch.rand(1, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    found, half = averaged(maps, window_px), window_px // 2
    for y, x in ((0, 0), (4, 3), (8, 7)):
        around = maps[:, :, max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
        torch.testing.assert_close(found[:, :, y, x], around.mean((2, 3)))


def test_segmentation_loss_wants_the_mask():
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, 2:4, 2:4] = True
    right, nothing, everything = (masks * 20.0 - 10, torch.full((2, 8, 8), -10.0), torch.full((2, 8, 8), 10.0))
    losses = [segmentation_loss(logits, masks) for logits in (right, nothing, everything)]
    assert losses[0] < 0.01
    assert losses[1] > 0.5
    assert losses[2] > losses[1], "a false alarm everywhere is worse than to find nothing"


def test_mixtures_of_the_first_signals_name_no_other():
    assert mixtures_of(len(SIGNALS)) == list(MIXTURES)
    assert len(mixtures_of(4)) == 15
    assert not any("features" in mixture for mixture in mixtures_of(4))


def test_the_distance_of_features_is_that_to_the_nearest_of_their_codes():
    images = torch.randint(0, 256, (6, 3, 24, 32), dtype=torch.uint8)
    made = FeatureCodes.fitted(images, "random", device=torch.device("cpu"), seed=3)
    shown = to_unit_range(torch.randint(0, 256, (2, 3, 24, 32), dtype=torch.uint8))
    network = vgg16(weights=None).features[:16].eval()
    network.load_state_dict(made.layers.state_dict())
    scaled = ((shown + 1) / 2 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    features = averaged(network(scaled), 3)
    assert features.shape == (2, 256, 6, 8)
    gaps = (features[:, None] - made.codebook[None, :, :, None, None]).norm(dim=2)
    expected = F.interpolate(gaps.amin(1, keepdim=True), size=(24, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(made.distance(shown), expected, rtol=1e-3, atol=1e-4)


def test_codes_of_features_are_near_those_of_the_images_they_were_fitted_to():
    flat = torch.randint(100, 130, (8, 3, 16, 16), dtype=torch.uint8)
    made = FeatureCodes.fitted(flat, "random", device=torch.device("cpu"), seed=0)
    again = FeatureCodes.fitted(flat, "random", device=torch.device("cpu"), seed=0)
    again.load_state_dict(made.state_dict())
    striped = flat.clone()
    striped[:, :, :, ::4] = 255
    usual, unusual = (made.distance(to_unit_range(images)) for images in (flat, striped))
    assert unusual.mean() > 3 * usual.mean()
    torch.testing.assert_close(again.distance(to_unit_range(flat)), usual, rtol=0, atol=0)


def test_weights_that_cannot_be_had_are_one_line():
    with pytest.raises(VqadError, match=r"^perceptual: .*no file at nowhere.pth; give none, hed, imagenet") as caught:
        FeatureCodes.fitted(torch.zeros(1, 3, 16, 16), "nowhere.pth", device=torch.device("cpu"), seed=0)
    assert "gan." not in str(caught.value)
