"""Local scores: chosen by pseudo-anomalies in held-out normal frames; scores are of the test frames, in order."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from beyond import local_scores as module
from beyond.local_scores import SHARES, SIGNALS, local_options
from beyond.official import _of_places
from vqad_lib.config import SyntheticConfig, profile_from_mapping
from vqad_lib.data.frames import FrameSet
from vqad_lib.data.synthetic import generate
from vqad_lib.detectors.local import LOCAL_SIGNALS
from vqad_lib.detectors.scoring import Detectors
from vqad_lib.experiment.run import Run
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.models.prior import code_nll
from vqad_lib.models.registry import COMBINATIONS


@pytest.fixture
def run(tmp_path, profile_mapping, monkeypatch) -> Run:
    profile = profile_from_mapping(profile_mapping, source="test")
    images, index, masks = generate(SyntheticConfig(train_clips=3, test_clips=2, frames_per_clip=12, seed=0), 16)
    held_out = index["clip"] == index["clip"].unique()[2]
    splits = np.where(index["part"] == "test", "test", np.where(held_out, "validation", "train"))
    monkeypatch.setattr(Run, "splits", lambda *_: splits)
    monkeypatch.setattr(module, "_CHUNK", 5)
    return Run(tmp_path, profile, FrameSet("synthetic", "walkway", images, index, masks, ""), torch.device("cpu"))


@pytest.fixture
def scorer(run, monkeypatch) -> Detectors:
    coder = VQAutoencoder(run.profile.autoencoder).eval()
    prior = PixelSnail(run.profile.pixelsnail, codebook_size=8, grid=(8, 8)).eval()
    scorer = Detectors(coder, prior, run.profile.detectors, 0)
    monkeypatch.setattr(module, "load_detectors", lambda *_, **__: scorer)
    return scorer


@pytest.mark.usefixtures("scorer")
def test_every_option_has_a_row_and_pseudo_anomalies_order_them(run):
    table, scores = local_options(run, scheme="official")
    assert len(table) == len(COMBINATIONS) * len(SHARES) * (2 * len(LOCAL_SIGNALS) + 1)
    assert table["pseudo_auroc"].is_monotonic_decreasing
    labels = run.frames.index["label"].to_numpy()[run.splits("official") == "test"]
    assert scores.shape == (len(table), len(labels))
    again = [roc_auc_score(labels, of) for of in scores]
    np.testing.assert_allclose(again, table["test_auroc"], atol=1e-12)
    rows = list(_of_places(table, scores))
    assert len(rows) == len(SIGNALS)
    assert rows[0]["method"].startswith(f"Local {table['signal'][0]}, {table['model'][0]}")
    np.testing.assert_array_equal(rows[0]["scores"][0], scores[0])


@torch.no_grad()
def test_scores_are_means_of_the_highest_share(run, scorer):
    table, scores = local_options(run, scheme="official")
    images = to_unit_range(run.images(run.splits("official") == "test"))
    codes = scorer.encode(images)
    nll = code_nll(scorer.prior.logits(codes), codes)
    fine = torch.nn.functional.interpolate(nll[:, None], size=16, mode="bilinear").flatten(1)
    plain = (table["signal"] == "nll") & ~table["calibrated"] & (table["model"] == "VP")
    for share, expected in (("all", fine.mean(1)), ("highest 1%", fine.topk(3, 1).values.mean(1))):
        (row,) = np.flatnonzero(plain & (table["share"] == share))
        np.testing.assert_allclose(scores[row], expected, rtol=1e-4)
