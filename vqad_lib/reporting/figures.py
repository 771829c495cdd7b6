"""One style for every figure: colours that colour-blind readers can tell apart, a footer that says what was run.

``frame_sheet`` draws Figure 4, ``image_grid`` 5, 9-11 and 16-18; ``histograms`` has Figures 6-8, ``panels`` 12-15,
``curves`` how training went. ``save_figure`` writes any figure so that the same figure gives the same bytes.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine, PlaceHolderLayoutEngine
from numpy.typing import NDArray

from vqad_lib.data.samples import Box
from vqad_lib.errors import VqadError
from vqad_lib.files import atomic_path
from vqad_lib.reporting.tables import Labels

# Okabe and Ito (2008), the orange, sky blue, green, yellow, blue, vermilion and purple of "Color Universal Design"
COLOURS = {
    "VP": "#56B4E9",
    "VT": "#0072B2",
    "GP": "#E69F00",
    "GT": "#D55E00",
    "VQ-VAE": "#009E73",
    "VQ-GAN": "#CC79A7",
    "normal": "#0072B2",
    "anomalous": "#D55E00",
    # Tol (2021), "muted", and black and grey where there is no network
    "Ganomaly": "#882255",
    "DFKDE": "#999933",
    "nearest training frame": "#000000",
    "per-pixel mean and variance": "#777777",
}
FULL_NAMES = {
    "VP": "VQ-VAE + PixelSNAIL",
    "VT": "VQ-VAE + Transformer",
    "GP": "VQ-GAN + PixelSNAIL",
    "GT": "VQ-GAN + Transformer",
}
_NAME_LENGTH = 18  # characters that fit above an image
MARK_COLOUR = "#00D5FF"  # seen on grey frames and on dark maps alike
FOOTER_IN = 0.24  # the strip at the bottom that `save_figure` writes in


def use_style() -> None:
    """Set fonts, grid, colours and layout for the whole process, upon matplotlib's defaults and not a user's own."""
    mpl.rcdefaults()
    palette = [COLOURS[name] for name in ("VT", "GT", "VQ-VAE", "VQ-GAN")]
    sns.set_theme(context="paper", style="whitegrid", palette=palette)
    mpl.rcParams.update(
        {
            "font.family": "DejaVu Sans",  # ships with matplotlib, so figures look alike on every machine
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.labelsize": 9,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.fontsize": 8,
            "axes.edgecolor": "#555555",
            "axes.linewidth": 0.7,
            "grid.color": "#DDDDDD",
            "grid.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "image.interpolation": "nearest",
            "pdf.fonttype": 42,
        }
    )


def subplots(*arguments: object, **options: object) -> tuple[Figure, object]:
    """`pyplot.subplots` in this style, which every figure of the package begins with, used in a notebook or not."""
    use_style()
    return plt.subplots(*arguments, **options)


def hand_laid_figure(width_in: float, height_in: float) -> Figure:
    """A figure whose axes stand where they are put; the lowest `FOOTER_IN` are the footer's.

    A place holder, for with no layout engine at all matplotlib falls back on the default's once it has saved.
    """
    use_style()
    return plt.figure(figsize=(width_in, height_in + FOOTER_IN), layout=PlaceHolderLayoutEngine(True, True))


def save_figure(
    figure: Figure,
    *,
    number: int,
    labels: Labels,
    folder: Path,
    suffix: str = "",
    name: str | None = None,
    note: str = "",
) -> Path:
    """Write figure_NN{suffix}.png (200 dpi) and .pdf with a footer that carries the labels; close the figure.

    Args:
        number: the paper's figure number, 1-18; ignored where `name` is given.
        name: file name without ending, for a figure that the paper does not have.
        note: one line for the reader, above the labels.

    Returns:
        The PNG's path.

    Raises:
        VqadError: the folder cannot be written.
    """
    stem = name if name is not None else f"figure_{number:02d}"
    path = Path(folder) / f"{stem}{suffix}.png"
    _add_footer(figure, "\n".join(filter(None, [note, labels.line()])))
    # no dates and no versions: the same figure is the same file. The PNG last: whoever sees it may count on the PDF
    with atomic_path(path.with_suffix(".pdf")) as temporary:
        figure.savefig(temporary, metadata={"CreationDate": None, "Producer": None, "Creator": None})
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200, metadata={"Software": None})
    plt.close(figure)
    return path


def _add_footer(figure: Figure, text: str) -> None:
    """A line of small print beneath the drawing, in a strip that the layout leaves free."""
    strip = FOOTER_IN / figure.get_figheight()
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, strip, 1, 1 - strip))
    style = {"fontsize": 6, "color": "#666666", "ha": "left", "va": "bottom"}
    y = strip * (0.05 if "\n" in text else 0.3)
    figure.text(0.008, y, text, gid="footer", parse_math=False, **style)


def name_image(axis: Axes, name: str, *, fontsize: float, pad: float) -> None:
    """Write a name above an image: of a long line the end, which tells files apart; a $ is a $, not a formula."""
    lines = [line if len(line) <= _NAME_LENGTH else f"…{line[1 - _NAME_LENGTH :]}" for line in name.split("\n")]
    axis.set_title("\n".join(lines), fontsize=fontsize, pad=pad, parse_math=False)


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
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, title, marks in zip(axes.flat, images, titles, boxes, strict=False):
        axis.imshow(image.transpose(1, 2, 0))  # 3 H W -> H W 3
        name_image(axis, title, fontsize=8, pad=3)
        mark(axis, marks)
    return figure


def mark(axis: Axes, boxes: list[Box], *, linewidth: float = 0.9) -> None:
    """Draw boxes, in shares of width and height, on the image that the axis shows."""
    for left, top, right, bottom in boxes:
        corner, size = (left, 1 - bottom), (right - left, bottom - top)  # axes run upwards, images downwards
        style = {"fill": False, "edgecolor": MARK_COLOUR, "linewidth": linewidth, "transform": axis.transAxes}
        axis.add_patch(mpl.patches.Rectangle(corner, *size, **style))


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
    if columns == 0 or len(column_titles or []) > columns:
        raise VqadError(f"an image grid of {columns} columns cannot carry {len(column_titles or [])} titles")
    maps = [images for images in rows.values() if images.ndim == 3]
    largest = scale_to or largest_residual(rows)
    height, width = next(iter(rows.values())).shape[-2:]
    cell_in = min(1.25, 7.6 / columns)
    size_in = (
        max(4.2, columns * cell_in + 1.2 + 0.7 * bool(maps)),
        len(rows) * cell_in * height / width + 0.35 + FOOTER_IN,
    )
    figure, axes = subplots(len(rows), columns, figsize=size_in, squeeze=False, layout="compressed")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    for row_axes, (label, images) in zip(axes, rows.items(), strict=True):
        _draw_row(row_axes, label, images, largest)
        for axis, _, marks in zip(row_axes, images, boxes or [], strict=False):
            mark(axis, marks)
    for axis, title in zip(axes[0], column_titles or [], strict=False):
        name_image(axis, title, fontsize=8, pad=3)
    if maps:
        scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, largest), "magma")
        map_rows = [row for row, images in zip(axes, rows.values(), strict=True) if images.ndim == 3]
        bar = figure.colorbar(scale, ax=np.stack(map_rows), fraction=0.05, pad=0.02, aspect=18 * len(map_rows) ** 0.5)
        bar.set_label(map_label)
        bar.outline.set_visible(False)
    return figure


def _draw_row(axes: NDArray, label: str, images: NDArray, largest: float) -> None:
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
        sns.despine(ax=axis, left=True, bottom=True)
    axes[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8, fontsize=8.5)
    for axis, image in zip(axes, images, strict=False):
        if image.ndim == 3:
            axis.imshow(image.transpose(1, 2, 0))  # 3 H W -> H W 3
        else:
            axis.imshow(image, cmap="magma", vmin=0, vmax=largest)
    for axis in axes[len(images) :]:
        axis.set_facecolor("none")
