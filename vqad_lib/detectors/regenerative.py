"""Regenerative detection: the L1 distance between an image and its reconstruction (section 3.6)."""

from torch import Tensor


def regenerative_map(images: Tensor, reconstructions: Tensor) -> Tensor:
    """|x - x^|, averaged over colour channels: two (B, C, H, W) in [-1, 1] -> (B, H, W) float in [0, 2]."""
    return (images - reconstructions).abs().mean(1)


def regenerative_score(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Mean absolute difference per image: two (B, C, H, W) in [-1, 1] -> (B,) float in [0, 2]."""
    return (images - reconstructions).abs().mean((1, 2, 3))
