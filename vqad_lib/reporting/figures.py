"""One style for every figure: colours that colour-blind readers can tell apart, a footer that says what was run.

``save_figure`` writes any figure so that the same figure gives the same bytes; ``plots``, ``grids``
and ``diagrams`` draw.
"""

import os
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import RunInfo
from vqad_lib.files import atomic_path
from vqad_lib.models.registry import AUTOENCODERS, COMBINATIONS, PRIORS

# of Okabe and Ito (2008), "Color Universal Design", and Tol (2021), "muted"
_PALETTE = ("#56B4E9", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#332288", "#117733", "#44AA99")
_WITH_NETWORKS = [*COMBINATIONS.values(), *(autoencoder.title for autoencoder in AUTOENCODERS.values())]
COLOURS = dict(zip(_WITH_NETWORKS, cycle(_PALETTE), strict=False)) | {
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


def use_style(*, photographs: bool = False) -> None:
    """Set fonts, grid, colours and layout for the whole process, upon matplotlib's defaults and not a user's own.

    Args:
        photographs: whether a notebook shows its figures as JPEG, for photographs a fifth of the size of PNG.
    """
    if photographs:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("jpeg")
    mpl.rcdefaults()
    look = {
        "axes.edgecolor": "#555555",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.constrained_layout.use": True,
        "figure.dpi": 110,
        "image.interpolation": "nearest",
        "pdf.fonttype": 42,
    }
    palette = [COLOURS[name] for name in ("normal", "anomalous", "VQ-VAE", "VQ-GAN")]
    # a font that ships with matplotlib, so figures look alike on every machine
    sns.set_theme(context="paper", style="whitegrid", palette=palette, font="DejaVu Sans", font_scale=0.95, rc=look)


def subplots(*arguments: object, **options: object) -> tuple[Figure, object]:
    """`pyplot.subplots` in this style, which every figure of the package begins with, used in a notebook or not."""
    use_style()
    return plt.subplots(*arguments, **options)


def legend_beneath(axis: Axes, *, ncols: int, **options: object) -> None:
    """A legend beneath a panel, where no curve can run."""
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=ncols, frameon=False, **options)


def save_figure(figure: Figure, name: str, *, labels: RunInfo, folder: Path, note: str = "") -> Path:
    """Write a PNG (200 dpi) with a footer that carries the labels; close the figure.

    The environment variable VQAD_FIGURE_FORMATS, "png" where it is not set, may ask for a PDF too: "png,pdf".

    Args:
        name: file name without ending, "figure_06" or "figure_06_curves" for the paper's Figure 6, else any.
        note: one line for the reader, above the labels.

    Returns:
        The PNG's path.

    Raises:
        VqadError: the folder cannot be written, or VQAD_FIGURE_FORMATS names another format.
    """
    formats = {"png", *filter(None, os.environ.get("VQAD_FIGURE_FORMATS", "").replace(" ", "").split(","))}
    if unknown := formats - set(_FORMATS):
        raise VqadError(f"VQAD_FIGURE_FORMATS: no {', '.join(sorted(unknown))}; figures are written as png and pdf")
    path = Path(folder) / f"{name}.png"
    strip = FOOTER_IN / figure.get_figheight()  # that the layout leaves free
    figure.get_layout_engine().set(rect=(0, strip, 1, 1 - strip))
    style = {"gid": "footer", "fontsize": 6, "color": "#666666", "parse_math": False}
    figure.text(0.008, strip * (0.05 if note else 0.3), f"{note}\n{labels.line()}".strip(), va="bottom", **style)
    for ending in sorted(formats, reverse=True):  # the PNG first, for drawing a PDF moves the layout a little
        with atomic_path(path.with_suffix(f".{ending}")) as temporary:
            figure.savefig(temporary, **_FORMATS[ending])
            if ending == "png":
                compact(temporary)
    plt.close(figure)
    return path


def compact(path: Path) -> None:
    """Write a PNG anew in fewer bytes: without transparency, and with 256 colours where hardly a pixel is not grey."""
    with Image.open(path) as image:
        smaller = image.convert("RGB")
    pixels = np.asarray(smaller).astype(np.int16)
    spread = np.ptp(pixels, axis=-1)
    if (spread > 24).mean() < 0.02:  # grey frames, thin lines; a colour map would show bands
        grey = pixels.mean(-1, keepdims=True).round()  # few colours would turn a faint tint into a strong one
        neutral = np.where(spread[..., None] <= 16, grey, pixels).astype(np.uint8)
        smaller = Image.fromarray(neutral).quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    smaller.save(path, "png", optimize=True)
