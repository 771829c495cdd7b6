"""How training went: the loss that stops it, and the terms that it is made of, epoch by epoch."""

import math

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from vqad_lib.reporting.figures import subplots

_NOT_TERMS = ("monitored", "loss", "adaptive_weight", "adversarial")


def training_curves(curves: DataFrame, *, network: str, title: str, uniform_nats: float | None = None) -> Figure:
    """Training and validation loss; beside it the terms, and for a VQ-GAN the two sides of the game.

    Args:
        curves: one row per epoch, as `Trained.curves`: epoch, train_<network>_<term>, validation_<network>_<term>.
        network: "vqvae", "vqgan", "pixelsnail" or "gpt2".
        uniform_nats: for a prior, the loss of a uniform guess, nats per code; drawn as a dotted line.

    Raises:
        KeyError: `curves` has no monitored loss of that network.
    """
    terms = _columns(curves, f"train_{network}_", but=_NOT_TERMS)
    game = {"generator": f"train_{network}_adversarial", "discriminator": "train_discriminator_loss"}
    game = game if set(game.values()) <= set(curves) else {}
    panels = 1 + bool(terms) + bool(game)
    figure, axes = subplots(1, panels, figsize=(4.5 if panels == 1 else 3.4 * panels, 3.0), squeeze=False)
    _draw_monitored(axes[0, 0], curves, network, uniform_nats)
    axes[0, 0].set(title=title, ylabel="loss" if uniform_nats is None else "nats per code")
    if terms:
        _draw(axes[0, 1], curves, terms)
        # the terms differ in size by orders of magnitude
        axes[0, 1].set(title="terms, in training", ylabel="loss", yscale="log")
    if game:
        # the discriminator's loss is recorded as zero until the game begins
        _draw(axes[0, -1], curves[curves[game["generator"]].notna()], game)
        axes[0, -1].set(title="adversarial loss (eq. 13)", ylabel="loss")
    for axis in axes[0]:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(6, integer=True))
        # beneath the panel, where no curve can run
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False, columnspacing=1)
    return figure


def _columns(curves: DataFrame, prefix: str, *, but: tuple[str, ...]) -> dict[str, str]:
    """Name of each term -> its column; without those that are zero throughout, as a codebook of running averages."""
    found = {column.removeprefix(prefix): column for column in curves if column.startswith(prefix)}
    return {name: column for name, column in found.items() if name not in but and (curves[column] > 0).any()}


def _draw_monitored(axis: Axes, curves: DataFrame, network: str, uniform_nats: float | None) -> None:
    for part in ("train", "validation"):
        column = f"{part}_{network}_monitored"
        axis.plot(*curves[["epoch", column]].dropna().to_numpy().T, marker="o", markersize=4, label=part)
    if uniform_nats is not None and math.isfinite(uniform_nats):
        axis.axhline(uniform_nats, linestyle=":", color="grey", label="uniform guess")


def _draw(axis: Axes, curves: DataFrame, columns: dict[str, str]) -> None:
    for name, column in columns.items():
        axis.plot(*curves[["epoch", column]].dropna().to_numpy().T, marker="o", markersize=4, label=name)
