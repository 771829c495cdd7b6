"""From restorations to a heatmap and a score: weighted, smoothed residuals (eq. 11 and 12)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

WeightsOver = Literal["restorations", "colour_channels"]
"""What the softmax of eq. 11 runs over: restorations in the paper, colour channels in its published code."""
SmoothOver = Literal["pixels", "pixels_and_restorations"]
"""Where the windows of the smoothing lie: in one residual, or, in the published code, over its neighbours too."""


def restoration_weights(images: Tensor, restorations: Tensor, *, temperature: float) -> Tensor:
    """Trust restorations the more the less they differ from the image: softmax_j(k / sum |Y - X_j|) (eq. 11).

    Args:
        images: (B, C, H, W) float, Y.
        restorations: (B, N, C, H, W) float, X_j.
        temperature: k.

    Returns:
        (B, N) float, each row sums to 1. A restoration equal to its image counts as differing by 1e-6.
    """
    difference = (images[:, None] - restorations).abs().sum((2, 3, 4))
    return _weights(difference, temperature)


def _weights(difference: Tensor, temperature: float) -> Tensor:
    return (temperature / difference.clamp_min(1e-6)).softmax(1)


def _over_channels(residual: Tensor, temperature: float, weights_over: WeightsOver) -> Tensor:
    """(P, C, H, W) -> (P, H, W): the mean over channels, or their sum by weights of their own."""
    if weights_over == "restorations":
        return residual.mean(1)
    return torch.einsum("pc,pchw->phw", _weights(residual.sum((2, 3)), temperature), residual)


def residual_sums(
    images: Tensor,
    restorations: Tensor,
    *,
    temperature: float,
    weights_over: WeightsOver,
    min_pool_px: int,
    average_pool_px: int,
) -> tuple[Tensor, Tensor]:
    """The two numbers of a restoration that an image's score needs, so that no restoration has to be kept.

    Args:
        images: (P, C, H, W) float in [-1, 1], one for each restoration.
        restorations: (P, C, H, W) float in [-1, 1].
        temperature, weights_over: as `anomaly_map`.

    Returns:
        (P,) sum |Y - X| over pixels and channels, for the weights of eq. 11, and (P,) the mean over pixels of the
        smoothed residual of eq. 12, in [0, 2].
    """
    residual = (images - restorations).abs()
    flat = _over_channels(residual, temperature, weights_over)
    smoothed = smooth(flat, min_pool_px=min_pool_px, average_pool_px=average_pool_px)
    return residual.sum((1, 2, 3)), smoothed.mean((1, 2))


def restoration_score(difference: Tensor, smoothed: Tensor, *, temperature: float, weights_over: WeightsOver) -> Tensor:
    """The mean of the map of eq. 12, from `residual_sums`: the mean of a weighted sum is the weighted sum of means.

    Args:
        difference, smoothed: (B, N) float.
        temperature, weights_over: as `anomaly_map`.

    Returns:
        (B,) float in [0, 2], `image_score` of `anomaly_map` up to rounding.
    """
    if weights_over == "colour_channels":
        return smoothed.mean(1)
    return (_weights(difference, temperature) * smoothed).sum(1)


def smooth(residual: Tensor, *, min_pool_px: int, average_pool_px: int) -> Tensor:
    """Remove thin edges, then spread: minimum over 3x3, then average over 7x7 (section 2.4).

    Args:
        residual: (B, H, W) float.
        min_pool_px, average_pool_px: odd window sizes; windows are cut at the border, not padded.

    Returns:
        (B, H, W) float.
    """
    x = -F.max_pool2d(-residual[:, None], min_pool_px, stride=1, padding=min_pool_px // 2)
    x = F.avg_pool2d(x, average_pool_px, stride=1, padding=average_pool_px // 2, count_include_pad=False)
    return x[:, 0]


def smooth_with_neighbours(residuals: Tensor, *, min_pool_px: int, average_pool_px: int) -> Tensor:
    """`smooth` by windows that also reach as far over the restorations of the image, as in the published code.

    (B, N, H, W) float -> (B, N, H, W) float; windows are cut at the first and last restoration too.
    """
    x = -F.max_pool3d(-residuals[:, None], min_pool_px, stride=1, padding=min_pool_px // 2)
    x = F.avg_pool2d(x[:, 0], average_pool_px, stride=1, padding=average_pool_px // 2, count_include_pad=False)
    # then over restorations; avg_pool3d refuses fewer of them than a window has
    place = torch.arange(x.shape[1], device=x.device)
    near = ((place[:, None] - place).abs() <= average_pool_px // 2).to(x.dtype)
    return torch.einsum("ij,bjhw->bihw", near / near.sum(1, keepdim=True), x)


def anomaly_map(
    images: Tensor,
    restorations: Tensor,
    *,
    temperature: float,
    min_pool_px: int,
    average_pool_px: int,
    weights_over: WeightsOver = "restorations",
    smooth_over: SmoothOver = "pixels",
) -> Tensor:
    """AS_pixel = sum_j w_j smooth(|Y - X_j|) (eq. 12), averaged over colour channels.

    Smoothing comes before the sum, as the paper says; the minimum makes the order matter. Being positive, a weight
    may be applied on either side of the smoothing.

    Args:
        images: (B, C, H, W) float in [-1, 1].
        restorations: (B, N, C, H, W) float in [-1, 1].
        temperature: k of eq. 11.
        min_pool_px, average_pool_px: odd window sizes.
        weights_over: "colour_channels" weighs the channels of a restoration instead, and averages restorations.
        smooth_over: "pixels_and_restorations" smooths by `smooth_with_neighbours`.

    Returns:
        (B, H, W) float in [0, 2]; a heatmap, higher is more anomalous.
    """
    B, N = restorations.shape[:2]
    residual = (images[:, None] - restorations).abs().flatten(0, 1)  # BN C H W
    flat = _over_channels(residual, temperature, weights_over)
    windows = {"min_pool_px": min_pool_px, "average_pool_px": average_pool_px}
    if smooth_over == "pixels":
        smoothed = smooth(flat, **windows).unflatten(0, (B, N))
    else:
        smoothed = smooth_with_neighbours(flat.unflatten(0, (B, N)), **windows)
    if weights_over == "colour_channels":
        return smoothed.mean(1)
    weights = restoration_weights(images, restorations, temperature=temperature)
    return torch.einsum("bn,bnhw->bhw", weights, smoothed)


def image_score(heatmap: Tensor, *, limit: float = math.inf) -> Tensor:
    """One number per image: the mean of its heatmap. Eq. 12 gives a map and states no scalar.

    (B, H, W) float -> (B,) float. Values above `limit` count as that much; the published code's limit is 1.
    """
    return heatmap.clamp_max(limit).mean((1, 2))
