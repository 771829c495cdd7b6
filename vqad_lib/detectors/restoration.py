"""Latent restoration: replace unlikely codes by draws from the prior (sections 2.4 and 3.5).

One function, `restore`, for both priors. Pixel-wise detection looks again after every replacement; light pixel-wise
detection looks once. The first is written three times: the plain algorithm of the paper, one pass of the prior per
position, which is the reference; a jump ahead, one pass per replaced code, right for every causal prior; and the fast
one (`walk`), which evaluates each distinct prefix of codes once. With the same noise all three give the same codes.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vqad_lib.detectors.walk import draw_codes, walk
from vqad_lib.models.prior import Prior, code_nll

Recompute = Literal["after_every_replacement", "once"]
Algorithm = Literal["fast", "jump_ahead", "plain"]


@torch.no_grad()
def restore(
    prior: Prior,
    codes: Tensor,
    *,
    threshold_nats: float | Tensor,
    noise: Tensor,
    recompute: Recompute,
    algorithm: Algorithm = "fast",
    max_replacements: int | None = None,
    logits: Tensor | None = None,
) -> Tensor:
    """Replace every code whose surprise exceeds the threshold by a draw from the prior, N times for each grid.

    Args:
        prior: in evaluation mode.
        codes: (B, h, w) int64, one grid per image.
        threshold_nats: lambda_P or lambda_LP; a code is replaced only strictly above it. A number, or (N,) float64:
            one for each restoration, so that a sweep over thresholds is one call.
        noise: (B, N, h, w) float64 in [0, 1), see `addressed_uniforms`; the draw is the inverse of the cumulated
            probabilities at it.
        recompute: "after_every_replacement" (pixel-wise) or "once" (light pixel-wise).
        algorithm: how to compute the former; no influence on the result, nor on "once".
        max_replacements: stop replacing in a row after so many, in raster order; None for all.
        logits: (B, h, w, K), what the prior says of `codes`, where that is known already; "once" then needs no pass.

    Returns:
        (B, N, h, w) int64, the restored codes.

    Raises:
        ValueError: the shapes of noise, thresholds and codes do not fit together.
    """
    if noise.ndim != 4 or (noise.shape[0], *noise.shape[2:]) != tuple(codes.shape):
        raise ValueError(f"noise {tuple(noise.shape)} must be (B, N, h, w) for codes {tuple(codes.shape)}")
    B, N, h, w = noise.shape
    thresholds = torch.as_tensor(threshold_nats, dtype=torch.float64, device=codes.device)
    if thresholds.ndim and tuple(thresholds.shape) != (N,):
        raise ValueError(f"threshold_nats {tuple(thresholds.shape)} must be a number or have one entry per restoration")
    if not B or not N:
        return codes.new_empty((B, N, h, w))
    thresholds = thresholds.expand(N)
    limit = h * w if max_replacements is None else max_replacements
    if recompute == "once":
        return _light(prior.logits(codes) if logits is None else logits, codes, thresholds, noise, limit)
    if algorithm == "fast":
        return walk(prior, codes, thresholds, noise, limit)
    rows = codes[:, None].expand(B, N, h, w).flatten(0, 1)
    restored = {"jump_ahead": _jump_ahead, "plain": _plain}[algorithm](
        prior, rows, thresholds.repeat(B), noise.flatten(0, 1), limit
    )
    return restored.unflatten(0, (B, N))


def _light(logits: Tensor, codes: Tensor, thresholds: Tensor, noise: Tensor, limit: int) -> Tensor:
    exceeds = code_nll(logits, codes)[:, None] > thresholds[:, None, None]  # B N h w
    exceeds &= exceeds.flatten(2).cumsum(2).reshape(exceeds.shape) <= limit
    drawn = draw_codes(logits, noise.movedim(1, -1)).movedim(-1, 1)
    return torch.where(exceeds, drawn, codes[:, None])


def _plain(prior: Prior, codes: Tensor, thresholds: Tensor, noise: Tensor, limit: int) -> Tensor:
    """The paper's algorithm, to the letter: a full pass of the prior before each position is looked at.

    (R, h, w) codes and noise, (R,) thresholds, one row per restoration.
    """
    codes = codes.clone()
    replaced = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
    for row in range(codes.shape[1]):
        for column in range(codes.shape[2]):
            logits, current = prior.logits(codes)[:, row, column], codes[:, row, column]  # R K, R
            exceeds = F.cross_entropy(logits, current, reduction="none") > thresholds
            exceeds &= replaced < limit
            drawn = draw_codes(logits, noise[:, row, column, None])[:, 0]
            codes[:, row, column] = torch.where(exceeds, drawn, current)
            replaced += exceeds
    return codes


def _jump_ahead(prior: Prior, codes: Tensor, thresholds: Tensor, noise: Tensor, limit: int) -> Tensor:
    """Replace the first code over the threshold, look again from there; rows without one leave the batch.

    Replacing code i changes no logits at positions <= i, so what was found likely before i stays likely.
    """
    shape, n = codes.shape, codes[0].numel()
    codes, noise = codes.reshape(-1, n).clone(), noise.reshape(-1, n)
    position = torch.arange(n, device=codes.device)
    open_from = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
    rows = torch.arange(len(codes), device=codes.device)
    for _ in range(limit):
        logits = prior.logits(codes[rows].reshape(-1, *shape[1:])).flatten(1, 2)  # rows hw K
        nll = F.cross_entropy(logits.movedim(-1, 1), codes[rows], reduction="none")
        exceeds = (nll > thresholds[rows, None]) & (position >= open_from[rows, None])
        found = exceeds.any(1)
        if not found.any():
            break
        rows, first = rows[found], exceeds[found].int().argmax(1)  # argmax gives the first of equals
        codes[rows, first] = draw_codes(logits[found, first], noise[rows, first, None])[:, 0]
        open_from[rows] = first + 1
    return codes.reshape(shape)
