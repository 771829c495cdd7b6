"""From restorations to a heatmap and a score: weighted, smoothed residuals (eq. 11 and 12), or plain ones.

Residuals are |Y - X| of images brought from [-1, 1] to [0, 1], the range of the published code: k of eq. 11 and the
limit of the map are numbers on that scale.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vqad_lib.config import DetectorConfig

_DEPTH = 3  # restorations that a window of the published pooling spans


def absolute_residual(images: Tensor, restorations: Tensor) -> Tensor:
    """|Y - X| on the scale of images in [0, 1]: two float tensors in [-1, 1] -> float in [0, 1]."""
    return (images - restorations).abs() / 2


def restoration_weights(difference: Tensor, config: DetectorConfig, *, values: int) -> Tensor:
    """Trust restorations the more the less they differ from the image: softmax_j(k / sum |Y - X_j|) (eq. 11).

    Args:
        difference: (B, N) float in [0, 1], the mean of |Y - X_j| over pixels and channels.
        config: `weight_denominator` divides k by this mean, or by the sum; `weights_over` other than "restorations"
            makes all restorations count the same.
        values: how many pixels and channels an image has.

    Returns:
        (B, N) float, each row sums to 1. A restoration equal to its image counts as differing by 1e-6.
    """
    if config.weights_over == "colour_channels":
        return torch.full_like(difference, 1 / difference.shape[1])
    return _softmax(difference, config, values=values)


def _softmax(difference: Tensor, config: DetectorConfig, *, values: int) -> Tensor:
    denominator = difference if config.weight_denominator == "mean" else difference * values
    return (config.weight_temperature / denominator.clamp_min(1e-6)).softmax(1)


def _over_channels(residual: Tensor, config: DetectorConfig) -> Tensor:
    """(P, C, H, W) -> (P, H, W): the mean over channels, or their sum by weights of their own."""
    if config.weights_over == "restorations":
        return residual.mean(1)
    weights = _softmax(residual.mean((2, 3)), config, values=residual.shape[2:].numel())
    return torch.einsum("pc,pchw->phw", weights, residual)


def residual_sums(images: Tensor, restorations: Tensor, config: DetectorConfig) -> tuple[Tensor, Tensor]:
    """The two numbers of a restoration that an image's score needs, so that no restoration has to be kept.

    Args:
        images: (P, C, H, W) float in [-1, 1], one for each restoration.
        restorations: (P, C, H, W) float in [-1, 1].
        config: as `anomaly_map`, with `smooth_over` "pixels".

    Returns:
        (P,) the mean of |Y - X| over pixels and channels, for the weights of eq. 11, and (P,) the mean over pixels of
        the smoothed residual of eq. 12, both in [0, 1].
    """
    residual = absolute_residual(images, restorations)
    smoothed = smooth(_over_channels(residual, config), config)
    return residual.mean((1, 2, 3)), smoothed.clamp_max(config.map_limit).mean((1, 2))


def restoration_score(difference: Tensor, smoothed: Tensor, config: DetectorConfig, *, values: int) -> Tensor:
    """The mean of the map of eq. 12, from `residual_sums`: the mean of a weighted sum is the weighted sum of means.

    Args:
        difference, smoothed: (B, N) float.
        config, values: as `restoration_weights`.

    Returns:
        (B,) float in [0, 1], the mean of `anomaly_map` up to rounding.
    """
    return (restoration_weights(difference, config, values=values) * smoothed).sum(1)


def smooth(residual: Tensor, config: DetectorConfig) -> Tensor:
    """Remove thin edges, then spread: minimum over 3x3, then average over 7x7 (section 2.4).

    Args:
        residual: (B, H, W) float.
        config: `min_pool_px` and `average_pool_px` are window sizes, odd; windows are cut at the border, not padded.

    Returns:
        (B, H, W) float.
    """
    low, wide = config.min_pool_px, config.average_pool_px
    x = -F.max_pool2d(-residual[:, None], low, stride=1, padding=low // 2)
    x = F.avg_pool2d(x, wide, stride=1, padding=wide // 2, count_include_pad=False)
    return x[:, 0]


def smooth_with_neighbours(residuals: Tensor, config: DetectorConfig) -> Tensor:
    """The published smoothing: windows also span three neighbouring restorations of the image.

    (B, N, H, W) float -> (B, N, H, W) float. Windows of the minimum are cut at every border; those of the average are
    padded with zeros that count, so that values fall off there.
    """
    low, wide = config.min_pool_px, config.average_pool_px
    x = -F.max_pool3d(-residuals[:, None], (_DEPTH, low, low), stride=1, padding=(_DEPTH // 2, low // 2, low // 2))
    # not by avg_pool3d, which refuses fewer than three restorations
    x = F.pad(x, (*[wide // 2] * 4, *[_DEPTH // 2] * 2))
    return F.avg_pool3d(x, (_DEPTH, wide, wide), stride=1)[:, 0]


def anomaly_map(images: Tensor, restorations: Tensor, config: DetectorConfig) -> Tensor:
    """AS_pixel = sum_j w_j smooth(|Y - X_j|) (eq. 12), averaged over colour channels.

    Smoothing comes before the sum, as the paper says; the minimum makes the order matter. Being positive, a weight
    may be applied on either side of the smoothing, as long as that does not mix restorations. Eq. 12 gives a map; the
    score is its mean, as the sentence before the equation says.

    Args:
        images: (B, C, H, W) float in [-1, 1].
        restorations: (B, N, C, H, W) float in [-1, 1].
        config: `weight_temperature` is k of eq. 11; `min_pool_px`, `average_pool_px` and `smooth_over` say how to
            smooth; no smoothed residual counts for more than `map_limit`; `weights_over` "colour_channels" weighs the
            channels of a restoration instead, and averages restorations. `n_restorations` plays no part.

    Returns:
        (B, H, W) float in [0, 1]; a heatmap, higher is more anomalous.
    """
    B, N, *shape = restorations.shape
    residual = absolute_residual(images[:, None], restorations).flatten(0, 1)  # BN C H W
    flat = _over_channels(residual, config)
    if config.smooth_over == "pixels":
        smoothed = smooth(flat, config).unflatten(0, (B, N))
    else:
        smoothed = smooth_with_neighbours(flat.unflatten(0, (B, N)), config)
    difference = residual.mean((1, 2, 3)).unflatten(0, (B, N))
    weights = restoration_weights(difference, config, values=torch.Size(shape).numel())
    return torch.einsum("bn,bnhw->bhw", weights, smoothed.clamp_max(config.map_limit))


def regenerative_map(images: Tensor, reconstructions: Tensor) -> Tensor:
    """The regenerative detector's |x - x^| (section 3.6), averaged over colour channels.

    Two (B, C, H, W) float in [-1, 1] -> (B, H, W) float in [0, 1].
    """
    return absolute_residual(images, reconstructions).mean(1)
