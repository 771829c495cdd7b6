"""Codebook, commitment and reconstruction losses: values by NumPy, and which side gets the gradient (eq. 4-7)."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vqad_lib.losses.vq import codebook_loss, commitment_loss, reconstruction_loss, vq_loss

REDUCTIONS = ["sum", "mean"]


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Two (3, 2, 4, 5) tensors that ask for gradients."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 2, 4, 5, generator=generator) for _ in range(2))
    return first.requires_grad_(), second.requires_grad_()


def by_numpy(elements: np.ndarray, reduction: str) -> float:
    """Sum over the elements of an image and mean over the N images, or mean over everything."""
    per_image = elements.reshape(len(elements), -1).sum(1).mean()
    return per_image if reduction == "sum" else per_image / elements[0].size


def gradient_by_numpy(difference: np.ndarray, reduction: str) -> np.ndarray:
    return 2 * difference / (len(difference) if reduction == "sum" else difference.size)


def test_eq_04_codebook_loss_by_hand() -> None:
    # two images of one 2-vector each: (1 + 4) and (0 + 9), averaged over the two images
    z_e = torch.tensor([[1.0, 2.0], [0.0, 3.0]]).reshape(2, 2, 1, 1)
    z_q = torch.zeros_like(z_e)
    assert codebook_loss(z_e, z_q).item() == 7.0
    assert codebook_loss(z_e, z_q, reduction="mean").item() == 3.5


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_eq_04_codebook_loss_moves_the_codes_only(pair: tuple[Tensor, Tensor], reduction: str) -> None:
    z_e, z_q = pair
    loss = codebook_loss(z_e, z_q, reduction=reduction)
    loss.backward()
    difference = (z_q - z_e).detach().numpy()
    assert loss.item() == pytest.approx(by_numpy(difference**2, reduction), rel=1e-6)
    assert z_e.grad is None
    np.testing.assert_allclose(z_q.grad.numpy(), gradient_by_numpy(difference, reduction), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_eq_05_commitment_loss_moves_the_encoder_only(pair: tuple[Tensor, Tensor], reduction: str) -> None:
    z_e, z_q = pair
    loss = commitment_loss(z_e, z_q, reduction=reduction)
    loss.backward()
    difference = (z_e - z_q).detach().numpy()
    assert loss.item() == pytest.approx(by_numpy(difference**2, reduction), rel=1e-6)
    assert z_q.grad is None
    np.testing.assert_allclose(z_e.grad.numpy(), gradient_by_numpy(difference, reduction), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", ["squared", "absolute"])
def test_eq_06_reconstruction_loss(pair: tuple[Tensor, Tensor], kind: str, reduction: str) -> None:
    images, reconstruction = pair
    loss = reconstruction_loss(images, reconstruction, kind=kind, reduction=reduction)
    loss.backward()
    difference = (reconstruction - images).detach().numpy()
    elements = difference**2 if kind == "squared" else np.abs(difference)
    slope = gradient_by_numpy(difference if kind == "squared" else np.sign(difference) / 2, reduction)
    assert loss.item() == pytest.approx(by_numpy(elements, reduction), rel=1e-6)
    np.testing.assert_allclose(reconstruction.grad.numpy(), slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("beta_scales", "expected"), [("commitment", 2 + 3 + 1.5 * 5), ("codebook", 1.5 * 2 + 3 + 5)])
def test_eq_07_beta_scales_the_term_it_names(beta_scales: str, expected: float) -> None:
    codebook, reconstruction, commitment = (torch.tensor(value) for value in (2.0, 3.0, 5.0))
    total = vq_loss(codebook, reconstruction, commitment, beta=1.5, beta_scales=beta_scales)
    assert total.item() == expected


def test_eq_07_scales_the_commitment_unless_told_otherwise() -> None:
    assert vq_loss(torch.tensor(2.0), torch.tensor(3.0), torch.tensor(5.0), beta=2.0).item() == 15.0
