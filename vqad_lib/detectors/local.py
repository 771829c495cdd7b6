"""Local scores: where an image departs from normal ones, by what is usual at that place.

A sum over the whole image drowns a small defect. Here signals are maps, each calibrated by position, and an image's
score is the mean of the highest part of their sum. Three are of an autoencoder and its prior; the fourth is of a
network that sees the image and those three, and was taught to mark pseudo-anomalies:

    residual   |x - G(VQ(E(x)))|, what the codes cannot show
    distance   log |z_e - e|^2, how far the encoder's vector lies from its code (eq. 1 throws it away)
    nll        -log p(s_i | s_<i), how unlikely the code is (eq. 10)
    marks      the logit of `models.segmenter`
"""

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqad_lib.detectors.residuals import regenerative_map
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.prior import Prior, code_nll
from vqad_lib.models.segmenter import Segmenter

SIGNALS = ("residual", "distance", "nll", "marks")
MIXTURES = {"+".join(names): names for n in range(1, 5) for names in combinations(SIGNALS, n)}
SHARES = {"highest 0.1%": 0.001, "highest 1%": 0.01, "highest 10%": 0.1}


@torch.no_grad()
def signal_maps(
    autoencoder: VQAutoencoder, prior: Prior, segmenter: Segmenter, images: Tensor, *, window_px: int
) -> Tensor:
    """The signals of images: (B, 3, H, W) float in [-1, 1] -> (B, 4, H, W) float, in the order of `SIGNALS`.

    Args:
        window_px: residuals are averaged over so many pixels a side, an odd number.
    """
    seen = seen_by_segmenter(autoencoder, prior, images, window_px=window_px)
    return torch.cat([seen[:, -len(SIGNALS) + 1 :], segmenter(seen)[:, None]], 1)


@torch.no_grad()
def seen_by_segmenter(autoencoder: VQAutoencoder, prior: Prior, images: Tensor, *, window_px: int) -> Tensor:
    """Image, reconstruction, and the first three signals, (B, 9, H, W); arguments as those of `signal_maps`."""
    z_e = autoencoder.encoder(images).float()
    codes = autoencoder.quantiser.nearest(z_e)
    reconstruction = autoencoder.decode(codes)
    residual = _averaged(regenerative_map(images, reconstruction)[:, None], window_px)
    distance = (z_e - autoencoder.quantiser.embed(codes)).square().sum(1).clamp_min(1e-12).log()
    coarse = torch.stack([distance, code_nll(prior.logits(codes), codes)], 1)
    fine = F.interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([images, reconstruction, residual, fine], 1)


class Calibration(nn.Module):
    """Mean and standard deviation of each signal at each position of normal images, both (4, H, W)."""

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    @classmethod
    def of(cls, maps: Tensor, *, window_px: int) -> "Calibration":
        """From maps (n, 4, H, W) of normal images; neighbours within a window of `window_px` px share their values."""
        mean = _averaged(maps.mean(0, keepdim=True), window_px)
        variance = _averaged((maps - mean).square().mean(0, keepdim=True), window_px)
        floor = 1e-3 * variance.mean((2, 3), keepdim=True) + 1e-12  # where all images are alike
        return cls(mean[0], torch.maximum(variance, floor).sqrt()[0])

    def heatmaps(self, maps: Tensor, mixture: str) -> Tensor:
        """The sum of a mixture's signals in standard deviations from normal: (B, 4, H, W) -> (B, H, W)."""
        rows = [SIGNALS.index(name) for name in MIXTURES[mixture]]
        return ((maps[:, rows] - self.mean[rows]) / self.deviation[rows]).sum(1)


def image_scores(heatmaps: Tensor, share: float) -> Tensor:
    """The mean of the highest share of each map: (B, H, W) -> (B,)."""
    values = heatmaps.flatten(1)
    return values.topk(max(round(share * values.shape[1]), 1), 1).values.mean(1)


def _averaged(maps: Tensor, window_px: int) -> Tensor:
    return F.avg_pool2d(maps, window_px, 1, window_px // 2, count_include_pad=False)
