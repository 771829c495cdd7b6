"""Exploring single frames: what is shown is what the detectors say."""

import matplotlib as mpl

mpl.use("Agg")

from dataclasses import replace

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from vqad_lib.analysis import explorer as module
from vqad_lib.analysis.explorer import Explorer, controls, draw
from vqad_lib.analysis.pictures import frames_of
from vqad_lib.config import SyntheticConfig, profile_from_mapping
from vqad_lib.data.frames import FrameSet
from vqad_lib.data.synthetic import generate
from vqad_lib.detectors.scoring import Detectors
from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import write_scores
from vqad_lib.files import write_json
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.models.prior import code_nll


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
    monkeypatch.setattr(module, "load_detectors", lambda _run, **names: loaded.append(names) or scorer)
    monkeypatch.setattr(Run, "splits", lambda *_: np.where(index["part"] == "train", "validation", "test"))
    return Explorer(run)


def first(explorer: Explorer) -> int:
    return next(iter(explorer.choices().values()))


def write_scores_of(explorer: Explorer) -> pd.DataFrame:
    """Scores of VP, pixel-wise: the row number over 100, at the only percentile."""
    index, at = explorer.run.frames.index, explorer.run.profile.evaluation.unsupervised_percentile
    tidy = index[["image_id", "clip", "label"]].assign(
        split=explorer.splits, detector="pixel_wise", threshold_percentile=at, threshold_nats=1.0
    )
    tidy["score"] = np.arange(len(tidy)) / 100
    run = explorer.run
    write_scores(run.scores_path("paper", "vqvae", "pixelsnail"), tidy)
    settings = {"seed": "0", "perceptual": run.profile.gan.perceptual_weights, "data_digest": run.frames.digest}
    write_json(run.root / "data" / "derived" / run.results / "run.json", settings)
    return tidy


def test_choices_are_test_frames_anomalous_ones_first(explorer):
    names, rows = zip(*explorer.choices().items(), strict=True)
    assert names[0].split("/")[0] == "cart Test001"
    assert names[-1] == "normal Test002/023"
    labels = explorer.run.frames.index["label"].iloc[list(rows)].tolist()
    assert labels == sorted(labels, reverse=True)
    assert len(rows) == 48


def test_choices_by_clip_label_and_score(explorer):
    index = explorer.run.frames.index
    without_scores = explorer.choices(order="highest score first")
    assert without_scores == explorer.choices()
    explorer._scores.clear()
    write_scores_of(explorer)
    rows = list(explorer.choices(clip="Test002", label="normal", order="highest score first").values())
    assert set(index["clip"].iloc[rows]) == {"Test002"}
    assert set(index["label"].iloc[rows]) == {0}
    assert rows == sorted(rows, reverse=True)
    assert list(explorer.choices(order="lowest score first").values()) == list(range(24, 72))


@pytest.mark.parametrize("method", ["pixel_wise", "light_pixel_wise", "regenerative"])
def test_score_and_restorations_are_those_of_the_detectors(explorer, method):
    row = first(explorer)
    look = explorer.look(row=row, model="VP", method=method, percentile=60, N=3, k=2.0)
    scorer, nll = explorer._loaded["VP"]
    scorer = replace(scorer, config=replace(scorer.config, n_restorations=3, weight_temperature=2.0))
    frame, nats = frames_of(explorer.run, np.array([row])), float(np.percentile(nll, 60))
    (score,) = scorer.scores(frame.images, frame.ids, {method: {60: nats}}).values()
    assert (look.threshold_nats, look.score) == pytest.approx((nats, score[0]), rel=1e-5)
    _, restored = scorer.heatmaps(frame.images, frame.ids, detector=method, threshold_nats=nats)
    assert torch.equal(look.restorations, restored[0])
    assert len(look.restorations) == (1 if method == "regenerative" else 3)
    figure = draw(explorer, look, model="VP", method=method)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), look.frame.pictures[0].transpose(1, 2, 0))
    assert figure.get_suptitle().endswith("" if method == "regenerative" else f"λ {nats:.2f} nats")
    assert f"score {score[0]:.4f}" in figure.get_suptitle()


@pytest.mark.parametrize("method", ["pixel_wise", "light_pixel_wise"])
def test_replay_leads_from_the_frames_codes_to_the_restoration(explorer, method):
    """Every step changes one code that was less likely than lambda; a draw may be the code itself."""
    look = explorer.look(row=first(explorer), model="VP", method=method, percentile=30)
    scorer, _ = explorer.detectors("VP")
    codes = scorer.encode(look.frame.images)
    end = scorer.restored_codes(codes, look.frame.ids, detector=method, thresholds_nats=[look.threshold_nats])[0, 0, 0]
    assert torch.equal(look.grids[0], codes[0])
    assert torch.equal(look.grids[-1], end)
    assert len(look.grids) == len(look.steps) + 1 > 5
    assert (look.steps["nll"] > look.threshold_nats).all()
    for (_, step), before, after in zip(look.steps.iterrows(), look.grids, look.grids[1:], strict=False):
        at = int(step["row"]), int(step["column"])
        assert (before[at], after[at]) == (step["before"], step["after"])
        assert (before != after).sum() == (step["before"] != step["after"])
        if method == "pixel_wise":  # as the plain algorithm sees it
            nll = code_nll(scorer.logits(before[None]), before[None])[0][at].item()
            assert nll == pytest.approx(step["nll"], abs=1e-4)


def test_a_combination_is_loaded_once(explorer, loaded):
    for percentile in (20, 80):
        explorer.look(row=first(explorer), model="VT", method="pixel_wise", percentile=percentile)
    assert loaded == [{"autoencoder": "vqvae", "prior": "gpt2", "scheme": "paper"}]


def test_scores_of_the_run_stand_beside_the_frame(explorer):
    look = explorer.look(row=30, model="VP", method="pixel_wise", percentile=80)
    titles = [axis.get_title() for axis in draw(explorer, look, model="VP", method="pixel_wise").axes]
    assert "no scores of this run; make paper makes them" in titles
    explorer._scores.clear()
    tidy = write_scores_of(explorer)
    axes = draw(explorer, look, model="VP", method="pixel_wise").axes
    (in_time,) = (axis for axis in axes if "in time" in axis.get_title())
    line, here = in_time.lines
    clip = tidy[tidy["clip"] == tidy["clip"][30]]
    np.testing.assert_allclose(line.get_ydata(), clip["score"])
    assert list(here.get_xdata()) == [30 - 24] * 2


def picture_of(box: ipywidgets.Widget) -> ipywidgets.Output:
    return box.children[-1]


def found(box: ipywidgets.Widget, description: str) -> ipywidgets.Widget:
    inner = [box, *(each for child in box.children for each in getattr(child, "children", [child]))]
    (widget,) = (widget for widget in inner if getattr(widget, "description", "") == description)
    return widget


def test_what_stops_a_look_is_a_sentence(explorer, monkeypatch, capsys):
    def missing(*_, **__):
        raise VqadError("make paper makes them")

    monkeypatch.setattr(module, "load_detectors", missing)
    controls(explorer)
    assert capsys.readouterr().out.endswith("make paper makes them\n")


def test_what_is_moved_is_computed_again_and_what_is_shown_is_not(explorer, monkeypatch):
    box, looked, drawn = controls(explorer), [], []
    look = explorer.look

    def watched(**values: object) -> object:
        looked.append(values)
        return look(**values)

    monkeypatch.setattr(explorer, "look", watched)
    monkeypatch.setattr(module, "draw", lambda *_, **values: drawn.append(values) or plt.figure())
    for description, value in (("λ, percentile", 35.0), ("N", 4), ("k", 1.5), ("model", "GT")):
        found(box, description).value = value
    assert [(one["percentile"], one["N"], one["k"], one["model"]) for one in looked][-1] == (35.0, 4, 1.5, "GT")
    assert len(looked) == len(drawn) == 4
    for description, value in (("opacity", 0.9), ("step", 3)):
        found(box, description).value = value
    assert (len(looked), len(drawn)) == (4, 6)
    assert (drawn[-1]["opacity"], drawn[-1]["step"]) == (0.9, 3)
    plt.close("all")


def test_thumbnails_and_filters_pick_the_frame(explorer):
    box = controls(explorer)
    sheet, frame = box.children[1], found(box, "frame")
    assert len(sheet.children) == module.THUMBNAILS
    image, button = sheet.children[3].children
    button.click()
    assert frame.value == list(explorer.choices().values())[3]
    assert bytes(image.value).startswith(b"\x89PNG")
    found(box, "frames").value = "normal"
    found(box, "clip").value = "Test002"
    assert [row for _, row in frame.options] == list(explorer.choices(clip="Test002", label="normal").values())
    assert explorer.run.frames.index["clip"].iloc[frame.value] == "Test002"


def test_filters_keep_the_frame_where_they_can(explorer, monkeypatch):
    looked = []
    look = explorer.look
    monkeypatch.setattr(explorer, "look", lambda **values: looked.append(values["row"]) or look(**values))
    box = controls(explorer)
    frame = found(box, "frame")
    frame.value = chosen = list(explorer.choices(clip="Test002", label="anomalous").values())[1]
    assert looked[-1] == chosen
    for description, value in (("clip", "Test002"), ("frames", "anomalous"), ("clip", ""), ("frames", "all")):
        found(box, description).value = value
        assert frame.value == chosen
    assert looked.count(chosen) == 1, "nothing is drawn again for a menu"
    found(box, "clip").value = "Test001"
    assert explorer.run.frames.index["clip"].iloc[frame.value] == "Test001"
    found(box, "clip").value = "Test002"
    assert explorer.run.frames.index["clip"].iloc[looked[-1]] == "Test002"


def test_a_filter_that_nothing_passes_says_so(explorer, capsys):
    explorer.run.frames.index.loc[explorer.run.frames.index["clip"] == "Test001", "label"] = 0
    box = controls(explorer)
    found(box, "clip").value = "Test001"
    found(box, "frames").value = "anomalous"
    assert found(box, "frame").value is None
    assert capsys.readouterr().out.endswith("no such frames; take another clip, or all frames\n")
    found(box, "frames").value = "all"
    assert found(box, "frame").value is not None


def test_scores_of_another_run_do_not_stand_beside_the_frame(explorer):
    write_scores_of(explorer)
    assert explorer.scores("VP", "pixel_wise") is not None
    explorer._scores.clear()
    write_json(explorer.run.root / "data" / "derived" / explorer.run.results / "run.json", {"seed": "1"})
    assert explorer.scores("VP", "pixel_wise") is None
