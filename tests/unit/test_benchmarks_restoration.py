"""Rows of restoration.csv and detectors.csv: their columns, and an equality that can fail."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks import detector_speed
from benchmarks.cases import Case, cases, random_autoencoder, random_prior, share_equal
from benchmarks.detector_speed import detector_rows
from benchmarks.inference import inference_rows
from benchmarks.restoration_speed import restoration_rows
from vqad_lib.config import Profile, profile_from_mapping
from vqad_lib.detectors.restoration import restore
from vqad_lib.detectors.sample_wise import thresholds_at
from vqad_lib.detectors.scoring import Detectors
from vqad_lib.errors import VqadError
from vqad_lib.models.prior import code_nll

COLUMNS = "prior,size,percentile,n_restorations,images,plain_s,fast_s,ratio,equal_codes"
GRID = (4, 4)


@pytest.fixture
def profile(profile_mapping) -> Profile:
    return profile_from_mapping(profile_mapping, source="tiny")


@pytest.fixture
def tiny_cases(profile) -> list[Case]:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = []
    for model, kind in (("VP", "pixelsnail"), ("VT", "gpt2")):
        coder, prior = random_autoencoder(profile, images), random_prior(profile, kind, grid=GRID)
        codes = coder.encode(images)
        nll = code_nll(prior.logits(codes), codes).numpy()
        thresholds = thresholds_at(nll, profile.detectors.threshold_percentiles)
        scorer = Detectors(coder, prior, profile.detectors, 0)
        found.append(Case(model, kind, scorer, images, ["a", "b"], codes, thresholds, "random"))
    return found


def test_columns_and_rows_of_restoration(profile, tiny_cases) -> None:
    rows = restoration_rows(tiny_cases, profile.benchmarks, size="tiny")
    assert ",".join(rows.columns[:9]) == COLUMNS
    assert len(rows) == 2 * 2 * 3, "priors, numbers of restorations, percentiles"
    assert rows[["prior", "n_restorations", "percentile"]].iloc[[0, 1, 3, 6]].to_numpy().tolist() == [
        ["pixelsnail", 1, 20],
        ["pixelsnail", 1, 50],
        ["pixelsnail", 2, 20],
        ["gpt2", 1, 20],
    ]
    assert set(rows["size"]) == {"tiny"}
    assert set(rows["images"]) == {2}
    assert (rows["ratio"] == rows["plain_s"] / rows["fast_s"]).all()
    assert ((rows["plain_s_low"] <= rows["plain_s"]) & (rows["plain_s"] <= rows["plain_s_high"])).all()
    assert set(rows["equal_codes"]) == {1.0}, "the algorithms agree code for code"


def test_a_wrong_fast_algorithm_is_found_out(profile, tiny_cases) -> None:
    def wrong(prior, codes: Tensor, *, algorithm: str, **options) -> Tensor:
        restored = restore(prior, codes, algorithm="plain", **options)
        if algorithm == "fast":  # one code of each row is another one
            restored[:, :, 3, 1] = (restored[:, :, 3, 1] + 1) % prior.codebook_size
        return restored

    pixelsnail = replace(tiny_cases[0], thresholds={50: tiny_cases[0].thresholds[50]})
    rows = restoration_rows([pixelsnail], profile.benchmarks, size="tiny", restore=wrong)
    assert rows["equal_codes"].to_numpy() == pytest.approx(15 / 16)


@pytest.mark.parametrize("compiles", [False, True])
def test_rows_of_inference(profile, tiny_cases, monkeypatch, compiles) -> None:
    """What stands in for the compiler gives other results, and the rows say so."""

    def wrong(call, *, mode: str):
        assert mode == "default"
        return lambda given: call(given) + 1

    monkeypatch.setattr(torch, "compile", wrong)
    rows = inference_rows(tiny_cases, replace(profile.benchmarks, compile=compiles))
    settings = ["float32", "bfloat16", "compiled"][: 2 + compiles]
    assert rows[["phase", "network", "settings"]].to_numpy().tolist() == [
        [phase, network, setting]
        for phase, network in (
            ("encode", "autoencoder"),
            ("decode", "autoencoder"),
            ("prior pass", "PixelSNAIL"),
            ("prior pass", "GPT-2"),
        )
        for setting in settings
    ]
    rows = rows.set_index(["phase", "network", "settings"])
    assert rows.loc[("encode", "autoencoder", "float32"), "equal_codes"] == 1
    assert (rows["ratio"].xs("float32", level="settings") == 1).all()
    differences = rows["largest_difference"].drop("encode", level="phase")
    assert (differences.xs("float32", level="settings") == 0).all()
    assert (differences.xs("bfloat16", level="settings") > 0).all()
    if compiles:
        assert rows.loc[("encode", "autoencoder", "compiled"), "equal_codes"] == 0
        assert differences.xs("compiled", level="settings").to_numpy() == pytest.approx(1)


def test_the_share_of_equal_codes_by_hand() -> None:
    one, other = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[1, 2], [3, 5]])
    assert share_equal(one, other) == 0.75
    assert share_equal(one, one) == 1.0
    with pytest.raises(ValueError, match="shapes differ"):
        share_equal(one, other[:1])


def test_random_networks_are_not_indifferent(profile) -> None:
    """Else every percentile of surprise would be about log K, and a threshold would pick codes by rounding."""
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    codes = random_autoencoder(profile, images).encode(images)
    assert len(codes.unique()) >= profile.autoencoder.codebook_size / 2
    for kind in ("pixelsnail", "gpt2"):
        prior = random_prior(profile, kind, grid=GRID)
        assert code_nll(prior.logits(codes), codes).std() > 0.1
        again = random_prior(profile, kind, grid=GRID)
        assert torch.equal(prior.logits(codes), again.logits(codes)), "the same weights each time"


def test_unknown_networks_are_refused() -> None:
    with pytest.raises(VqadError, match="NETWORKS must be auto, trained, random, got 'old'"):
        cases(None, "old")


@pytest.mark.parametrize("baseline", [False, True])
def test_rows_of_detectors(profile, tiny_cases, monkeypatch, baseline) -> None:
    monkeypatch.setattr(detector_speed.reference, "is_installed", lambda _library: baseline)
    monkeypatch.setattr(detector_speed.reference, "ganomaly", lambda _size_px: GivesScores())
    rows = detector_rows(tiny_cases, profile.benchmarks, percentile=50)
    expected = ["sample-wise", "regenerative", "light pixel-wise", "pixel-wise", "pixel-wise, plain algorithm"]
    assert rows.loc[rows["model"] == "VT", "detector"].tolist() == expected
    assert len(rows) == 10 + baseline
    assert (rows["model"].iloc[-1] == "GANomaly (Anomalib)") == baseline
    light = rows[rows["detector"] == "light pixel-wise"]
    assert light["times_light"].tolist() == [1.0, 1.0]
    assert rows.loc[rows["detector"] == "regenerative", "percentile"].tolist() == [-1, -1]
    assert rows.loc[rows["detector"] == "pixel-wise", "n_restorations"].tolist() == [2, 2]
    assert (rows["images_per_s"].between(rows["images_per_s_low"], rows["images_per_s_high"])).all()
    assert not math.isnan(rows["images_per_s"].sum())


class GivesScores(torch.nn.Module):
    """Stands in for Anomalib's GANomaly: images in, an object with scores out."""

    def forward(self, images: Tensor) -> "GivesScores":
        self.pred_score = images.mean((1, 2, 3))
        return self
