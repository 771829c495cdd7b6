"""One style for every figure: colours that colour-blind readers can tell apart, a footer that says what was run.

``save_figure`` writes any figure so that the same figure gives the same bytes; ``plots``, ``score_plots``, ``grids``
and ``diagrams`` draw.
"""

import os
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine, PlaceHolderLayoutEngine

from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import RunInfo
from vqad_lib.files import atomic_path
from vqad_lib.models.registry import AUTOENCODERS, COMBINATIONS, PRIORS

# Okabe and Ito (2008), the orange, sky blue, green, yellow, blue, vermilion and purple of "Color Universal Design", and
# Tol (2021), "muted": for each autoencoder a family of colours, with a shade for each prior
_FAMILIES = [("#56B4E9", "#0072B2", "#332288"), ("#E69F00", "#D55E00", "#882255"), ("#117733", "#44AA99", "#999933")]
_AUTOENCODER_COLOURS = ("#009E73", "#CC79A7", "#999933")
COLOURS = {
    COMBINATIONS[autoencoder, prior]: shade
    for autoencoder, family in zip(AUTOENCODERS, cycle(_FAMILIES), strict=False)
    for prior, shade in zip(PRIORS, cycle(family), strict=False)
}
COLOURS |= {one.title: colour for one, colour in zip(AUTOENCODERS.values(), cycle(_AUTOENCODER_COLOURS), strict=False)}
COLOURS |= {
    "normal": "#0072B2",
    "anomalous": "#D55E00",
    "Ganomaly": "#882255",
    "DFKDE": "#999933",
    # black and grey where there is no network
    "nearest training frame": "#000000",
    "per-pixel mean and variance": "#777777",
}
FULL_NAMES = {
    name: f"{AUTOENCODERS[autoencoder].title} + {PRIORS[prior].title} ({name})"
    for (autoencoder, prior), name in COMBINATIONS.items()
}
FOOTER_IN = 0.24  # the strip at the bottom that `save_figure` writes in
# no dates and no versions: the same figure is the same file
_FORMATS = {
    "pdf": {"metadata": {"CreationDate": None, "Producer": None, "Creator": None}},
    "png": {"metadata": {"Software": None}, "dpi": 200},
}


def use_style() -> None:
    """Set fonts, grid, colours and layout for the whole process, upon matplotlib's defaults and not a user's own."""
    mpl.rcdefaults()
    palette = [COLOURS["normal"], COLOURS["anomalous"], *_AUTOENCODER_COLOURS[:2]]
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
    labels: RunInfo,
    folder: Path,
    suffix: str = "",
    name: str | None = None,
    note: str = "",
) -> Path:
    """Write figure_NN{suffix}.png (200 dpi) with a footer that carries the labels; close the figure.

    The environment variable VQAD_FIGURE_FORMATS, "png" where it is not set, may ask for a PDF too: "png,pdf".

    Args:
        number: the paper's figure number, 1-18; ignored where `name` is given.
        name: file name without ending, for a figure that the paper does not have.
        note: one line for the reader, above the labels.

    Returns:
        The PNG's path.

    Raises:
        VqadError: the folder cannot be written, or VQAD_FIGURE_FORMATS names another format.
    """
    formats = {"png", *filter(None, os.environ.get("VQAD_FIGURE_FORMATS", "").replace(" ", "").split(","))}
    if unknown := formats - set(_FORMATS):
        raise VqadError(f"VQAD_FIGURE_FORMATS: no {', '.join(sorted(unknown))}; figures are written as png and pdf")
    stem = name if name is not None else f"figure_{number:02d}"
    path = Path(folder) / f"{stem}{suffix}.png"
    _add_footer(figure, "\n".join(filter(None, [note, labels.line()])))
    for ending in sorted(formats, reverse=True):  # the PNG first, for drawing a PDF moves the layout a little
        with atomic_path(path.with_suffix(f".{ending}")) as temporary:
            figure.savefig(temporary, **_FORMATS[ending])
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
