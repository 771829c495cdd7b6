"""Losses of the VQ-VAE: codebook, commitment and reconstruction (eq. 4-7).

The paper prints sums over all elements, averaged over the N images. `reduction="sum"` is that; `reduction="mean"`
divides by the number of elements too, which is what makes the unweighted sum of eq. 15 balanced: the sum over
128x128x3 pixels is some thousand times the perceptual loss, which is an average over positions.
"""

from torch import Tensor


def _reduce(elements: Tensor, reduction: str) -> Tensor:
    return elements.mean() if reduction == "mean" else elements.sum() / len(elements)


def codebook_loss(z_e: Tensor, z_q: Tensor, *, reduction: str = "sum") -> Tensor:
    """Pull the code vectors to the encoder's output (eq. 4); no gradient reaches the encoder.

    Args:
        z_e: (B, D, h, w) float, the encoder's output z.
        z_q: (B, D, h, w) float, its nearest code vectors.
        reduction: "sum" over the elements of an image, as printed, or "mean".

    Returns:
        () float, >= 0.
    """
    return _reduce((z_e.detach() - z_q).square(), reduction)


def commitment_loss(z_e: Tensor, z_q: Tensor, *, reduction: str = "sum") -> Tensor:
    """Pull the encoder's output to its code vectors (eq. 5); no gradient reaches the codebook.

    Arguments and result as `codebook_loss`.
    """
    return _reduce((z_e - z_q.detach()).square(), reduction)


def reconstruction_loss(
    images: Tensor, reconstruction: Tensor, *, kind: str = "squared", reduction: str = "sum"
) -> Tensor:
    """Difference between images and their reconstructions (eq. 6).

    Args:
        images, reconstruction: (B, C, H, W) float.
        kind: "squared" as eq. 6, or "absolute" as the published code.
        reduction: "sum" over the pixels of an image, as printed, or "mean".

    Returns:
        () float, >= 0.
    """
    difference = images - reconstruction
    return _reduce(difference.square() if kind == "squared" else difference.abs(), reduction)


def vq_loss(
    codebook: Tensor, reconstruction: Tensor, commitment: Tensor, *, beta: float, beta_scales: str = "commitment"
) -> Tensor:
    """L = L_vq + L_r + beta L_c (eq. 7).

    Args:
        codebook, reconstruction, commitment: () float, eq. 4, 6 and 5.
        beta: weight, 1.0 to 2.0 in the paper.
        beta_scales: "commitment" as eq. 7, or "codebook" as the published code.

    Returns:
        () float.
    """
    if beta_scales == "commitment":
        return codebook + reconstruction + beta * commitment
    return beta * codebook + reconstruction + commitment
