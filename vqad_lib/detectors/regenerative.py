"""Regenerative detection: the L1 distance between an image and its reconstruction (section 3.6)."""

from torch import Tensor

from vqad_lib.detectors.residuals import absolute_residual


def regenerative_map(images: Tensor, reconstructions: Tensor) -> Tensor:
    """|x - x^|, averaged over colour channels: two (B, C, H, W) in [-1, 1] -> (B, H, W) float in [0, 1]."""
    return absolute_residual(images, reconstructions).mean(1)
