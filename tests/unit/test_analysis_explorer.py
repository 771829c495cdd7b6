"""Exploring single frames: what is shown is what the detectors say."""

import matplotlib as mpl

mpl.use("Agg")

import ipywidgets
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from vqad_lib.analysis import pictures
from vqad_lib.analysis.pictures import Explorer, controls
from vqad_lib.config import SyntheticConfig, profile_from_mapping
from vqad_lib.data.frames import FrameSet
from vqad_lib.data.synthetic import generate
from vqad_lib.detectors.scoring import Detectors
from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import Run
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.pixelsnail import PixelSnail


@pytest.fixture
def loaded() -> list[dict[str, str]]:
    """The combinations that were loaded."""
    return []


@pytest.fixture
def explorer(tmp_path, profile_mapping, monkeypatch, loaded) -> Explorer:
    profile = profile_from_mapping(profile_mapping, source="test")
    images, index, masks = generate(SyntheticConfig(train_clips=1, test_clips=2, frames_per_clip=24, seed=0), 16)
    run = Run(tmp_path, profile, FrameSet("synthetic", "walkway", images, index, masks, ""), torch.device("cpu"))
    torch.manual_seed(0)
    coder = VQAutoencoder(profile.autoencoder).eval()
    prior = PixelSnail(profile.pixelsnail, codebook_size=8, grid=(8, 8)).eval()
    scorer = Detectors(coder, prior, profile.detectors, 0)
    monkeypatch.setattr(pictures, "load_detectors", lambda _run, **names: loaded.append(names) or scorer)
    monkeypatch.setattr(Run, "splits", lambda *_: np.where(index["part"] == "train", "validation", "test"))
    return Explorer(run)


def first(explorer: Explorer) -> int:
    return next(iter(explorer.choices.values()))


def test_choices_are_test_frames_anomalous_ones_first(explorer):
    names, rows = zip(*explorer.choices.items(), strict=True)
    assert names[0].split("/")[0] == "cart Test001"
    assert names[-1] == "normal Test002/023"
    labels = explorer.run.frames.index["label"].iloc[list(rows)].tolist()
    assert labels == sorted(labels, reverse=True)
    assert len(rows) == 48


@pytest.mark.parametrize("method", ["pixel_wise", "light_pixel_wise", "regenerative"])
def test_score_and_restoration_are_those_of_the_detectors(explorer, method):
    row = first(explorer)
    figure = explorer.look(row=row, model="VP", method=method, percentile=60)
    scorer, nll = explorer._loaded["VP"]
    frame, nats = pictures.frames_of(explorer.run, np.array([row])), float(np.percentile(nll, 60))
    (score,) = scorer.scores(frame.images, frame.ids, {method: {60: nats}}).values()
    lambdas = "" if method == "regenerative" else f", λ {nats:.2f} nats"
    assert figure.get_suptitle() == f"{method.replace('_', ' ')}: score {score[0]:.4f}{lambdas}"
    _, restored = scorer.heatmaps(frame.images, frame.ids, detector=method, threshold_nats=nats)
    shown = [axis.images[0].get_array() for axis in figure.axes[:2]]
    np.testing.assert_array_equal(shown[0], explorer.run.frames.images[row].transpose(1, 2, 0))
    np.testing.assert_array_equal(shown[1], pictures.to_uint8(restored[0, 0]).transpose(1, 2, 0))
    assert figure.axes[2].images[0].get_array().mean() == pytest.approx(score[0], rel=1e-5)


def test_a_combination_is_loaded_once(explorer, loaded):
    for percentile in (20, 80):
        explorer.look(row=first(explorer), model="VT", method="pixel_wise", percentile=percentile)
    assert loaded == [{"autoencoder": "vqvae", "prior": "gpt2", "scheme": "paper"}]


def test_what_stops_a_look_is_a_sentence(explorer, monkeypatch, capsys):
    def missing(*_, **__):
        raise VqadError("make paper makes them")

    monkeypatch.setattr(pictures, "load_detectors", missing)
    controls(explorer)
    assert capsys.readouterr().out.endswith("make paper makes them\n")


def test_moving_the_slider_draws_again(explorer, monkeypatch):
    box = controls(explorer)
    drawn = []
    monkeypatch.setattr(explorer, "look", lambda **values: drawn.append(values["percentile"]) or plt.figure())
    slider = next(child for child in box.children if isinstance(child, ipywidgets.FloatSlider))
    slider.value = 35.0
    assert drawn == [35.0]
    plt.close("all")
