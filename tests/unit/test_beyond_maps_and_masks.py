"""Maps against masks: each map is its detector's own, the sum is standardised on normal frames, all by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from beyond import maps_and_masks as module
from beyond.maps_and_masks import MAPS, SUM, localised, maps_of
from vqad_lib.config import SyntheticConfig, profile_from_mapping
from vqad_lib.data.frames import FrameSet
from vqad_lib.data.synthetic import generate
from vqad_lib.detectors.residuals import regenerative_map
from vqad_lib.detectors.scoring import Detectors
from vqad_lib.evaluation.localisation import localisation_metrics
from vqad_lib.experiment.run import Run
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.models.prior import code_nll

NATS = {"pixel_wise": 2.0, "light_pixel_wise": 2.1}


@pytest.fixture
def run(tmp_path, profile_mapping, monkeypatch) -> Run:
    profile_mapping["detectors"]["chunk_images"] = 7  # so that the last chunk is smaller
    profile = profile_from_mapping(profile_mapping, source="test")
    images, index, masks = generate(SyntheticConfig(train_clips=1, test_clips=2, frames_per_clip=24, seed=0), 16)
    monkeypatch.setattr(Run, "splits", lambda *_: np.where(index["part"] == "train", "validation", "test"))
    return Run(tmp_path, profile, FrameSet("synthetic", "walkway", images, index, masks, ""), torch.device("cpu"))


@pytest.fixture
def scorer(run) -> Detectors:
    torch.manual_seed(0)
    coder = VQAutoencoder(run.profile.autoencoder).eval()
    prior = PixelSnail(run.profile.pixelsnail, codebook_size=8, grid=(8, 8)).eval()
    return Detectors(coder, prior, run.profile.detectors, 0)


@torch.no_grad()
def test_each_map_is_its_detectors_own(run, scorer):
    rows = np.arange(20, 30)
    maps = maps_of(run, scorer, rows, NATS)
    assert list(maps) == list(MAPS)
    assert {heatmaps.shape for heatmaps in maps.values()} == {(10, 16, 16)}
    images, ids = to_unit_range(run.images(rows)), run.frames.index["image_id"].iloc[rows].tolist()
    for (key, nats), name in zip(NATS.items(), MAPS, strict=False):
        heatmaps = scorer.heatmaps(images, ids, detector=key, threshold_nats=nats)[0]
        np.testing.assert_allclose(maps[name], heatmaps, atol=1e-6)
    codes = scorer.encode(images)
    np.testing.assert_allclose(maps["regeneration"], regenerative_map(images, scorer.decode(codes)), atol=1e-6)
    z_e = scorer.autoencoder.encoder(images)
    distance = (z_e - scorer.autoencoder.quantiser.embed(codes)).square().sum(1).log()
    nll = code_nll(scorer.prior.logits(codes), codes)
    for name, coarse in (("quantisation error", distance), ("NLL", nll)):
        fine = torch.nn.functional.interpolate(coarse[:, None], size=16, mode="bilinear")[:, 0]
        np.testing.assert_allclose(maps[name], fine, rtol=1e-4, atol=1e-4)


def test_localised_by_hand(run, scorer, monkeypatch):
    monkeypatch.setattr(module, "load_detectors", lambda *_args, **_names: scorer)
    monkeypatch.setattr(module, "combination_scores", lambda *_: dict.fromkeys(("VP", "VT", "GP", "GT")))
    at = {key: SimpleNamespace(nats=nats) for key, nats in NATS.items()}
    monkeypatch.setattr(module, "at_selected_threshold", lambda _run, _scores, key: at[key])
    monkeypatch.setattr(module, "_AT_MOST", 10)
    rows, test, maps = localised(run, scheme="paper")
    assert rows["model"].unique().tolist() == ["VP", "VT", "GP", "GT"]
    assert rows["signal"].unique().tolist() == [*MAPS, SUM]
    assert len(test) == 10
    assert (rows["frames"] == 10).all()
    assert (run.splits("paper")[test] == "test").all()
    label = run.frames.index["label"].to_numpy()
    normal = np.flatnonzero((run.splits("paper") == "validation") & (label == 0))
    usual = maps_of(run, scorer, normal[np.linspace(0, len(normal) - 1, 10).round().astype(int)], NATS)
    added = [name for name in MAPS if name in ("pixel-wise restoration", "quantisation error", "NLL")]
    by_hand = sum((maps[name] - usual[name].mean()) / usual[name].std() for name in added)
    np.testing.assert_allclose(maps[SUM], by_hand, rtol=1e-3, atol=1e-3)
    metrics = localisation_metrics(maps[SUM], run.frames.masks[test])
    assert rows[rows["signal"] == SUM][list(metrics)].iloc[-1].to_dict() == pytest.approx(metrics)
