"""What the networks are trained with: eq. 7, eq. 15 by its parts, eq. 13's other side, eq. 19."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vqad_lib.config import AutoencoderConfig, GanConfig
from vqad_lib.losses.adversarial import adaptive_weight, generator_loss
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.discriminator import PatchDiscriminator
from vqad_lib.models.prior import Prior
from vqad_lib.training.objectives import (
    GanTraining,
    differentiated_once,
    negative_log_likelihood,
    prior_objectives,
    vq_terms,
    vqvae_objectives,
)


class Roughness(nn.Module):
    """Stands in for LPIPS, which needs larger images: mean absolute difference of horizontal steps."""

    def forward(self, images: Tensor, reconstruction: Tensor) -> Tensor:
        return (images - reconstruction).diff(dim=-1).abs().mean()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def model(autoencoder_config: AutoencoderConfig) -> VQAutoencoder:
    torch.manual_seed(1)
    return VQAutoencoder(autoencoder_config)


@pytest.fixture
def discriminator() -> PatchDiscriminator:
    torch.manual_seed(2)
    return PatchDiscriminator(channels=4, layers=1)


def parts_by_numpy(model: VQAutoencoder, images: Tensor, *, reduction: str = "mean") -> dict[str, float]:
    with torch.no_grad():
        reconstruction, z_e, z_q, _ = model(images)
    size = {"mean": lambda x: x.size, "sum": len}[reduction]
    pixels, latents = (images - reconstruction).double().numpy(), (z_e - z_q).double().numpy()
    return {"L_r": (pixels**2).sum() / size(pixels), "L_q": (latents**2).sum() / size(latents)}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("beta_scales", ["commitment", "codebook"])
def test_eq_07_terms_of_the_vqvae(
    model: VQAutoencoder, images: Tensor, autoencoder_config: AutoencoderConfig, beta_scales: str, reduction: str
) -> None:
    config = dataclasses.replace(autoencoder_config, beta=1.7, beta_scales=beta_scales, loss_reduction=reduction)
    parts = parts_by_numpy(model, images, reduction=reduction)
    reconstruction, terms = vq_terms(model, images, config)
    assert torch.equal(reconstruction, model(images)[0])
    assert terms["reconstruction"].item() == pytest.approx(parts["L_r"], rel=1e-5)
    assert terms["codebook"].item() == pytest.approx(parts["L_q"], rel=1e-5)
    assert terms["commitment"].item() == pytest.approx(parts["L_q"], rel=1e-5)
    assert terms["loss"].item() == pytest.approx(parts["L_r"] + (1 + 1.7) * parts["L_q"], rel=1e-5)
    codebook_gradient = torch.autograd.grad(terms["loss"], model.quantiser.codebook, retain_graph=True)[0]
    plain = torch.autograd.grad(terms["codebook"], model.quantiser.codebook)[0]
    scale = 1.7 if beta_scales == "codebook" else 1.0  # the commitment has no gradient in the codebook
    torch.testing.assert_close(codebook_gradient, scale * plain)


def test_eq_04_is_left_out_where_running_averages_move_the_codes(
    images: Tensor, autoencoder_config: AutoencoderConfig
) -> None:
    config = dataclasses.replace(autoencoder_config, codebook_update="running_average")
    torch.manual_seed(1)
    model = VQAutoencoder(config).eval()
    terms = vq_terms(model, images, config)[1]
    assert terms["codebook"].item() == 0
    expected = terms["reconstruction"] + 1.5 * terms["commitment"]
    torch.testing.assert_close(terms["loss"], expected)
    assert terms["commitment"].item() > 0


def test_vqvae_has_one_objective(model: VQAutoencoder, images: Tensor, autoencoder_config: AutoencoderConfig) -> None:
    (objective,) = vqvae_objectives(model, autoencoder_config)
    assert objective.name == "vqvae"
    assert objective.network is model
    assert objective.learning_rate_factor == 1.0
    torch.testing.assert_close(
        objective.loss(images, 1)["loss"], vq_terms(model, images, autoencoder_config)[1]["loss"]
    )


@pytest.mark.parametrize("adversarial", ["log", "hinge"])
def test_eq_15_total_by_its_parts(
    model: VQAutoencoder,
    discriminator: PatchDiscriminator,
    images: Tensor,
    autoencoder_config: AutoencoderConfig,
    gan_config: GanConfig,
    adversarial: str,
) -> None:
    gan = dataclasses.replace(gan_config, adversarial=adversarial, adaptive_scale=0.8, perceptual_weight=0.3)
    parts = parts_by_numpy(model, images)
    twin, judge = copy.deepcopy(model), copy.deepcopy(discriminator)
    reconstruction = twin(images)[0]
    l_p = 0.3 * Roughness()(images, reconstruction)
    l_rec = (images - reconstruction).square().mean() + l_p
    logits = judge(reconstruction)
    l_gan = (1 - logits.sigmoid()).log().mean() if adversarial == "log" else -logits.mean()
    gradient_rec, gradient_gan = (
        torch.autograd.grad(loss, twin.decoder.last_weight, retain_graph=True)[0] for loss in (l_rec, l_gan)
    )
    weight = 0.8 * (gradient_rec.norm() / (gradient_gan.norm() + 1e-6)).item()
    assert weight > 1e-3

    training = GanTraining(model, discriminator, Roughness(), autoencoder=autoencoder_config, gan=gan)
    terms = training.autoencoder_loss(images, 2)
    assert terms["perceptual"].item() == pytest.approx(l_p.item(), rel=1e-4)
    assert terms["adversarial"].item() == pytest.approx(l_gan.item(), rel=1e-4)
    assert terms["adaptive_weight"].item() == pytest.approx(weight, rel=1e-4)
    assert not terms["adaptive_weight"].requires_grad
    without = parts["L_r"] + l_p.item() + (1 + 1.5) * parts["L_q"]
    assert terms["monitored"].item() == pytest.approx(without, rel=1e-4)
    assert abs(weight * l_gan.item()) > 1e-3
    assert terms["loss"].item() == pytest.approx(without + weight * l_gan.item(), rel=1e-4)


def test_eq_15_weight_counts_the_reconstruction_and_the_perceptual_loss_alone(
    model: VQAutoencoder,
    discriminator: PatchDiscriminator,
    images: Tensor,
    autoencoder_config: AutoencoderConfig,
    gan_config: GanConfig,
) -> None:
    weights = [
        GanTraining(
            model, discriminator, Roughness(), autoencoder=dataclasses.replace(autoencoder_config, beta=beta), gan=gan
        ).autoencoder_loss(images, 2)["adaptive_weight"]
        for beta, gan in [
            (1.0, gan_config),
            (100.0, gan_config),
            (1.0, dataclasses.replace(gan_config, perceptual_weight=50.0)),
            (1.0, dataclasses.replace(gan_config, adaptive_max=1e-4)),
        ]
    ]
    torch.testing.assert_close(weights[0], weights[1])
    assert weights[2] > 2 * weights[0]
    assert weights[3].item() == pytest.approx(1e-4)


@pytest.mark.parametrize(("epoch", "training_mode", "plays"), [(1, True, False), (2, True, True), (2, False, False)])
def test_eq_15_the_game_starts_at_its_epoch_and_not_in_validation(
    model: VQAutoencoder,
    discriminator: PatchDiscriminator,
    images: Tensor,
    autoencoder_config: AutoencoderConfig,
    gan_config: GanConfig,
    epoch: int,
    training_mode: bool,
    plays: bool,
) -> None:
    training = GanTraining(model, discriminator, None, autoencoder=autoencoder_config, gan=gan_config)
    model.train(training_mode)
    terms = training.autoencoder_loss(images, epoch)
    assert ("adversarial" in terms) == plays
    assert torch.equal(terms["loss"], terms["monitored"]) != plays
    assert terms["perceptual"].item() == 0
    torch.testing.assert_close(terms["monitored"], vq_terms(model, images, autoencoder_config)[1]["loss"])


def test_eq_13_discriminator_sees_the_reconstruction_just_made(
    model: VQAutoencoder,
    discriminator: PatchDiscriminator,
    images: Tensor,
    autoencoder_config: AutoencoderConfig,
    gan_config: GanConfig,
) -> None:
    training = GanTraining(model, discriminator, None, autoencoder=autoencoder_config, gan=gan_config)
    training.autoencoder_loss(images, 2)
    with torch.no_grad():
        reconstruction = model(images)[0]
        real, fake = (discriminator(x).double().sigmoid().numpy() for x in (images, reconstruction))
    loss = training.discriminator_loss(images, 2)["loss"]
    assert loss.item() == pytest.approx(-(np.log(real).mean() + np.log(1 - fake).mean()), rel=1e-5)
    loss.backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in discriminator.parameters())


def test_discriminator_stands_still_before_its_epoch(
    model: VQAutoencoder,
    discriminator: PatchDiscriminator,
    images: Tensor,
    autoencoder_config: AutoencoderConfig,
    gan_config: GanConfig,
) -> None:
    training = GanTraining(model, discriminator, None, autoencoder=autoencoder_config, gan=gan_config)
    training.autoencoder_loss(images, 1)
    loss = training.discriminator_loss(images, 1)["loss"]
    loss.backward()
    assert loss.item() == 0
    assert all(torch.count_nonzero(p.grad) == 0 for p in discriminator.parameters())


def test_a_gradient_taken_once_serves_every_backward_pass_with_the_same_bits() -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, requires_grad=True)
    target = torch.randn(5)

    def gradients(once: bool) -> list[Tensor]:
        output = (2 * weight).tanh()
        loss, other = (output - target).square().mean(), output.exp().sum()
        if once:
            value, loss = loss, differentiated_once(loss, output)
            assert torch.equal(loss, value)
        first = torch.autograd.grad(loss, weight, retain_graph=True)[0]
        return [first, torch.autograd.grad(loss + 0.3 * other, weight)[0]]

    for plain, once in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(plain, once)
        assert once.abs().min() > 0


def test_eq_15_step_has_the_gradients_of_the_plain_sum_and_leaves_the_discriminator_alone(
    model: VQAutoencoder,
    discriminator: PatchDiscriminator,
    images: Tensor,
    autoencoder_config: AutoencoderConfig,
    gan_config: GanConfig,
) -> None:
    """Gradients taken once and a discriminator that is frozen are savings, not another algorithm."""
    twin, judge = copy.deepcopy(model), copy.deepcopy(discriminator)
    training = GanTraining(model, discriminator, Roughness(), autoencoder=autoencoder_config, gan=gan_config)
    training.autoencoder_loss(images, 2)["loss"].backward()
    assert all(p.grad is None and p.requires_grad for p in discriminator.parameters())

    reconstruction, terms = vq_terms(twin, images, autoencoder_config)
    l_p = 0.5 * Roughness()(images, reconstruction)
    l_gan = generator_loss(judge(reconstruction))
    weight = adaptive_weight(terms["reconstruction"] + l_p, l_gan, twin.decoder.last_weight, maximum=1e4)
    (terms["loss"] + l_p + weight * l_gan).backward()
    for (name, expected), found in zip(twin.named_parameters(), model.parameters(), strict=True):
        # the weight multiplies a gradient that was taken before, which rounds otherwise
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert all(torch.equal(a, b) for a, b in zip(judge.buffers(), discriminator.buffers(), strict=True))


def test_perceptual_crop_is_the_same_square_of_both_and_the_whole_image_in_validation(
    model: VQAutoencoder,
    discriminator: PatchDiscriminator,
    images: Tensor,
    autoencoder_config: AutoencoderConfig,
    gan_config: GanConfig,
) -> None:
    seen, (H, W) = [], images.shape[-2:]

    class Eye(nn.Module):
        def forward(self, images: Tensor, reconstruction: Tensor) -> Tensor:
            seen.append((images, reconstruction))
            return (images - reconstruction).square().mean()

    gan = dataclasses.replace(gan_config, perceptual_crop_px=5)
    training = GanTraining(model, discriminator, Eye(), autoencoder=autoencoder_config, gan=gan)
    torch.manual_seed(0)
    for _ in range(30):
        training.autoencoder_loss(images, 1)
    corners = set()
    for cut, reconstruction in seen:
        places = [(i, j) for i in range(H - 4) for j in range(W - 4)]
        corners.add(next(p for p in places if torch.equal(images[..., p[0] : p[0] + 5, p[1] : p[1] + 5], cut)))
        assert reconstruction.shape == cut.shape == (len(images), 3, 5, 5)
    assert len(corners) > 15
    top, left = next(p for p in places if torch.equal(images[..., p[0] : p[0] + 5, p[1] : p[1] + 5], seen[-1][0]))
    whole = training._reconstruction[..., top : top + 5, left : left + 5]
    torch.testing.assert_close(seen[-1][1], whole)
    assert {place[0] for place in corners} >= {0, H - 5}, "the borders are seen too"
    model.eval()
    training.autoencoder_loss(images, 1)
    assert torch.equal(seen[-1][0], images)


def test_gan_objectives_take_turns_autoencoder_first(
    model: VQAutoencoder,
    discriminator: PatchDiscriminator,
    autoencoder_config: AutoencoderConfig,
    gan_config: GanConfig,
) -> None:
    training = GanTraining(model, discriminator, None, autoencoder=autoencoder_config, gan=gan_config)
    first, second = training.objectives()
    assert (first.name, second.name) == ("vqgan", "discriminator")
    assert first.network is model
    assert second.network is discriminator
    assert (first.learning_rate_factor, second.learning_rate_factor) == (1.0, 0.5)


class Waits(TorchDispatchMode):
    """Counts what makes a host wait for its device: reading a value, or asking whether it is true."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["vqvae", "vqgan", "pixelsnail", "gpt2"])
def test_no_step_but_the_first_makes_the_host_wait(
    kind: str,
    images: Tensor,
    model: VQAutoencoder,
    discriminator: PatchDiscriminator,
    autoencoder_config: AutoencoderConfig,
    gan_config: GanConfig,
    tiny_priors: dict[str, Prior],
) -> None:
    if kind in tiny_priors:
        batch = torch.randint(7, (3, 4, 5), generator=torch.Generator().manual_seed(3))
        objectives = prior_objectives(kind, copy.deepcopy(tiny_priors[kind]).train().requires_grad_(True))
    elif kind == "vqgan":
        batch = images
        training = GanTraining(model, discriminator, Roughness(), autoencoder=autoencoder_config, gan=gan_config)
        objectives = training.objectives()
    else:
        options = {"codebook_update": "running_average", "codebook_init_from_data": True, "restart_dead_codes": True}
        batch, config = images, dataclasses.replace(autoencoder_config, **options)
        objectives = vqvae_objectives(VQAutoencoder(config), config)
    for objective in objectives:
        objective.loss(batch, 2)["loss"].backward()
    with Waits() as waits:
        for objective in objectives:
            objective.loss(batch, 2)["loss"].backward()
        # transformers looks once in a pass whether a row holds several sequences
        assert waits.count <= (kind == "gpt2")
        before = waits.count
        bool(images[0, 0, 0, 0] > 0)
        assert waits.count == before + 1, "the test would not see it"


def test_eq_19_is_the_mean_nll_of_a_code_by_numpy(tiny_prior: Prior) -> None:
    codes = torch.randint(7, (3, 4, 5), generator=torch.Generator().manual_seed(3))
    logits = tiny_prior.logits(codes).double().numpy()
    log_probability = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    log_p_of_s = np.take_along_axis(log_probability, codes.numpy()[..., None], -1).sum((1, 2, 3))  # of whole grids
    expected = -log_p_of_s.mean() / 20  # nats per code
    assert negative_log_likelihood(tiny_prior, codes).item() == pytest.approx(expected, rel=1e-5)
    (objective,) = prior_objectives("gpt2", tiny_prior)
    assert objective.name == "gpt2"
    assert objective.network is tiny_prior
    assert objective.loss(codes, 1)["loss"].item() == pytest.approx(expected, rel=1e-5)
