"""The adversarial game and its adaptive weight: by NumPy and by hand (eq. 13 and 16)."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vqad_lib.losses.adversarial import adaptive_weight, discriminator_loss, generator_loss


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    """Logits of real and of rebuilt patches, (2, 1, 3, 4) each; on both sides of the hinge's corners."""
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(2, 1, 3, 4, generator=generator), 2 * torch.randn(2, 1, 3, 4, generator=generator)


def sigmoid(logits: Tensor) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.double().numpy()))


def test_eq_13_discriminator_makes_the_game_large(logits: tuple[Tensor, Tensor]) -> None:
    real, fake = logits
    game = np.mean(np.log(sigmoid(real))) + np.mean(np.log(1 - sigmoid(fake)))
    assert discriminator_loss(real, fake).item() == pytest.approx(-game, rel=1e-6)


def test_eq_13_generator_makes_the_game_small(logits: tuple[Tensor, Tensor]) -> None:
    fake = logits[1]
    assert generator_loss(fake).item() == pytest.approx(np.mean(np.log(1 - sigmoid(fake))), rel=1e-6)


def test_eq_13_at_even_odds_is_two_logarithms_of_two() -> None:
    zeros = torch.zeros(1, 1, 2, 2)
    assert discriminator_loss(zeros, zeros).item() == pytest.approx(2 * np.log(2), rel=1e-6)
    assert generator_loss(zeros).item() == pytest.approx(-np.log(2), rel=1e-6)


def test_eq_13_stays_finite_where_the_probability_rounds_to_one() -> None:
    certain = torch.full((1, 1, 1, 1), 200.0)
    assert discriminator_loss(certain, certain).item() == 200.0
    assert generator_loss(certain).item() == -200.0


def test_eq_13_generator_gradient_raises_the_judgement() -> None:
    fake = torch.zeros(1, requires_grad=True)
    generator_loss(fake).backward()
    assert fake.grad.item() == -0.5  # -sigmoid(0): descending makes the logit of "real" larger


def test_hinge_option_by_numpy(logits: tuple[Tensor, Tensor]) -> None:
    real, fake = logits
    expected = 0.5 * (np.maximum(1 - real.numpy(), 0).mean() + np.maximum(1 + fake.numpy(), 0).mean())
    assert discriminator_loss(real, fake, kind="hinge").item() == pytest.approx(expected, rel=1e-6)
    assert generator_loss(fake, kind="hinge").item() == pytest.approx(-fake.numpy().mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"delta": 0.0}, 0.5),  # |(3, 4)| / |(6, 8)|
        ({"delta": 10.0}, 0.25),
        ({"delta": 0.0, "scale": 0.8}, 0.4),
        ({"delta": 0.0, "maximum": 0.3}, 0.3),
        (
            {"delta": 0.0, "scale": 0.8, "maximum": 0.3},
            0.24,
        ),  # the limit comes before the factor: published at most 8,000
    ],
)
def test_eq_16_adaptive_weight_by_hand(options: dict[str, float], expected: float) -> None:
    weight = torch.tensor([1.0, -1.0], requires_grad=True)
    reconstruction = (weight * torch.tensor([3.0, 4.0])).sum()
    adversarial = (weight * torch.tensor([6.0, 8.0])).sum()
    assert adaptive_weight(reconstruction, adversarial, weight, **options).item() == pytest.approx(expected, rel=1e-6)


def test_eq_16_against_manual_gradients_of_a_linear_layer() -> None:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(6, 3, generator=generator), torch.randn(6, 2, generator=generator)
    weight = torch.randn(2, 3, generator=generator).requires_grad_()
    output = x @ weight.T
    computed = adaptive_weight((output - y).square().mean(), generator_loss(output), weight)
    out = output.detach().double().numpy()
    # d/dW of the mean of (xW - y)^2, and of the mean of log(1 - sigmoid(xW))
    gradient_rec = (2 * (out - y.numpy()) / out.size).T @ x.numpy()
    gradient_gan = (-1 / (1 + np.exp(-out)) / out.size).T @ x.numpy()
    expected = np.linalg.norm(gradient_rec) / (np.linalg.norm(gradient_gan) + 1e-6)
    assert computed.item() == pytest.approx(expected, rel=1e-5)


def test_eq_16_delta_keeps_a_silent_discriminator_finite() -> None:
    weight = torch.ones(1, requires_grad=True)
    computed = adaptive_weight(3 * weight.sum(), 0 * weight.sum(), weight)
    assert computed.item() == pytest.approx(3e6, rel=1e-6)  # the paper's delta is 1e-6


def test_eq_16_weight_is_detached_and_leaves_no_gradient() -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    rec, gan = weight.square().sum(), weight.pow(3).sum()
    computed = adaptive_weight(rec, gan, weight)
    assert not computed.requires_grad
    assert weight.grad is None
    (rec + computed * gan).backward()  # the graph is still there
    expected = 2 * weight.detach() + computed * 3 * weight.detach().square()
    torch.testing.assert_close(weight.grad, expected)
