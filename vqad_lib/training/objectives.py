"""What trains each network: eq. 7 a VQ-VAE, eq. 13-16 a VQ-GAN (section 3.1), eq. 19 a prior."""

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor, nn

from vqad_lib.config import AutoencoderConfig, GanConfig, Profile
from vqad_lib.distributed.parallel import bare, current_shard, mean_over_processes, parallel
from vqad_lib.distributed.process import first_process_first
from vqad_lib.losses.adversarial import adaptive_weight, discriminator_loss, generator_loss
from vqad_lib.losses.vq import codebook_loss, commitment_loss, reconstruction_loss, vq_loss
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.discriminator import PatchDiscriminator
from vqad_lib.models.prior import code_nll
from vqad_lib.models.quantiser import code_shares
from vqad_lib.training.loop import Losses, Objective


def vq_terms(model: nn.Module, images: Tensor, config: AutoencoderConfig) -> tuple[Tensor, Losses]:
    """Forward pass and the terms of eq. 7.

    Args:
        model: a `VQAutoencoder`, possibly wrapped.
        images: (B, 3, H, W) float in [-1, 1].

    Returns:
        The reconstruction (B, 3, H, W), and () losses "loss" (eq. 7), "reconstruction" (eq. 6), "codebook" (eq. 4,
        0 where running averages move the codes) and "commitment" (eq. 5); "code_share" (K,), see `Objective`.
    """
    reconstruction, z_e, z_q, codes = model(images)
    reduction = {"reduction": config.loss_reduction}
    l_r = reconstruction_loss(images, reconstruction, kind=config.reconstruction, **reduction)
    l_vq = codebook_loss(z_e, z_q, **reduction) if config.codebook_update == "gradient" else torch.zeros_like(l_r)
    l_c = commitment_loss(z_e, z_q, **reduction)
    total = vq_loss(l_vq, l_r, l_c, beta=config.beta, beta_scales=config.beta_scales)
    terms = {"loss": total, "reconstruction": l_r, "codebook": l_vq, "commitment": l_c}
    return reconstruction, terms | {"code_share": code_shares(codes, codebook_size=config.codebook_size)}


def vqvae_objectives(model: VQAutoencoder, config: AutoencoderConfig) -> list[Objective]:
    """Eq. 7, alone."""
    network = parallel(model)
    return [Objective("vqvae", network, lambda images, _epoch: vq_terms(network, images, config)[1])]


def vqgan_objectives(model: VQAutoencoder, profile: Profile) -> list[Objective]:
    """Eq. 13 to 16, with a discriminator and a perceptual network on the model's device.

    Raises:
        VqadError: the perceptual network's weights are not to be had, see `PerceptualLoss`.
    """
    from vqad_lib.losses.perceptual import PerceptualLoss  # lpips and torchvision take seconds to import

    gan, perceptual = profile.gan, None
    device = model.quantiser.codebook.device
    if gan.perceptual_weights != "none":
        with first_process_first():  # one download for all
            perceptual = PerceptualLoss(network=gan.perceptual_network, weights=gan.perceptual_weights).to(device)
    discriminator = PatchDiscriminator(channels=gan.discriminator_channels, layers=gan.discriminator_layers)
    discriminator = discriminator.to(device, memory_format=torch.channels_last)
    return GanTraining(model, discriminator, perceptual, autoencoder=profile.autoencoder, gan=gan).objectives()


def prior_objectives(name: str, prior: nn.Module) -> list[Objective]:
    """Eq. 19, alone."""
    network = parallel(prior)
    return [Objective(name, network, lambda codes, _epoch: {"loss": negative_log_likelihood(network, codes)})]


def negative_log_likelihood(prior: nn.Module, codes: Tensor) -> Tensor:
    """L_AR = E[-log p(s)], per code (eq. 19).

    The paper's sum over the h w positions is divided by h w, which only scales it; early stopping then reads nats per
    code.

    Args:
        prior: a `Prior`, possibly wrapped.
        codes: (B, h, w) int64.

    Returns:
        () float, nats per code.
    """
    return code_nll(prior(codes), codes).mean()


@dataclass(eq=False)
class GanTraining:
    """Eq. 15 for the autoencoder and eq. 13 for the discriminator, on the same batch and the same reconstruction.

    With several processes each of the two is wrapped by itself. The autoencoder's step asks the bare discriminator,
    with its parameters frozen: no gradient of theirs is wanted there, nor exchanged.
    """

    model: nn.Module
    discriminator: PatchDiscriminator
    perceptual: nn.Module | None
    _: KW_ONLY
    autoencoder: AutoencoderConfig
    gan: GanConfig

    def __post_init__(self) -> None:
        self.last_weight = self.model.decoder.last_weight
        self.model, self.judge = parallel(self.model), parallel(self.discriminator)

    def objectives(self) -> list[Objective]:
        """The autoencoder first, then the discriminator."""
        factor = self.gan.discriminator_learning_rate_factor
        judge = Objective("discriminator", self.judge, self.discriminator_loss, factor)
        return [Objective("vqgan", self.model, self.autoencoder_loss), judge]

    def autoencoder_loss(self, images: Tensor, epoch: int) -> Losses:
        """L = L_r + L_p + L_vq + beta L_c + lambda L_GAN (eq. 15); monitored without the last term, which is a game."""
        reconstruction, terms = vq_terms(self.model, images, self.autoencoder)
        self._reconstruction = reconstruction.detach()
        l_p = torch.zeros_like(terms["loss"])
        if self.perceptual is not None:
            l_p = self.gan.perceptual_weight * self.perceptual(*self._seen(images, reconstruction))
            if reconstruction.requires_grad:  # eq. 16 and eq. 15 both want the gradient, and LPIPS is expensive
                l_p = differentiated_once(l_p, reconstruction)
        monitored = terms["loss"] + l_p
        terms |= {"loss": monitored, "monitored": monitored, "perceptual": l_p}
        if self.model.training and epoch >= self.gan.discriminator_start_epoch:
            self.discriminator.requires_grad_(False)
            l_gan = generator_loss(self.discriminator(reconstruction), kind=self.gan.adversarial)
            # as l_p; of all processes' losses, for the discriminator normalises over the whole batch
            part = current_shard().weight
            shared = differentiated_once(part * l_gan, reconstruction)
            self.discriminator.requires_grad_(True)
            weight = adaptive_weight(
                part * (terms["reconstruction"] + l_p),
                shared,
                self.last_weight,
                delta=self.gan.adaptive_delta,
                scale=self.gan.adaptive_scale,
                maximum=self.gan.adaptive_max,
                of_all=mean_over_processes,
            )
            l_gan = shared / (part or 1.0)
            terms |= {"loss": monitored + weight * l_gan, "adversarial": l_gan, "adaptive_weight": weight}
        return terms

    def _seen(self, *images: Tensor) -> list[Tensor]:
        """What the perceptual network sees of images (B, 3, H, W): all, or in training a square, at random."""
        size = self.gan.perceptual_crop_px
        if not size or not bare(self.model).training:
            return list(images)
        corner = torch.stack([torch.randint(side - size + 1, ()) for side in images[0].shape[-2:]])
        top, left = bare(self.model).quantiser.batch.agreed(corner).tolist()
        return [image[..., top : top + size, left : left + size] for image in images]

    def discriminator_loss(self, images: Tensor, epoch: int) -> Losses:
        """-L_GAN (eq. 13) on the reconstruction that the autoencoder just made; nothing before the start epoch."""
        if epoch < self.gan.discriminator_start_epoch:
            return {"loss": sum(p.sum() for p in self.discriminator.parameters()) * 0.0}
        real, fake = self.judge(images), self.judge(self._reconstruction)
        return {"loss": discriminator_loss(real, fake, kind=self.gan.adversarial)}


def differentiated_once(loss: Tensor, at: Tensor) -> Tensor:
    """The same loss, its gradient at `at` taken now and remembered, so that several backward passes share it.

    Args:
        loss: () float that depends on what is to be trained through `at` alone; its graph is freed.
        at: of any shape, with a graph.

    Returns:
        () float.
    """
    (gradient,) = torch.autograd.grad(loss, at)
    return loss.detach() + (gradient * (at - at.detach())).sum()  # plus 0


AUTOENCODER_OBJECTIVES = {
    "vqvae": lambda model, profile: vqvae_objectives(model, profile.autoencoder),
    "vqgan": vqgan_objectives,
}
"""An entry of `models.registry.AUTOENCODERS` -> (untrained model, profile) -> what trains it."""
