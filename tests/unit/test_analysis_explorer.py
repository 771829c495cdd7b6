"""Exploring single frames: what is shown is what the detectors say."""

import matplotlib as mpl

mpl.use("Agg")

from unittest.mock import Mock

import ipywidgets
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from vqad_lib.analysis.pictures import Explorer, controls, draw
from vqad_lib.config import SyntheticConfig, profile_from_mapping
from vqad_lib.data.frames import FrameSet
from vqad_lib.data.synthetic import generate
from vqad_lib.detectors.scoring import Detectors
from vqad_lib.errors import VqadError
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.pixelsnail import PixelSnail


@pytest.fixture
def explorer(profile_mapping) -> Explorer:
    profile = profile_from_mapping(profile_mapping, source="test")
    images, index, masks = generate(SyntheticConfig(train_clips=1, test_clips=2, frames_per_clip=24, seed=0), 16)
    frames = FrameSet("synthetic", "walkway", images, index, masks, "")
    torch.manual_seed(0)
    coder = VQAutoencoder(profile.autoencoder).eval()
    prior = PixelSnail(profile.pixelsnail, codebook_size=8, grid=(8, 8)).eval()
    scorer = Detectors(coder, prior, profile.detectors, 0)
    subsets = np.where(index["part"] == "train", "validation", "test")
    return Explorer(frames, subsets, lambda _model: scorer)


def anomalous(explorer: Explorer) -> int:
    return explorer.first


def test_choices_are_test_frames_anomalous_ones_first(explorer):
    names, rows = zip(*explorer.choices.items(), strict=True)
    assert names[0].split("/")[0] == "cart Test001"
    assert names[-1] == "normal Test002/023"
    labels = explorer.frames.index["label"].iloc[list(rows)].tolist()
    assert labels == sorted(labels, reverse=True)
    assert len(rows) == 48
    assert explorer.first in rows
    assert explorer.frames.index["label"].iloc[explorer.first] == 1


@pytest.mark.parametrize("method", ["pixel_wise", "light_pixel_wise", "regenerative"])
def test_score_is_that_of_the_detectors(explorer, method):
    row = anomalous(explorer)
    look = explorer.look(row=row, model="VP", method=method, percentile=60)
    scorer = explorer.load("VP")
    image = to_unit_range(torch.from_numpy(explorer.frames.images[[row]]))
    jobs = {method: {60: look.threshold_nats}}
    (score,) = scorer.scores(image, [explorer.frames.index["image_id"].iloc[row]], jobs).values()
    assert look.score == pytest.approx(score[0], rel=1e-5)
    assert look.score == pytest.approx(look.heatmap.mean(), rel=1e-5)
    np.testing.assert_array_equal(look.original, explorer.frames.images[row])


def test_a_lower_threshold_replaces_more(explorer):
    looks = [
        explorer.look(row=anomalous(explorer), model="VP", method="light_pixel_wise", percentile=percentile)
        for percentile in (0, 50, 100)
    ]
    nats = [look.threshold_nats for look in looks]
    assert nats == sorted(nats)
    assert nats[0] < nats[1] < nats[2]
    assert looks[0].replaced[0] > looks[1].replaced[0] > 0
    assert looks[0].codes == 64
    assert len(looks[0].restorations) == len(looks[0].replaced) == 2


def test_a_combination_is_loaded_once(explorer):
    loads = []
    scorer = explorer.load("VP")
    explorer.load = lambda model: loads.append(model) or scorer
    for percentile in (20, 80):
        explorer.look(row=anomalous(explorer), model="VT", method="pixel_wise", percentile=percentile)
    assert loads == ["VT"]


def test_picture_names_threshold_and_score(explorer):
    look = explorer.look(row=anomalous(explorer), model="VP", method="pixel_wise", percentile=80)
    figure = draw(look, method="pixel_wise")
    assert figure.get_suptitle() == f"pixel wise: score {look.score:.4f}, λ {look.threshold_nats:.2f} nats"
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), look.restorations[0].transpose(1, 2, 0))
    plt.close("all")


def test_what_stops_a_look_is_a_sentence(explorer, capsys):
    explorer.load = Mock(side_effect=VqadError("make paper makes them"))
    controls(explorer)
    assert capsys.readouterr().out.endswith("make paper makes them\n")


def test_moving_the_slider_draws_again(explorer):
    box = controls(explorer)
    drawn = []
    look = explorer.look
    explorer.look = lambda **values: drawn.append(values["percentile"]) or look(**values)
    slider = next(child for child in box.children if isinstance(child, ipywidgets.FloatSlider))
    slider.value = 35.0
    assert drawn == [35.0]
    plt.close("all")
