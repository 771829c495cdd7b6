"""Local scores: signals are maps, each calibrated by position; a score is the mean of the highest part of their sum.

A sum over the whole image drowns a small defect. Three signals are of an autoencoder and its prior
(`vqad_lib.detectors.local`); the fourth, "marks", is the logit of a network (`segmenter`) that sees the image and those
three, and was taught to mark pseudo-anomalies; the fifth, "features", where a pretrained network is allowed, is the
distance of its features to their codes (`perceptual`).
"""

from itertools import combinations

import torch
from torch import Tensor, nn

from vqad.perceptual import FeatureCodes
from vqad.segmenter import Segmenter
from vqad_lib.detectors.local import LOCAL_SIGNALS, averaged, images_and_signals
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.prior import Prior

SIGNALS = (*LOCAL_SIGNALS, "marks", "features")
MIXTURES = {"+".join(names): names for n in range(1, 6) for names in combinations(SIGNALS, n)}
SHARES = {"highest 0.1%": 0.001, "highest 1%": 0.01, "highest 10%": 0.1}


@torch.no_grad()
def signal_maps(
    autoencoder: VQAutoencoder,
    prior: Prior,
    segmenter: Segmenter,
    features: FeatureCodes | None,
    images: Tensor,
    *,
    window_px: int,
) -> Tensor:
    """The signals of images: (B, 3, H, W) float in [-1, 1] -> (B, n, H, W) float, the first n of `SIGNALS`.

    Args:
        features: None leaves the last one out, and n is 4.
        window_px: residuals are averaged over so many pixels a side, an odd number.
    """
    seen = images_and_signals(autoencoder, prior, images, window_px=window_px)
    further = [features.distance(images)] if features else []
    return torch.cat([seen[:, -len(LOCAL_SIGNALS) :], segmenter(seen)[:, None], *further], 1)


def mixtures_of(n: int) -> list[str]:
    """The mixtures of the first n signals, by name."""
    return [name for name, signals in MIXTURES.items() if set(signals) <= set(SIGNALS[:n])]


class Calibration(nn.Module):
    """Mean and standard deviation of each signal at each position of normal images, both (n, H, W)."""

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    @classmethod
    def of(cls, maps: Tensor, *, window_px: int) -> "Calibration":
        """From maps (N, n, H, W) of normal images; neighbours within a window of `window_px` px share their values."""
        mean = averaged(maps.mean(0, keepdim=True), window_px)
        variance = averaged((maps - mean).square().mean(0, keepdim=True), window_px)
        floor = 1e-3 * variance.mean((2, 3), keepdim=True) + 1e-12  # where all images are alike
        return cls(mean[0], torch.maximum(variance, floor).sqrt()[0])

    def heatmaps(self, maps: Tensor, mixture: str) -> Tensor:
        """The sum of a mixture's signals in standard deviations from normal: (B, n, H, W) -> (B, H, W)."""
        rows = [SIGNALS.index(name) for name in MIXTURES[mixture]]
        return ((maps[:, rows] - self.mean[rows]) / self.deviation[rows]).sum(1)


def image_scores(heatmaps: Tensor, share: float) -> Tensor:
    """The mean of the highest share of each map: (B, H, W) -> (B,)."""
    values = heatmaps.flatten(1)
    return values.topk(max(round(share * values.shape[1]), 1), 1).values.mean(1)
