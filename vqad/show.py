"""Where an image is abnormal, for people: boxes around the hot parts of a heatmap, and the heatmap over the image."""

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

_OPAQUE = 0.7


def regions(heatmap: NDArray, hot: float, size: tuple[int, int]) -> list[list[float]]:
    """The connected parts of a heatmap that reach `hot`.

    Args:
        heatmap: (H, W).
        size: width and height of the original image, px.

    Returns:
        For each part left, top, right, bottom (px of the original), area (its pixels) and the highest value; the
        highest part first.
    """
    across, down = size[0] / heatmap.shape[1], size[1] / heatmap.shape[0]
    parts, _ = ndimage.label(heatmap >= hot, np.ones((3, 3)))
    found = []
    for number, (y, x) in enumerate(ndimage.find_objects(parts), start=1):
        inside = parts[y, x] == number
        box = (x.start * across, y.start * down, x.stop * across, y.stop * down, inside.sum() * across * down)
        found.append([*map(round, box), round(float(heatmap[y, x][inside].max()), 3)])
    return sorted(found, key=lambda part: -part[-1])


def overlay(pixels: NDArray[np.uint8], heatmap: NDArray, hot: float, size: tuple[int, int]) -> Image.Image:
    """An image (3, H, W) of this width and height, its heatmap over it: clear where usual, bright from `hot` on."""
    heat = np.clip(heatmap / hot, 0, 2) / 2
    strength = _OPAQUE * np.clip(2 * heat, 0, 1)[..., None] ** 2
    colours = colormaps["inferno"](0.35 + 0.6 * heat)[..., :3]
    shown = (1 - strength) * pixels.transpose(1, 2, 0) / 255 + strength * colours
    return Image.fromarray((shown * 255).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
