"""Training steps of both settings start from the same loss; counts of operations by hand; others' networks if here."""

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from benchmarks import reference_implementations as reference
from benchmarks.flops import count_gflop, matmul_gflop_per_s, products_share
from benchmarks.training_speed import curve_rows, prior_trainer, settings_rows, training_rows, vqvae_trainer
from vqad_lib.config import Profile, profile_from_mapping
from vqad_lib.models.autoencoder import VQAutoencoder


@pytest.fixture
def profile(profile_mapping) -> Profile:
    return profile_from_mapping(profile_mapping, source="tiny")


@pytest.fixture
def frames() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (12, 3, 16, 16), generator=generator, dtype=torch.uint8)


@pytest.fixture
def codes() -> torch.Tensor:
    return torch.randint(0, 8, (12, 8, 8), generator=torch.Generator().manual_seed(0))


def test_curves_of_both_settings_start_alike_and_stay_close(profile, frames) -> None:
    curves = curve_rows(profile, frames)
    assert curves[["seed", "step"]].to_numpy().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert curves["plain"].to_numpy() == pytest.approx(curves["fast"].to_numpy(), rel=1e-3)
    assert curves.loc[curves["seed"] == 0, "plain"].iloc[0] != curves.loc[curves["seed"] == 1, "plain"].iloc[0]


def test_final_losses_by_hand() -> None:
    steps = [{"seed": 0, "step": step, "plain": 9.0, "fast": 9.0} for step in range(1, 20)]
    steps += [{"seed": 1, "step": step, "plain": 9.0, "fast": 9.0} for step in range(1, 20)]
    # of 20 steps the last two count; the nineteenth is 9 in all
    steps += [{"seed": 0, "step": 20, "plain": 1.0, "fast": 3.0}, {"seed": 1, "step": 20, "plain": 3.0, "fast": 2.0}]
    rows = settings_rows(pd.DataFrame(steps)).set_index("settings")
    assert rows.loc["plain", ["final_loss", "final_loss_low", "final_loss_high"]].tolist() == [5.5, 5.0, 6.0]
    assert rows.loc["fast", ["final_loss", "final_loss_low", "final_loss_high"]].tolist() == [5.75, 5.5, 6.0]
    assert rows["farthest_apart"].tolist() == [1.0, 1.0]
    assert rows[["seeds", "steps"]].to_numpy().tolist() == [[2, 20], [2, 20]]


@pytest.mark.parametrize("fast", [False, True])
def test_a_step_trains(profile, frames, codes, fast) -> None:
    for trainer in (vqvae_trainer(profile, frames, fast=fast), prior_trainer(profile, "gpt2", codes, fast=fast)):
        before = [parameter.detach().clone() for parameter in trainer.network.parameters()]
        assert trainer.step().item() > 0
        after = trainer.network.parameters()
        assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_rows_of_training_without_monai(profile, frames, codes, monkeypatch) -> None:
    monkeypatch.setattr(reference, "is_installed", lambda _library: False)
    rows = training_rows(profile, frames, codes)
    assert rows[["network", "settings", "unit"]].to_numpy().tolist() == [
        ["VQ-VAE", "plain", "images/s"],
        ["VQ-VAE", "fast", "images/s"],
        ["PixelSNAIL", "plain", "tokens/s"],
        ["PixelSNAIL", "fast", "tokens/s"],
        ["GPT-2", "plain", "tokens/s"],
        ["GPT-2", "fast", "tokens/s"],
    ]
    assert (rows["rate"] > 0).all()
    assert (rows["batch"] == 5).all()
    assert rows["products_share"].between(0.01, 0.99).all()
    ours = sum(parameter.numel() for parameter in VQAutoencoder(profile.autoencoder).parameters())
    assert rows["parameters"].iloc[:2].tolist() == [ours, ours]


def test_operations_by_hand() -> None:
    a, b = torch.ones(20, 30), torch.ones(30, 40)
    assert count_gflop(lambda: a @ b) == pytest.approx(2 * 20 * 30 * 40 / 1e9)
    images, weight = torch.ones(2, 3, 8, 8), torch.ones(5, 3, 3, 3)
    assert count_gflop(lambda: F.conv2d(images, weight)) == pytest.approx(2 * 2 * 5 * 6 * 6 * 3 * 9 / 1e9)


def test_attention_on_a_cpu_counts() -> None:
    """Torch's counter knows it on a GPU only; query times key and weights times value are two products."""
    query = torch.ones(2, 3, 16, 8)
    counted = count_gflop(lambda: F.scaled_dot_product_attention(query, query, query))
    assert counted == pytest.approx(2 * (2 * 2 * 3 * 16 * 16 * 8) / 1e9)


def test_the_share_of_products_is_of_convolutions_and_matrix_products() -> None:
    cpu, large = torch.device("cpu"), torch.ones(512, 512)
    images, weight = torch.ones(2, 16, 64, 64, requires_grad=True), torch.ones(16, 16, 3, 3, requires_grad=True)
    assert products_share(lambda: large @ large, cpu) > 0.5
    assert products_share(lambda: F.conv2d(images, weight).sum().backward(), cpu) > 0.5
    assert products_share(lambda: large.exp().sum(), cpu) == 0


def test_the_roofline_is_a_rate() -> None:
    assert matmul_gflop_per_s(torch.device("cpu"), torch.float32, repeats=1, side=64) > 0


def test_monai_networks_have_our_size(profile) -> None:
    pytest.importorskip("monai", reason="an extra package; make bench installs it")
    ours = reference.parameter_count(VQAutoencoder(profile.autoencoder))
    theirs = reference.monai_vqvae(profile.autoencoder)
    assert reference.parameter_count(theirs) == pytest.approx(ours, rel=0.1)
    assert theirs.index_quantize(torch.zeros(2, 3, 16, 16)).shape == (2, 8, 8)


def test_monai_likelihood_is_of_the_codes_in_raster_order(profile, codes) -> None:
    pytest.importorskip("monai", reason="an extra package; make bench installs it")
    transformer = reference.monai_transformer(profile, (8, 8)).eval()
    monai = reference.MonaiLikelihood(reference.monai_vqvae(profile.autoencoder).eval(), transformer, (8, 8))
    start = torch.full((12, 1), profile.autoencoder.codebook_size)
    logits = transformer(torch.cat([start, codes.flatten(1)[:, :-1]], 1))
    expected = logits.log_softmax(-1).gather(2, codes.flatten(1)[..., None])[..., 0].reshape(12, 8, 8)
    assert torch.allclose(monai.of_codes(codes), expected, atol=1e-5)


def test_ganomaly_scores_each_image() -> None:
    pytest.importorskip("anomalib", reason="an extra package; make bench installs it")
    assert reference.ganomaly(32)(torch.zeros(3, 3, 32, 32)).pred_score.shape == (3,)
