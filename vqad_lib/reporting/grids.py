"""Frames, restorations and residual maps side by side.

``frame_sheet`` draws Figure 4, ``image_grid`` 5, 9-11 and 16-18, ``restoration_panels`` 12-15.
"""

import re

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vqad_lib.data.samples import Box
from vqad_lib.models.registry import AUTOENCODERS, COMBINATIONS, PRIORS
from vqad_lib.reporting.figures import FOOTER_IN, FULL_NAMES, subplots

_TOO_LONG = r".{2,}(.{17})(?=\n|$)"  # for 18 characters fit above an image
_MARK_COLOUR = "#00D5FF"  # seen on grey frames and on dark maps alike
_WIDTH_IN = 7.6


def frame_sheet(images: NDArray, *, titles: list[str], boxes: list[list[Box]]) -> Figure:
    """Frames at a size at which details can be seen, each with its title (Figure 4).

    Args:
        images: (n, 3, H, W) uint8.
        titles: n titles.
        boxes: n lists of what to mark, in shares of width and height.
    """
    columns, (height, width) = 3, images.shape[-2:]
    rows = -(-len(images) // columns)
    size_in = (_WIDTH_IN, rows * (_WIDTH_IN / columns * height / width + 0.35) + FOOTER_IN)
    figure, axes = subplots(rows, 1, figsize=size_in, squeeze=False, layout="compressed")
    for i, axis in enumerate(axes.flat):
        part = slice(i * columns, (i + 1) * columns)
        _draw(axis, {"": images[part]}, titles=titles[part], boxes=boxes[part], columns=columns)
    return figure


def largest_residual(*grids: dict[str, NDArray]) -> float:
    """The end of a colour scale that the maps of several grids share: their largest value, 1 where all are zero."""
    maps = [images for rows in grids for images in rows.values() if images.ndim == 3 and images.size]
    return max((float(np.nanmax(values)) for values in maps), default=1.0) or 1.0


def image_grid(
    rows: dict[str, NDArray],
    *,
    titles: list[str] | None = None,
    boxes: list[list[Box]] | None = None,
    map_label: str = "residual",
    scale_to: float | None = None,
) -> Figure:
    """Rows of images or maps, a label beside each row.

    Args:
        rows: row label -> uint8 (n, 3, H, W), 0..255, or float (n, H, W), >= 0. All float maps share one colour
            scale, from 0 to `scale_to`, and one colour bar. Rows may differ in n.
        titles: one title a column, above the first row.
        boxes: for each column what to mark in every row, in shares of width and height.
        map_label: what the colour bar shows, with its unit.
        scale_to: the end of the colour scale, for figures that are to be compared; else the largest value.
    """
    columns = max(len(images) for images in rows.values())
    maps = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, scale_to or largest_residual(rows)), "magma")
    height, width = next(iter(rows.values())).shape[-2:]
    cell_in, with_maps = min(1.25, _WIDTH_IN / columns), any(images.ndim == 3 for images in rows.values())
    width_in = max(4.2, columns * cell_in + 1.2 + 0.7 * with_maps)
    size_in = (width_in, len(rows) * cell_in * height / width + 0.35 + FOOTER_IN)
    figure, axis = subplots(figsize=size_in, layout="compressed")
    # n H W -> n H W RGBA -> n 3 H W
    pictures = {
        label: images if images.ndim == 4 else maps.cmap(maps.norm(images), bytes=True)[..., :3].transpose(0, 3, 1, 2)
        for label, images in rows.items()
    }
    _draw(axis, pictures, titles=titles or [], boxes=boxes, columns=columns)
    if with_maps:
        figure.colorbar(maps, ax=axis, fraction=0.05, pad=0.02, aspect=18 * len(rows) ** 0.5, label=map_label)
    return figure


def restoration_panels(
    originals: NDArray, models: dict[str, NDArray], *, titles: list[str], notes: dict[str, str], boxes: list[list[Box]]
) -> Figure:
    """For every model a panel: the frames, and beneath them each of their restorations (Figures 12-15).

    Args:
        originals: (n, 3, H, W) uint8, the frames.
        models: VP, VT, GP, GT or some of them -> (N, n, 3, H, W) uint8. Each autoencoder has its panels one beneath the
            other, VQ-VAE's on the left.
        titles: n names of frames.
        notes: model -> small print beside its name.
        boxes: for each frame what to mark in it and in its restorations, in shares of width and height.
    """
    n = len(originals)
    rows_at_most = 1 + max(len(images) for images in models.values())
    height_in = len(PRIORS) * (rows_at_most * 3.4 / n * originals.shape[-2] / originals.shape[-1] + 0.55)
    size_in = (_WIDTH_IN, height_in + FOOTER_IN)
    figure, axes = subplots(len(PRIORS), len(AUTOENCODERS), figsize=size_in, squeeze=False, layout="compressed")
    for axis, (autoencoder, prior) in zip(axes.T.flat, COMBINATIONS, strict=True):
        name = COMBINATIONS[autoencoder, prior]
        restored = {f"restored {i + 1}": images for i, images in enumerate(models.get(name, ()))}
        axis.set_visible(bool(restored))
        _draw(axis, {"original": originals} | restored, titles=titles, boxes=boxes, columns=n)
        axis.set_title(FULL_NAMES[name], loc="left", fontsize=8.5, weight="bold")
        axis.set_title(notes.get(name, ""), loc="right", fontsize=7)
    return figure


def _draw(
    axis: Axes, rows: dict[str, NDArray], *, titles: list[str], boxes: list[list[Box]] | None, columns: int
) -> None:
    """Rows of images (n, 3, H, W) uint8 as one picture, labels beside it and titles above."""
    height, width = next(iter(rows.values())).shape[-2:]
    gap, frame = max(1, width // 32), {"edgecolor": _MARK_COLOUR, "fill": False}  # white pixels between images
    tops, lefts = (np.arange(n) * (size + gap) for n, size in ((len(rows), height), (columns, width)))
    picture = np.full((tops[-1] + height, lefts[-1] + width, 3), 255, np.uint8)
    for top, images in zip(tops, rows.values(), strict=True):
        for left, image, marks in zip(lefts, images, boxes or [[]] * columns, strict=False):
            picture[top : top + height, left : left + width] = image.transpose(1, 2, 0)  # 3 H W -> H W 3
            for x0, y0, x1, y1 in marks:
                corner = (left + x0 * width - 0.5, top + y0 * height - 0.5)
                axis.add_patch(mpl.patches.Rectangle(corner, (x1 - x0) * width, (y1 - y0) * height, **frame))
    axis.imshow(picture)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0, pad=2)
    axis.xaxis.tick_top()
    # a $ in a name is a $, not a formula; of a long line the end is shown, which tells files apart
    style = {"fontsize": 7.5, "parse_math": False}
    shown = [re.sub(_TOO_LONG, r"…\1", title) for title in titles]
    axis.set_xticks(lefts[: len(titles)] + width / 2, shown, **style)
    axis.set_yticks(tops + height / 2, list(rows), **style)
