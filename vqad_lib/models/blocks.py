"""Residual, non-local, down and up blocks of the autoencoder (Tables 1 and 2), after Esser et al. 2021 [21].

Swish activation and group normalisation throughout; the convolutions are 3x3 unless said otherwise.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """Two normalised convolutions beside a shortcut; a 1x1 shortcut where the width changes.

    (B, in_channels, H, W) -> (B, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm_groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, in_channels, eps=1e-6)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(norm_groups, out_channels, eps=1e-6)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same_width = in_channels == out_channels
        self.shortcut = nn.Identity() if same_width else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return self.shortcut(x) + hidden


class NonLocal(nn.Module):
    """Self-attention over all positions, one head, beside a shortcut (eq. 8). Keeps the shape (B, C, H, W)."""

    def __init__(self, channels: int, *, norm_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, channels, eps=1e-6)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.to_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        qkv = self.to_qkv(self.norm(x)).reshape(B, 3, 1, C, H * W).transpose(-1, -2)  # B 3 1 HW C
        query, key, value = qkv.unbind(1)  # each B 1 HW C: one head
        mixed = F.scaled_dot_product_attention(query, key, value)  # B 1 HW C
        return x + self.to_out(mixed.transpose(-1, -2).reshape(B, C, H, W))


class Downsample(nn.Module):
    """Halve height and width with a strided convolution: (B, C, H, W) -> (B, C, H/2, W/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # the extra row and column keep the grid aligned at the top left


class Upsample(nn.Module):
    """Double height and width, nearest neighbour then a convolution: (B, C, H, W) -> (B, C, 2H, 2W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def norm_swish_conv(in_channels: int, out_channels: int, *, norm_groups: int) -> nn.Sequential:
    """Group normalisation, Swish, convolution: the last line of Tables 1 and 2."""
    norm = nn.GroupNorm(norm_groups, in_channels, eps=1e-6)
    return nn.Sequential(norm, nn.SiLU(), nn.Conv2d(in_channels, out_channels, 3, padding=1))


def check_images(images: Tensor) -> None:
    """Refuse anything but (B, 3, H, W) floating-point images.

    Raises:
        ValueError: wrong number of dimensions, not three channels, or an integer type.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not torch.is_floating_point(images):
        raise ValueError(f"images must be (B, 3, H, W) floats in [-1, 1], got {tuple(images.shape)} {images.dtype}")


def to_unit_range(images: Tensor) -> Tensor:
    """Images as the networks take them: uint8 in [0, 255] -> float32 in [-1, 1], any shape."""
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> np.ndarray:
    """The inverse of `to_unit_range`, rounded and clipped: float in [-1, 1] -> uint8 array, any shape."""
    return images.add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
