"""Training curves: every term in its panel, nothing drawn that is not there."""

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot as plt
from pandas import DataFrame

from vqad_lib.reporting.plots import training_curves

NAN = float("nan")
GAN = DataFrame(
    {
        "epoch": [1.0, 2.0, 3.0],
        "train_vqgan_monitored": [3.0, 2.0, 1.0],
        "train_vqgan_loss": [3.0, 2.5, 1.5],
        "validation_vqgan_monitored": [NAN, 2.5, 1.5],
        "validation_vqgan_reconstruction": [NAN, 0.9, 0.8],
        "train_vqgan_reconstruction": [2.0, 1.0, 0.5],
        "train_vqgan_perceptual": [0.02, 0.01, 0.005],
        "train_vqgan_codebook": [0.0, 0.0, 0.0],
        "train_vqgan_adversarial": [NAN, -0.5, -0.4],
        "train_vqgan_adaptive_weight": [NAN, 1e4, 1e3],
        "train_vqgan_adaptive_weight_lowest": [NAN, 10.0, 20.0],
        "train_vqgan_adaptive_weight_highest": [NAN, 1e5, 1e4],
        "train_vqgan_codes_used": [0.5, 0.75, 1.0],
        "train_vqgan_perplexity": [4.0, 8.0, 16.0],
        "validation_vqgan_codes_used": [NAN, 0.5, 0.5],
        "validation_vqgan_perplexity": [NAN, 7.0, 15.0],
        "train_discriminator_loss": [0.0, 1.3, 1.2],
    }
)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def lines(axis) -> dict[str, list[list[float]]]:
    return {line.get_label(): np.asarray(line.get_xydata()).tolist() for line in axis.lines}


def test_gan_has_five_panels():
    monitored, terms, codebook, game, weight = training_curves(GAN, network="vqgan", title="VQ-GAN, scheme paper").axes
    assert monitored.get_title() == "VQ-GAN, scheme paper"
    assert lines(monitored) == {"train": [[1, 3], [2, 2], [3, 1]], "validation": [[2, 2.5], [3, 1.5]]}
    assert list(lines(terms)) == ["reconstruction", "perceptual"], "a codebook loss that is always zero is left out"
    assert terms.get_yscale() == "log"
    assert lines(codebook) == {"train": [[1, 4], [2, 8], [3, 16]], "validation": [[2, 7], [3, 15]]}
    assert lines(weight) == {
        "highest": [[2, 1e5], [3, 1e4]],
        "lowest": [[2, 10], [3, 20]],
        "mean": [[2, 1e4], [3, 1e3]],
    }
    assert weight.get_yscale() == "log"
    assert lines(game) == {"generator": [[2, -0.5], [3, -0.4]], "discriminator": [[2, 1.3], [3, 1.2]]}


def test_legends_lie_beneath_the_panels():
    figure = training_curves(GAN, network="vqgan", title="")
    figure.canvas.draw()
    for axis in figure.axes:
        assert axis.get_legend().get_window_extent().y1 < axis.xaxis.label.get_window_extent().y0


def test_terms_have_colours_of_their_own():
    _, terms, *_ = training_curves(GAN.assign(train_vqgan_codebook=0.1), network="vqgan", title="").axes
    assert len({line.get_color() for line in terms.lines}) == 3


def test_gan_that_never_played():
    quiet = GAN.drop(columns=[name for name in GAN if "advers" in name or "adaptive" in name])
    assert len(training_curves(quiet, network="vqgan", title="").axes) == 3


def test_prior_has_one_panel_with_the_uniform_guess():
    curves = GAN[["epoch", "train_vqgan_monitored", "validation_vqgan_monitored", "train_vqgan_loss"]]
    curves = curves.rename(columns=lambda name: name.replace("vqgan", "gpt2"))
    (axis,) = training_curves(curves, network="gpt2", title="", uniform_nats=4.85).axes
    assert set(lines(axis)) == {"train", "validation", "uniform guess"}
    assert axis.get_ylabel() == "nats per code"


def test_epochs_are_whole_numbers():
    figure = training_curves(GAN, network="vqgan", title="")
    for axis in figure.axes:
        assert all(tick == round(tick) for tick in axis.get_xticks())


def test_another_network_is_refused():
    with pytest.raises(KeyError, match="pixelsnail"):
        training_curves(GAN, network="pixelsnail", title="")
