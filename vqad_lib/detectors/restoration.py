"""Latent restoration: replace unlikely codes by draws from the prior (sections 2.4 and 3.5).

One function, `restore`, for both priors. Pixel-wise detection looks again after every replacement; light pixel-wise
detection looks once. The first is written three times: the plain algorithm of the paper, one pass of the prior per
position, which is the reference; a jump ahead, one pass per replaced code, right for every causal prior; and the
incremental one, which evaluates each position once. With the same noise all three give the same codes.
"""

from typing import Literal

import torch
from torch import Tensor

from vqad_lib.models.prior import Prior, code_nll

Recompute = Literal["after_every_replacement", "once"]
Algorithm = Literal["incremental", "jump_ahead", "plain"]


@torch.no_grad()
def restore(
    prior: Prior,
    codes: Tensor,
    *,
    threshold_nats: float,
    noise: Tensor,
    recompute: Recompute,
    algorithm: Algorithm = "incremental",
    max_replacements: int | None = None,
) -> Tensor:
    """Replace every code whose surprise exceeds the threshold by a draw from the prior.

    Args:
        prior: in evaluation mode.
        codes: (R, h, w) int64, one row per image and restoration.
        threshold_nats: lambda_P or lambda_LP; a code is replaced only strictly above it.
        noise: (R, h, w) float64 in [0, 1), see `addressed_uniforms`; the draw is the inverse of the cumulated
            probabilities at it.
        recompute: "after_every_replacement" (pixel-wise) or "once" (light pixel-wise).
        algorithm: how to compute the former; no influence on the result, nor on "once".
        max_replacements: stop replacing in a row after so many, in raster order; None for all.

    Returns:
        (R, h, w) int64, the restored codes.

    Raises:
        ValueError: noise and codes differ in shape.
    """
    if noise.shape != codes.shape:
        raise ValueError(f"noise {tuple(noise.shape)} must have the shape of codes {tuple(codes.shape)}")
    limit = codes[0].numel() if max_replacements is None and len(codes) else (max_replacements or 0)
    if not len(codes):
        return codes.clone()
    if recompute == "once":
        return _light(prior, codes, threshold_nats, noise, limit)
    algorithms = {"incremental": _incremental, "jump_ahead": _jump_ahead, "plain": _plain}
    return algorithms[algorithm](prior, codes, threshold_nats, noise, limit)


def draw_codes(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse transform sampling, in float64 so that the draw does not hang on float32 rounding.

    Args:
        logits: (..., K) float.
        uniforms: (...) float64 in [0, 1).

    Returns:
        (...) int64 in [0, K).
    """
    cumulated = logits.double().softmax(-1).cumsum(-1)
    drawn = torch.searchsorted(cumulated, uniforms.to(cumulated)[..., None].contiguous(), right=True)[..., 0]
    return drawn.clamp_max(logits.shape[-1] - 1)


def _light(prior: Prior, codes: Tensor, threshold_nats: float, noise: Tensor, limit: int) -> Tensor:
    logits = prior.logits(codes)
    exceeds = code_nll(logits, codes) > threshold_nats
    exceeds &= exceeds.flatten(1).cumsum(1).reshape(exceeds.shape) <= limit
    return torch.where(exceeds, draw_codes(logits, noise), codes)


def _plain(prior: Prior, codes: Tensor, threshold_nats: float, noise: Tensor, limit: int) -> Tensor:
    """The paper's algorithm, to the letter: a full pass of the prior before each position is looked at."""
    codes = codes.clone()
    replaced = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
    for row in range(codes.shape[1]):
        for column in range(codes.shape[2]):
            logits = prior.logits(codes)[:, row, column]  # R K
            codes[:, row, column], replaced = _replace(
                logits, codes[:, row, column], noise[:, row, column], threshold_nats, replaced, limit
            )
    return codes


def _replace(
    logits: Tensor, current: Tensor, uniforms: Tensor, threshold_nats: float, replaced: Tensor, limit: int
) -> tuple[Tensor, Tensor]:
    """Decide and draw at one position of every row: (R, K) logits -> (R,) codes and replacements so far."""
    exceeds = torch.nn.functional.cross_entropy(logits, current, reduction="none") > threshold_nats
    exceeds &= replaced < limit
    return torch.where(exceeds, draw_codes(logits, uniforms), current), replaced + exceeds


def _jump_ahead(prior: Prior, codes: Tensor, threshold_nats: float, noise: Tensor, limit: int) -> Tensor:
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
        nll = torch.nn.functional.cross_entropy(logits.movedim(-1, 1), codes[rows], reduction="none")
        exceeds = (nll > threshold_nats) & (position >= open_from[rows, None])
        found = exceeds.any(1)
        if not found.any():
            break
        rows, first = rows[found], exceeds[found].int().argmax(1)  # argmax gives the first of equals
        codes[rows, first] = draw_codes(logits[found, first], noise[rows, first])
        open_from[rows] = first + 1
    return codes.reshape(shape)


def _incremental(prior: Prior, codes: Tensor, threshold_nats: float, noise: Tensor, limit: int) -> Tensor:
    """One position after the other, each evaluated once, from the prior's memory of the earlier ones.

    A full pass first tells where each row's first replacement is: rows without one are done, and the walk starts at
    the earliest of the others.
    """
    shape, n = codes.shape, codes[0].numel()
    exceeds = (code_nll(prior.logits(codes), codes) > threshold_nats).flatten(1)  # R hw
    rows = exceeds.any(1).nonzero()[:, 0]
    result = codes.clone()
    if not len(rows) or not limit:
        return result
    start = int(exceeds[rows].int().argmax(1).min())
    walked, noise = codes[rows].flatten(1), noise[rows].flatten(1)
    steps = prior.steps(walked.reshape(-1, *shape[1:]), start=start)
    replaced = torch.zeros(len(rows), dtype=torch.int64, device=codes.device)
    for i in range(start, n):
        logits = steps.logits_at(i, walked)
        walked[:, i], replaced = _replace(logits, walked[:, i], noise[:, i], threshold_nats, replaced, limit)
    result[rows] = walked.reshape(-1, *shape[1:])
    return result
