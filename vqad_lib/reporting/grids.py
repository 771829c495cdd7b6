"""Frames, restorations and residual maps side by side.

``frame_sheet`` draws Figure 4, ``image_grid`` 5, 9-11 and 16-18, ``restoration_panels`` 12-15.
"""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vqad_lib.data.samples import Box
from vqad_lib.errors import VqadError
from vqad_lib.models.registry import AUTOENCODERS, COMBINATIONS, PRIORS
from vqad_lib.reporting.figures import FOOTER_IN, FULL_NAMES, hand_laid_figure, subplots

_NAME_LENGTH = 18  # characters that fit above an image
_MARK_COLOUR = "#00D5FF"  # seen on grey frames and on dark maps alike
# of restoration_panels, inches
_WIDTH_IN, _LABELS_IN, _BETWEEN_IN, _HEADING_IN, _TITLES_IN, _GAP_IN = 7.8, 0.75, 0.25, 0.3, 0.34, 0.03


def frame_sheet(images: NDArray, *, titles: list[str], boxes: list[list[Box]], columns: int = 3) -> Figure:
    """Frames at a size at which details can be seen, each with its title (Figure 4).

    Args:
        images: (n, 3, H, W) uint8.
        titles: n titles.
        boxes: n lists of what to mark, in shares of width and height.
    """
    rows, (height, width) = -(-len(images) // columns), images.shape[-2:]
    size_in = (7.6, rows * (7.6 / columns * height / width + 0.35) + FOOTER_IN)
    figure, axes = subplots(rows, columns, figsize=size_in, squeeze=False, layout="compressed")
    for axis, image, title, marks in zip(axes.flat, images, titles, boxes, strict=False):
        _show(axis, image, marks)
        _name(axis, title, fontsize=8, pad=3)
    for axis in axes.flat[len(images) :]:
        axis.set_axis_off()
    return figure


def largest_residual(*grids: dict[str, NDArray]) -> float:
    """The end of a colour scale that the maps of several grids share: their largest value, 1 where all are zero."""
    maps = [images for rows in grids for images in rows.values() if images.ndim == 3 and images.size]
    return max((float(np.nanmax(values)) for values in maps), default=1.0) or 1.0


def image_grid(
    rows: dict[str, NDArray],
    *,
    column_titles: list[str] | None = None,
    boxes: list[list[Box]] | None = None,
    map_label: str = "residual",
    scale_to: float | None = None,
) -> Figure:
    """Rows of images or maps, a label beside each row.

    Args:
        rows: row label -> uint8 (n, 3, H, W), 0..255, or float (n, H, W), >= 0. All float maps share one colour
            scale, from 0 to `scale_to`, and one colour bar. Rows may differ in n.
        column_titles: one title a column, above the first row.
        boxes: for each column what to mark in every row, in shares of width and height.
        map_label: what the colour bar shows, with its unit.
        scale_to: the end of the colour scale, for figures that are to be compared; else the largest value.

    Raises:
        VqadError: no rows, an array of another shape or type, or too many titles.
    """
    for label, images in rows.items():
        as_images = images.ndim == 4 and images.shape[1] == 3 and images.dtype == np.uint8
        if not as_images and not (images.ndim == 3 and np.issubdtype(images.dtype, np.floating)):
            raise VqadError(
                f"row {label!r}: want uint8 (n, 3, H, W) or float (n, H, W), got {images.dtype} {images.shape}"
            )
    columns = max((len(images) for images in rows.values()), default=0)
    titles = column_titles or []
    if columns == 0 or len(titles) > columns:
        raise VqadError(f"an image grid of {columns} columns cannot carry {len(titles)} titles")
    map_rows = [i for i, images in enumerate(rows.values()) if images.ndim == 3]
    largest = scale_to or largest_residual(rows)
    height, width = next(iter(rows.values())).shape[-2:]
    cell_in = min(1.25, 7.6 / columns)
    width_in = max(4.2, columns * cell_in + 1.2 + 0.7 * bool(map_rows))
    size_in = (width_in, len(rows) * cell_in * height / width + 0.35 + FOOTER_IN)
    figure, axes = subplots(len(rows), columns, figsize=size_in, squeeze=False, layout="compressed")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    for row_axes, (label, images) in zip(axes, rows.items(), strict=True):
        for axis, image, marks in zip(row_axes, images, boxes or [[]] * columns, strict=False):
            _show(axis, image, marks, largest=largest)
        for axis in row_axes[len(images) :]:
            axis.set_axis_off()
        row_axes[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8, fontsize=8.5)
    for axis, title in zip(axes[0], titles, strict=False):
        _name(axis, title, fontsize=8, pad=3)
    if map_rows:
        scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, largest), "magma")
        bar = figure.colorbar(scale, ax=axes[map_rows], fraction=0.05, pad=0.02, aspect=18 * len(map_rows) ** 0.5)
        bar.set_label(map_label)
        bar.outline.set_visible(False)
    return figure


def restoration_panels(
    originals: NDArray,
    models: dict[str, NDArray],
    *,
    column_titles: list[str],
    notes: dict[str, str],
    boxes: list[list[Box]] | None = None,
) -> Figure:
    """Original frames, and beneath them every restoration of every model, a panel for each (Figures 12-15).

    Args:
        originals: (n, 3, H, W) uint8, the frames.
        models: VP, VT, GP, GT or some of them -> (N, n, 3, H, W) uint8. Each autoencoder has its panels one beneath the
            other, VQ-VAE's on the left.
        column_titles: n names of frames.
        notes: model -> small print beside its name.
        boxes: for each frame what to mark in it and in its restorations, in shares of width and height.

    Raises:
        VqadError: nothing to draw, or the arrays do not belong together.
    """
    n, marks = len(originals), boxes or [[]] * len(originals)
    wrong = {name: images.shape for name, images in models.items() if images.shape[1:] != originals.shape}
    if not n or not models or wrong or len(column_titles) != n:
        raise VqadError(f"want restorations (N, {', '.join(map(str, originals.shape))}) and {n} titles, got {wrong}")
    sides = len(AUTOENCODERS)
    panel_in = (_WIDTH_IN - 0.05 - _LABELS_IN - (sides - 1) * _BETWEEN_IN) / sides
    cell_in = panel_in / n  # width and height, gap included
    tall_in = _HEADING_IN + max(len(images) for images in models.values()) * cell_in
    figure = hand_laid_figure(_WIDTH_IN, _TITLES_IN + cell_in + len(PRIORS) * tall_in + 0.05)
    for side, autoencoder in enumerate(AUTOENCODERS):
        left, top = _LABELS_IN + side * (panel_in + _BETWEEN_IN), figure.get_figheight() - _TITLES_IN
        axes = _row(figure, originals, left, top, cell_in, marks, "" if side else "original")
        for axis, title in zip(axes, column_titles, strict=True):
            _name(axis, title, fontsize=6.5, pad=2)
        top -= cell_in + _HEADING_IN
        for prior in PRIORS:
            name = COMBINATIONS[autoencoder, prior]
            if name in models:
                _heading(figure, left, top, FULL_NAMES[name], fontsize=8.5, weight="bold")
                _heading(figure, left + panel_in - _GAP_IN, top, notes.get(name, ""), fontsize=7, ha="right")
            for j, images in enumerate(models.get(name, ())):
                label = "" if side else f"restored {j + 1}"
                _row(figure, images, left, top - j * cell_in, cell_in, marks, label)
            top -= tall_in
    return figure


def _row(
    figure: Figure, images: NDArray, left: float, top: float, cell_in: float, boxes: list[list[Box]], label: str
) -> list[Axes]:
    """Images in a row, (n, 3, H, W), from the upper left corner (left, top), inches from the figure's lower left."""
    (width_in, height_in), size = figure.get_size_inches(), cell_in - _GAP_IN
    corners = [((left + i * cell_in) / width_in, (top - cell_in) / height_in) for i in range(len(images))]
    axes = [figure.add_axes((*corner, size / width_in, size / height_in)) for corner in corners]
    for axis, image, marks in zip(axes, images, boxes, strict=True):
        _show(axis, image, marks, linewidth=0.6)
    axes[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=5, fontsize=7.5)
    return axes


def _heading(figure: Figure, x: float, top: float, text: str, **style: object) -> None:
    """Words above a panel whose upper edge is at `top`, inches."""
    width_in, height_in = figure.get_size_inches()
    figure.text(x / width_in, (top + 0.06) / height_in, text, va="bottom", **style)


def _show(axis: Axes, image: NDArray, boxes: list[Box], *, largest: float = 1.0, linewidth: float = 0.9) -> None:
    """An image (3, H, W) uint8 or a map (H, W), from 0 to `largest`; boxes in shares of width and height."""
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    if image.ndim == 3:
        axis.imshow(image.transpose(1, 2, 0))  # 3 H W -> H W 3
    else:
        axis.imshow(image, cmap="magma", vmin=0, vmax=largest)
    for left, top, right, bottom in boxes:
        corner, size = (left, 1 - bottom), (right - left, bottom - top)  # axes run upwards, images downwards
        style = {"fill": False, "edgecolor": _MARK_COLOUR, "linewidth": linewidth, "transform": axis.transAxes}
        axis.add_patch(mpl.patches.Rectangle(corner, *size, **style))


def _name(axis: Axes, name: str, *, fontsize: float, pad: float) -> None:
    """Write a name above an image: of a long line the end, which tells files apart; a $ is a $, not a formula."""
    lines = [line if len(line) <= _NAME_LENGTH else f"…{line[1 - _NAME_LENGTH :]}" for line in name.split("\n")]
    axis.set_title("\n".join(lines), fontsize=fontsize, pad=pad, parse_math=False)
