"""Losses of the VQ-GAN: the adversarial game and its adaptive weight (eq. 13 and 16).

Eq. 13 is a game: the discriminator makes L_GAN large, the autoencoder makes it small. Both sides are written here as
losses to minimise, from logits, so that no logarithm of a rounded probability is taken: log sigmoid(d) =
-softplus(-d) and log(1 - sigmoid(d)) = -softplus(d).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, *, kind: str = "log") -> Tensor:
    """What the discriminator minimises: -[log D(x) + log(1 - D(x^))] (eq. 13).

    Args:
        real_logits, fake_logits: float of any shape, one logit per patch.
        kind: "log" as eq. 13, or "hinge" as the published code.

    Returns:
        () float, averaged over patches.
    """
    if kind == "log":
        return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
    return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())


def generator_loss(fake_logits: Tensor, *, kind: str = "log") -> Tensor:
    """The term of L_GAN that depends on the autoencoder: log(1 - D(x^)), to be minimised (eq. 13).

    Args:
        fake_logits: float of any shape.
        kind: "log" as eq. 13, or "hinge" (-D) as the published code.

    Returns:
        () float, averaged over patches; <= 0 for "log".
    """
    return -F.softplus(fake_logits).mean() if kind == "log" else -fake_logits.mean()


def adaptive_weight(
    reconstruction: Tensor,
    adversarial: Tensor,
    last_weight: Tensor,
    *,
    delta: float = 1e-6,
    scale: float = 1.0,
    maximum: float = float("inf"),
    of_all: Callable[[Tensor], Tensor] = lambda gradient: gradient,
) -> Tensor:
    """lambda = |grad L_rec| / (|grad L_GAN| + delta), gradients at the decoder's last layer (eq. 16).

    Args:
        reconstruction: () float, L_r + L_p, with its graph.
        adversarial: () float, the generator's side of L_GAN, with its graph.
        last_weight: the weight of the decoder's last layer G_L.
        delta: 1e-6 in the paper; the published code has 1e-4, scale 0.8 and maximum 1e4, so at most 8,000.
        scale: multiplies what `maximum` has limited.
        of_all: turns the gradient of a shard of the batch, as large as the weight, into that of the whole batch.

    Returns:
        () float, >= 0, without a graph.
    """
    gradient_rec, gradient_gan = (
        of_all(torch.autograd.grad(loss, last_weight, retain_graph=True)[0]) for loss in (reconstruction, adversarial)
    )
    weight = gradient_rec.norm() / (gradient_gan.norm() + delta)
    return scale * weight.clamp(0.0, maximum).detach()
