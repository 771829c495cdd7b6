"""The codebook: nearest codes by NumPy (eq. 1 and 2), the straight-through gradient, and how the codes move."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vqad_lib.config import AutoencoderConfig, load_profile
from vqad_lib.models.quantiser import (
    DEAD_BELOW,
    Quantiser,
    code_shares,
    codebook_usage,
    collapse_warning,
    straight_through,
)

SMOKE = load_profile(Path(__file__).resolve().parents[2] / "profiles" / "smoke.yaml").autoencoder


def settings(codebook_size: int, latent_dim: int, **options: object) -> AutoencoderConfig:
    """Those of a profile; codes move by gradient alone unless `options` say otherwise."""
    by_gradient = {"codebook_update": "gradient", "codebook_decay": 0.99}
    by_gradient |= {"codebook_init_from_data": False, "restart_dead_codes": False}
    return replace(SMOKE, codebook_size=codebook_size, latent_dim=latent_dim, **by_gradient | options)


def quantiser_of(codebook: Tensor, **options: object) -> Quantiser:
    """A quantiser that holds these code vectors, and running averages to match."""
    quantiser = Quantiser(settings(*codebook.shape, **options))
    with torch.no_grad():
        quantiser.codebook.copy_(codebook)
        quantiser.running_sum.copy_(codebook)
    return quantiser


def vectors_of(z_e: Tensor) -> np.ndarray:
    """(B, D, h, w) -> (Bhw, D), float64."""
    return z_e.double().numpy().transpose(0, 2, 3, 1).reshape(-1, z_e.shape[1])


def nearest_by_numpy(z_e: Tensor, codebook: np.ndarray) -> np.ndarray:
    distance = np.linalg.norm(vectors_of(z_e)[:, None] - codebook[None], axis=2)
    return distance.argmin(1)


@pytest.fixture
def z_e() -> Tensor:
    return torch.randn(3, 6, 2, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def codebook() -> Tensor:
    return torch.randn(9, 6, generator=torch.Generator().manual_seed(1))


def test_eq_01_nearest_code_by_numpy(z_e: Tensor, codebook: Tensor) -> None:
    codes = quantiser_of(codebook).nearest(z_e)
    assert codes.shape == (3, 2, 5)
    assert codes.dtype == torch.int64
    expected = nearest_by_numpy(z_e, codebook.double().numpy())
    assert len(set(expected.tolist())) > 4
    np.testing.assert_array_equal(codes.flatten().numpy(), expected)


def test_eq_01_nearest_code_by_hand() -> None:
    quantiser = quantiser_of(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]))
    z_e = torch.tensor([[1.9, 0.0], [2.1, 0.0], [0.5, 3.0], [-9.0, -9.0]]).T.reshape(1, 2, 2, 2)
    assert quantiser.nearest(z_e).tolist() == [[[0, 1], [2, 0]]]


def test_eq_01_ties_go_to_the_lowest_index() -> None:
    quantiser = quantiser_of(torch.tensor([[9.0, 9.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    assert quantiser.nearest(torch.zeros(2, 2, 3, 1)).unique().tolist() == [1]


def test_codes_begin_uniform_within_one_over_their_number() -> None:
    quantiser = Quantiser(settings(8, 2000))
    assert quantiser.codebook.abs().max() <= 1 / 8
    for sign in (-1, 1):
        assert (sign * quantiser.codebook).max() > 0.99 / 8
    assert quantiser.codebook.mean().abs() < 0.01 / 8
    assert torch.equal(quantiser.running_sum, quantiser.codebook)
    assert (quantiser.running_count == 1).all()


@pytest.mark.parametrize("shape", [(3, 6, 2), (3, 5, 2, 5), (3, 2, 5, 6), (6,)])
def test_eq_01_refuses_other_shapes(codebook: Tensor, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"z_e must be \(B, 6, h, w\)"):
        quantiser_of(codebook).nearest(torch.zeros(shape))


def test_eq_01_accepts_an_empty_batch(codebook: Tensor) -> None:
    z_q, codes = quantiser_of(codebook).eval()(torch.zeros(0, 6, 2, 5))
    assert z_q.shape == (0, 6, 2, 5)
    assert codes.shape == (0, 2, 5)


def test_eq_02_embeds_each_code_as_its_vector(z_e: Tensor, codebook: Tensor) -> None:
    quantiser = quantiser_of(codebook)
    z_q, codes = quantiser(z_e)
    for b, i, j in np.ndindex(3, 2, 5):
        assert torch.equal(z_q[b, :, i, j], codebook[codes[b, i, j]])
    assert torch.equal(quantiser.embed(codes), z_q)


@pytest.mark.parametrize(
    "options", [{"codebook_update": "running_average", "codebook_decay": 0.5}, {"restart_dead_codes": True}]
)
def test_eq_02_codes_are_nearest_in_the_codebook_they_are_embedded_with(
    z_e: Tensor, codebook: Tensor, options: dict[str, object]
) -> None:
    quantiser = quantiser_of(codebook, **options).train()
    quantiser.running_count.fill_(DEAD_BELOW / 2)  # every code is about to move
    z_q, codes = quantiser(z_e)
    assert not torch.equal(quantiser.codebook, codebook)
    np.testing.assert_array_equal(codes.flatten().numpy(), nearest_by_numpy(z_e, codebook.double().numpy()))
    torch.testing.assert_close(z_q.detach(), codebook[codes].movedim(-1, 1), rtol=0, atol=0)


def test_straight_through_copies_value_from_codes_and_gradient_to_encoder(z_e: Tensor) -> None:
    z_e = z_e.requires_grad_()
    z_q = torch.randn(z_e.shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
    passed = straight_through(z_e, z_q)
    torch.testing.assert_close(passed.detach(), z_q.detach(), rtol=0, atol=1e-6)
    passed.pow(3).sum().backward()
    torch.testing.assert_close(z_e.grad, 3 * z_q.detach().square(), rtol=1e-4, atol=1e-5)
    assert z_q.grad is None


def test_running_averages_for_two_steps_by_numpy(codebook: Tensor) -> None:
    decay, generator = 0.9, torch.Generator().manual_seed(3)
    quantiser = quantiser_of(codebook, codebook_update="running_average", codebook_decay=decay).train()
    assert not quantiser.codebook.requires_grad
    codes_now = codebook.double().numpy()
    count, total = np.ones(9), codes_now.copy()
    for _ in range(2):
        z_e = torch.randn(2, 6, 4, 3, generator=generator)
        one_hot = np.eye(9)[nearest_by_numpy(z_e, codes_now)]  # Bhw K
        count = decay * count + (1 - decay) * one_hot.sum(0)
        total = decay * total + (1 - decay) * one_hot.T @ vectors_of(z_e)
        codes_now = total / count[:, None]
        quantiser(z_e)
        np.testing.assert_allclose(quantiser.running_count.numpy(), count, rtol=1e-5)
        np.testing.assert_allclose(quantiser.running_sum.numpy(), total, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(quantiser.codebook.numpy(), codes_now, rtol=1e-4, atol=1e-5)
    assert np.abs(codes_now - codebook.numpy()).max() > 0.1


def test_evaluation_moves_nothing(z_e: Tensor, codebook: Tensor) -> None:
    quantiser = quantiser_of(
        codebook, codebook_update="running_average", restart_dead_codes=True, codebook_init_from_data=True
    ).eval()
    before = {key: value.clone() for key, value in quantiser.state_dict().items()}
    quantiser(z_e)
    assert all(torch.equal(value, before[key]) for key, value in quantiser.state_dict().items())


@pytest.mark.parametrize("update", ["gradient", "running_average"])
def test_dead_codes_restart_on_the_batch_with_fresh_averages(update: str) -> None:
    torch.manual_seed(0)
    codebook = torch.tensor([[0.0, 0.0], [10.0, 10.0], [90.0, 90.0], [-90.0, 90.0]])
    quantiser = quantiser_of(codebook, codebook_update=update, codebook_decay=0.5, restart_dead_codes=True).train()
    count = torch.tensor([2.0, 2.0, 1.9 * DEAD_BELOW, 2.0 * DEAD_BELOW])  # halved by the step: the third one is dead
    quantiser.running_count.copy_(count)
    quantiser.running_sum.copy_(codebook * count[:, None])
    z_e = torch.tensor([[0.0, 0.0], [1.0, 0.0], [10.0, 10.0], [11.0, 10.0]]).T.reshape(1, 2, 2, 2)
    quantiser(z_e)
    restarted = quantiser.codebook.detach()[2].clone()
    assert min(np.linalg.norm(vectors_of(z_e) - restarted.numpy(), axis=1)) < 0.1  # on one of the batch's vectors
    assert torch.equal(quantiser.running_sum[2], restarted)
    np.testing.assert_allclose(quantiser.running_count.numpy(), [2.0, 2.0, 1.0, DEAD_BELOW], rtol=1e-5)
    torch.testing.assert_close(quantiser.codebook.detach()[3], codebook[3])
    if update == "gradient":
        assert torch.equal(quantiser.codebook.detach()[:2], codebook[:2])
    quantiser.restart_dead = False
    elsewhere = codebook[3].reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
    quantiser(elsewhere)  # a step that does not use the restarted code: old averages must not pull it back
    torch.testing.assert_close(quantiser.codebook.detach()[2], restarted)


def test_a_used_code_of_many_is_not_dead_and_an_unused_one_stays_where_it_is() -> None:
    """Counts of a step after years of use: 0.06 a step is alive, and of 0 there is no mean to move to."""
    torch.manual_seed(0)
    codebook = torch.tensor([[0.0, 0.0], [90.0, 90.0], [-90.0, 90.0]])
    quantiser = quantiser_of(codebook, codebook_update="running_average", codebook_decay=0.5).train()
    quantiser.running_count.copy_(torch.tensor([1.0, 0.12, 0.0]))
    quantiser.running_sum.copy_(codebook * torch.tensor([[1.0], [0.12], [1e-7]]))
    quantiser(torch.zeros(1, 2, 1, 1))
    torch.testing.assert_close(quantiser.codebook.detach(), codebook)
    quantiser.restart_dead = True
    quantiser.running_count[1] = 0.12
    quantiser.running_sum[1] = 0.12 * codebook[1]
    quantiser(torch.zeros(1, 2, 1, 1))
    torch.testing.assert_close(quantiser.codebook.detach()[:2], codebook[:2])
    assert quantiser.codebook.detach()[2].abs().max() < 1


def test_drawn_vectors_are_moved_by_a_thousandth_of_their_spread(codebook: Tensor) -> None:
    vectors = torch.tensor([[-100.0] * 6, [100.0] * 6])
    drawn = quantiser_of(codebook)._draw(vectors.T.reshape(1, 6, 2, 1), 2000)
    gaps = (drawn[:, None] - vectors).abs().amin(1)
    assert gaps.square().mean().sqrt().item() == pytest.approx(1e-3 * vectors.std().item(), rel=0.05)
    assert ((drawn > 0).float().mean(0) - 0.5).abs().max() < 1e-6  # without replacement as long as they last


def test_no_more_is_drawn_than_is_needed(codebook: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    made, randperm = [], torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda n: (made.append(n), randperm(n))[1])
    quantiser_of(codebook)._draw(torch.randn(1, 6, 2, 2), 9)
    assert made == [4, 4, 4]


def test_codes_come_back_to_life_only_where_asked(z_e: Tensor, codebook: Tensor) -> None:
    quantiser = quantiser_of(codebook).train()
    quantiser.running_count.zero_()
    quantiser(z_e)
    assert torch.equal(quantiser.codebook.detach(), codebook)


@pytest.mark.parametrize("codebook_size", [7, 40])  # fewer codes than vectors, and more
def test_first_training_batch_becomes_the_codebook(z_e: Tensor, codebook_size: int) -> None:
    torch.manual_seed(0)
    quantiser = Quantiser(settings(codebook_size, 6, codebook_init_from_data=True))
    before = quantiser.codebook.detach().clone()
    quantiser.eval()(z_e)
    assert torch.equal(quantiser.codebook.detach(), before)
    quantiser.train()(z_e)
    drawn = quantiser.codebook.detach().clone()
    distance = np.linalg.norm(drawn.numpy()[:, None] - vectors_of(z_e)[None], axis=2)  # K Bhw
    assert distance.min(1).max() < 0.02  # vectors of the batch, hardly moved
    assert len(set(distance.argmin(1).tolist())) == min(codebook_size, 30)  # none twice as long as they last
    assert len(drawn.unique(dim=0)) == codebook_size
    assert torch.equal(quantiser.running_sum, drawn)
    quantiser(z_e + 5)
    assert torch.equal(quantiser.codebook.detach(), drawn)  # once only


def test_whether_it_is_initialised_is_asked_once_and_again_after_loading(z_e: Tensor) -> None:
    """Asking makes the host wait for the device, so that no step but the first may."""
    asked = 0

    class Counting(torch.Tensor):
        def __bool__(self) -> bool:
            nonlocal asked
            asked += 1
            return super().__bool__()

    quantiser = Quantiser(settings(9, 6, codebook_init_from_data=True)).train()
    untouched = {key: value.clone() for key, value in quantiser.state_dict().items()}
    quantiser._buffers["is_initialised"] = quantiser.is_initialised.as_subclass(Counting)
    for _ in range(3):
        quantiser(z_e)
    assert asked == 1
    first = quantiser.codebook.detach().clone()
    quantiser.load_state_dict(untouched)
    quantiser(z_e)
    assert asked == 2
    assert not torch.equal(quantiser.codebook.detach(), first)  # drawn anew, by other random numbers


def test_state_survives_a_state_dict(z_e: Tensor) -> None:
    torch.manual_seed(0)
    config = settings(9, 6, codebook_update="running_average", codebook_init_from_data=True)
    first = Quantiser(config).train()
    first(z_e)
    second = Quantiser(config).train()
    second.load_state_dict(first.state_dict())
    assert bool(second.is_initialised)
    following = torch.randn(3, 6, 2, 5, generator=torch.Generator().manual_seed(9))
    first(following)
    second(following)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_no_code_and_no_statistic(dtype: torch.dtype) -> None:
    """`vectors @ codebook.T` runs in bfloat16 under autocast whatever its arguments are."""
    z = torch.randn(16, 64, 8, 8, generator=torch.Generator().manual_seed(2)).to(dtype)
    codebook = torch.randn(128, 64, generator=torch.Generator().manual_seed(3))
    inside, outside = (quantiser_of(codebook, codebook_update="running_average").train() for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z_q, codes = inside(z)
    expected_q, expected = outside(z)
    assert torch.equal(codes, expected)
    assert torch.equal(z_q, expected_q)
    for key, value in outside.state_dict().items():
        assert torch.equal(inside.state_dict()[key], value), key


def test_usage_and_perplexity_by_hand() -> None:
    used, perplexity = codebook_usage(torch.tensor([[[0, 0], [0, 1]]]), codebook_size=8)
    assert used == 0.25
    assert perplexity == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))


@pytest.mark.parametrize(
    ("perplexity", "codebook_size", "warns"),
    [(7.9, 128, True), (8.0, 128, False), (1.9, 16, True), (2.0, 16, False), (63.9, 1024, True), (64.0, 1024, False)],
)
def test_a_collapsed_codebook_is_told(perplexity: float, codebook_size: int, warns: bool) -> None:
    warning = collapse_warning(perplexity, codebook_size)
    assert bool(warning) == warns
    if warns:
        assert f"{codebook_size} codes, a perplexity of {perplexity}" in warning


def test_shares_of_codes_by_hand() -> None:
    shares = code_shares(torch.tensor([[[0, 3], [3, 1]], [[3, 3], [0, 1]]]), codebook_size=5)
    assert shares.tolist() == [0.25, 0.25, 0.0, 0.5, 0.0]


def test_perplexity_runs_from_one_to_the_codebook_size() -> None:
    assert codebook_usage(torch.full((2, 3, 3), 5), codebook_size=8) == (0.125, 1.0)
    used, perplexity = codebook_usage(torch.arange(8).repeat(3), codebook_size=8)
    assert used == 1.0
    assert perplexity == pytest.approx(8.0)
