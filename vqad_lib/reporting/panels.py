"""Restorations of several models side by side (Figures 12-15): frames across, restorations down, a panel a model."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vqad_lib.data.samples import Box
from vqad_lib.errors import VqadError
from vqad_lib.reporting.figures import FULL_NAMES, hand_laid_figure, mark, name_image

_WIDTH_IN = 7.8
_LABELS_IN = 0.75
_BETWEEN_IN = 0.25
_HEADING_IN = 0.3
_TITLES_IN = 0.34
_GAP_IN = 0.03


def restoration_panels(
    originals: NDArray,
    models: dict[str, NDArray],
    *,
    column_titles: list[str],
    notes: dict[str, str],
    boxes: list[list[Box]] | None = None,
) -> Figure:
    """Original frames, and beneath them every restoration of every model, two models to a row.

    Args:
        originals: (n, 3, H, W) uint8, the frames.
        models: "VP", "VT", "GP", "GT" or some of them -> (N, n, 3, H, W) uint8. VQ-VAE's stand on the left, VQ-GAN's
            on the right; PixelSNAIL's above the transformer's.
        column_titles: n names of frames.
        notes: model -> small print beside its name.
        boxes: for each frame what to mark in it and in its restorations, in shares of width and height.

    Raises:
        VqadError: nothing to draw, or the arrays do not belong together.
    """
    n = len(originals)
    wrong = {name: images.shape for name, images in models.items() if images.shape[1:] != originals.shape}
    if not n or not models or wrong or len(column_titles) != n:
        raise VqadError(f"want restorations (N, {', '.join(map(str, originals.shape))}) and {n} titles, got {wrong}")
    N = max(len(images) for images in models.values())
    cell = (_WIDTH_IN - 0.05 - _LABELS_IN - _BETWEEN_IN) / (2 * n)  # width and height, gap included
    rows_in = [_TITLES_IN + cell, *[_HEADING_IN + N * cell] * 2]
    figure = hand_laid_figure(_WIDTH_IN, sum(rows_in) + 0.05)
    marks = boxes or [[]] * n
    tops = (figure.get_figheight() - np.cumsum([0, *rows_in])).tolist()
    for side, of in enumerate((("VP", "VT"), ("GP", "GT"))):
        left = _LABELS_IN + side * (n * cell + _BETWEEN_IN)
        label = "original" if not side else ""
        _row(figure, originals, left, tops[0] - _TITLES_IN, cell, label=label, boxes=marks, titles=column_titles)
        for name, top in zip(of, tops[1:], strict=False):
            if name not in models:
                continue
            _panel_heading(figure, left, top, name, notes.get(name, ""), width=n * cell - _GAP_IN)
            for j, images in enumerate(models[name]):
                label = f"restored {j + 1}" if not side else ""
                _row(figure, images, left, top - _HEADING_IN - j * cell, cell, label=label, boxes=marks)
    return figure


def _row(
    figure: Figure,
    images: NDArray,
    left: float,
    top: float,
    cell: float,
    *,
    label: str,
    boxes: list[list[Box]],
    titles: tuple[str, ...] | list[str] = (),
) -> None:
    """Images in a row, (n, 3, H, W), from the upper left corner (left, top), inches from the lower left."""
    axes = [_axes(figure, left + i * cell, top - cell, cell - _GAP_IN) for i in range(len(images))]
    for axis, image, marks in zip(axes, images, boxes, strict=True):
        axis.imshow(image.transpose(1, 2, 0))  # 3 H W -> H W 3
        mark(axis, marks, linewidth=0.6)
    for axis, title in zip(axes, titles, strict=False):
        name_image(axis, title, fontsize=6.5, pad=2)
    if label:
        axes[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=5, fontsize=7.5)


def _axes(figure: Figure, left: float, bottom: float, size: float) -> Axes:
    width_in, height_in = figure.get_size_inches()
    axis = figure.add_axes((left / width_in, bottom / height_in, size / width_in, size / height_in))
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    return axis


def _panel_heading(figure: Figure, left: float, top: float, name: str, note: str, *, width: float) -> None:
    width_in, height_in = figure.get_size_inches()
    y = (top - _HEADING_IN + 0.06) / height_in
    figure.text(left / width_in, y, f"{FULL_NAMES[name]} ({name})", fontsize=8.5, weight="bold", va="bottom")
    figure.text((left + width) / width_in, y, note, fontsize=7, ha="right", va="bottom")
