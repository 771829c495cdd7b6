"""Restoration, studied: a row of the table is what the detector itself says at that setting, by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from beyond import restoration_study as module
from beyond.restoration_study import lambdas, numbers_of, restoration_rows, size_rows, sizes, spread
from vqad_lib.config import SyntheticConfig, profile_from_mapping
from vqad_lib.data.frames import FrameSet
from vqad_lib.data.synthetic import generate
from vqad_lib.detectors.scoring import Detectors
from vqad_lib.experiment.run import Run
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.pixelsnail import PixelSnail

SCHEME = "official"


@pytest.fixture
def run(tmp_path, profile_mapping, monkeypatch) -> Run:
    profile = profile_from_mapping(profile_mapping, source="test")
    images, index, masks = generate(SyntheticConfig(train_clips=1, test_clips=2, frames_per_clip=24, seed=0), 16)
    monkeypatch.setattr(Run, "splits", lambda *_: np.where(index["part"] == "train", "validation", "test"))
    monkeypatch.setattr(module, "_CHUNK", 5)  # so that the last chunk is smaller
    return Run(tmp_path, profile, FrameSet("synthetic", "walkway", images, index, masks, ""), torch.device("cpu"))


def scorer_of(run: Run) -> Detectors:
    torch.manual_seed(0)
    coder = VQAutoencoder(run.profile.autoencoder).eval()
    prior = PixelSnail(
        run.profile.pixelsnail, codebook_size=run.profile.autoencoder.codebook_size, grid=run.grid
    ).eval()
    return Detectors(coder, prior, run.profile.detectors, run.profile.seed)


def test_rows_are_what_the_detector_says_at_each_setting(run):
    scorer, rows = scorer_of(run), spread(run, SCHEME)
    table = restoration_rows(run, scorer, scheme=SCHEME, numbers=(1, 3))
    own, labels = scorer.config, run.frames.index["label"].to_numpy()[rows]
    images, ids = to_unit_range(run.images(rows)), run.frames.index["image_id"].iloc[rows].tolist()
    regenerated = scorer.scores(images, ids, {"regenerative": {-1: np.nan}})["regenerative", -1]
    thresholds = lambdas(run, scorer, SCHEME)
    for wanted in ({"n": 3, "denominator": "sum", "k": 10.0}, {"n": 1, "denominator": "mean", "k": 0.0}):
        config = replace(own, n_restorations=wanted["n"], weight_denominator=wanted["denominator"])
        by_hand = replace(scorer, config=replace(config, weight_temperature=wanted["k"]))
        for key in ("pixel_wise", "light_pixel_wise"):
            for percentile, nats in thresholds.items():
                scores = by_hand.scores(images, ids, {key: {percentile: nats}})[key, percentile]
                at = table[(table[[*wanted]] == wanted).all(axis=1)]
                (row,) = at[(at["detector"] == key) & (at["percentile"] == percentile)].to_dict("records")
                assert row["auroc"] == roc_auc_score(labels, scores)
                assert row["regenerative"] == roc_auc_score(labels, regenerated)
                assert row["difference"] == pytest.approx(row["auroc"] - row["regenerative"])
    at_own = table[(table["k"] == own.weight_temperature) & (table["denominator"] == own.weight_denominator)]
    assert (at_own["difference_low"] <= at_own["difference_high"]).all()
    assert table.drop(at_own.index)["pixel_auroc"].isna().all()
    assert table.groupby("percentile")["replaced"].mean().is_monotonic_decreasing, "a higher lambda replaces less"


def test_maps_of_the_first_n_meet_the_masks(run):
    scorer, rows = scorer_of(run), spread(run, SCHEME)
    table = restoration_rows(run, scorer, scheme=SCHEME, numbers=(2, 4))
    percentile, nats = next(iter(lambdas(run, scorer, SCHEME).items()))
    images, ids = to_unit_range(run.images(rows)), run.frames.index["image_id"].iloc[rows].tolist()
    two = replace(scorer, config=replace(scorer.config, n_restorations=2))
    maps = two.heatmaps(images, ids, detector="pixel_wise", threshold_nats=nats)[0].numpy()
    expected = roc_auc_score(run.frames.masks[rows].ravel(), maps.ravel())
    at = table.dropna(subset=["pixel_auroc"])
    at = at[(at["detector"] == "pixel_wise") & (at["percentile"] == percentile)].set_index("n")
    assert at.loc[2, "pixel_auroc"] == pytest.approx(expected, abs=1e-6)
    no_masks = replace(run, frames=replace(run.frames, masks=None))
    assert restoration_rows(no_masks, scorer, scheme=SCHEME, numbers=(1,))["pixel_auroc"].isna().all()


def test_test_frames_are_spread_evenly(run):
    test = np.flatnonzero(run.splits(SCHEME) == "test")
    assert spread(run, SCHEME, 99).tolist() == test.tolist()
    assert len(spread(run, SCHEME)) == min(4 * run.profile.speed.images, len(test))
    assert numbers_of(run)[-1] == max(
        n for n in (1, 2, 5, 10, 20, 50) if n <= 10 * run.profile.detectors.n_restorations
    )
    assert spread(run, SCHEME, 3).tolist() == [test[0], test[round((len(test) - 1) / 2)], test[-1]]


def test_sizes_make_grids_of_their_names(run):
    found = sizes(run)
    assert [*found] == ["profile", "grid_4", "K_16", "K_512", "K_2048", "D_8", "D_256", "coverage"]
    assert run.changed(found["coverage"].changes).profile.autoencoder.coverage == "defects"
    assert run.changed(found["grid_4"].changes).grid == (4, 4)
    wider = run.changed({"autoencoder.channels": (4, 4, 8, 8), "data.image_size_px": 16})
    assert wider.grid == (2, 2)
    finer = sizes(wider)
    assert wider.changed(finer["grid_8"].changes).profile.autoencoder.channels == (4, 4)
    assert wider.changed(finer["grid_4"].changes).profile.autoencoder.channels == (4, 4, 8)
    assert finer["K_16"].changes == {"autoencoder.codebook_size": 16}


def test_every_size_is_trained_briefly_and_has_a_row(run, monkeypatch):
    monkeypatch.setattr(
        module, "sizes", lambda run: {key: size for key, size in sizes(run).items() if key in ("profile", "grid_4")}
    )
    trained = []
    monkeypatch.setattr(module, "train_combination", lambda changed, **names: trained.append((changed, names)))
    monkeypatch.setattr(module, "load_detectors", lambda changed, **_: scorer_of(changed))
    rows = size_rows(run, scheme=SCHEME, most_epochs=1)
    assert rows["side"].tolist() == [8, 4]
    assert {changed.profile.training.vqvae.max_epochs for changed, _ in trained} == {1}
    assert {changed.profile.training.gpt2.max_epochs for changed, _ in trained} == {4}, "another network's"
    assert (rows["seconds_per_image"] > 0).all()
    areas = ["sample_wise", "pixel_wise", "light_pixel_wise", "regenerative"]
    areas += ["pixel_auroc", "regenerative_pixel_auroc", "nll_pixel_auroc"]
    assert rows[areas].stack().between(0, 1).all()
    assert rows[areas].notna().all(axis=None)
    np.testing.assert_allclose(rows["difference"], rows["pixel_wise"] - rows["regenerative"], atol=1e-12)
