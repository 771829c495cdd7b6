"""Latent restoration: replace unlikely codes by draws from the prior (sections 2.4 and 3.5).

One function, `restore`, for every prior. Pixel-wise detection looks again after every replacement; light pixel-wise
detection looks once. The first is written three times: the plain algorithm of the paper, one pass of the prior per
position, which is the reference; a jump ahead, one pass per replaced code; and the fast one, which decodes
incrementally, each distinct prefix of codes once. With the same noise all three give the same codes. The fast one is
the quickest at every size that `make bench` measures.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from vqad_lib.models.prior import PrefixCache, Prior, code_nll

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
    logits: Tensor | None = None,
) -> Tensor:
    """Replace every code whose NLL exceeds the threshold by a draw from the prior, N times for each grid.

    Args:
        prior: in evaluation mode.
        codes: (B, h, w) int64, one grid per image.
        threshold_nats: lambda_P or lambda_LP; a code is replaced only strictly above it. A number, or (N,) float64:
            one for each restoration, so that a sweep over thresholds is one call.
        noise: (B, N, h, w) float64 in [0, 1), see `addressed_uniforms`; the draw is the inverse of the cumulated
            probabilities at it.
        recompute: "after_every_replacement" (pixel-wise) or "once" (light pixel-wise).
        algorithm: how to compute the former; no influence on the result, nor on "once".
        logits: (B, h, w, K), what the prior says of `codes`, where that is known already; "once" then needs no pass.

    Returns:
        (B, N, h, w) int64, the restored codes.

    Raises:
        ValueError: the shapes of noise and codes do not fit together; there is no such `recompute` or `algorithm`.
    """
    if noise.ndim != 4 or (noise.shape[0], *noise.shape[2:]) != tuple(codes.shape):
        raise ValueError(f"noise {tuple(noise.shape)} must be (B, N, h, w) for codes {tuple(codes.shape)}")
    if recompute not in get_args(Recompute) or algorithm not in get_args(Algorithm):
        raise ValueError(f"no recompute {recompute!r} or no algorithm {algorithm!r}")
    B, N, h, w = noise.shape
    thresholds = torch.as_tensor(threshold_nats, dtype=torch.float64, device=codes.device)
    if not B or not N:
        return codes.new_empty((B, N, h, w))
    thresholds = thresholds.expand(N)
    if recompute == "once":
        return _light(prior.logits(codes) if logits is None else logits, codes, thresholds, noise)
    if algorithm == "fast":
        return _incremental(prior, codes, thresholds, noise)
    rows = codes[:, None].expand(B, N, h, w).flatten(0, 1)
    restored = {"jump_ahead": _jump_ahead, "plain": _plain}[algorithm](
        prior, rows, thresholds.repeat(B), noise.flatten(0, 1)
    )
    return restored.unflatten(0, (B, N))


def draw_codes(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse transform sampling, in float64 so that the draw does not hang on float32 rounding.

    Args:
        logits: (..., K) float.
        uniforms: (..., N) float64 in [0, 1): N draws from each.

    Returns:
        (..., N) int64 in [0, K).
    """
    cumulated = logits.double().softmax(-1).cumsum(-1)
    drawn = torch.searchsorted(cumulated, uniforms.to(cumulated).contiguous(), right=True)
    return drawn.clamp_max(logits.shape[-1] - 1)


def _light(logits: Tensor, codes: Tensor, thresholds: Tensor, noise: Tensor) -> Tensor:
    exceeds = code_nll(logits, codes)[:, None] > thresholds[:, None, None]  # B N h w
    drawn = draw_codes(logits, noise.movedim(1, -1)).movedim(-1, 1)
    return torch.where(exceeds, drawn, codes[:, None])


def _plain(prior: Prior, codes: Tensor, thresholds: Tensor, noise: Tensor) -> Tensor:
    """The paper's algorithm, to the letter: a full pass of the prior before each position is looked at.

    (R, h, w) codes and noise, (R,) thresholds, one row per restoration.
    """
    codes = codes.clone()
    for row in range(codes.shape[1]):
        for column in range(codes.shape[2]):
            logits, current = prior.logits(codes)[:, row, column], codes[:, row, column]  # R K, R
            exceeds = F.cross_entropy(logits, current, reduction="none") > thresholds
            drawn = draw_codes(logits, noise[:, row, column, None]).squeeze(1)
            codes[:, row, column] = torch.where(exceeds, drawn, current)
    return codes


def _jump_ahead(prior: Prior, codes: Tensor, thresholds: Tensor, noise: Tensor) -> Tensor:
    """Replace the first code over the threshold, look again from there; rows without one leave the batch.

    Replacing code i changes no logits at positions <= i, so what was found likely before i stays likely.
    """
    shape, n = codes.shape, codes.shape[1:].numel()
    codes, noise = codes.reshape(-1, n).clone(), noise.reshape(-1, n)
    position = torch.arange(n, device=codes.device)
    open_from = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
    rows = torch.arange(len(codes), device=codes.device)
    for _ in range(n):
        logits = prior.logits(codes[rows].reshape(-1, *shape[1:])).flatten(1, 2)  # rows hw K
        nll = F.cross_entropy(logits.movedim(-1, 1), codes[rows], reduction="none")
        exceeds = (nll > thresholds[rows, None]) & (position >= open_from[rows, None])
        found = exceeds.any(1)
        if not found.any():
            break
        rows, first = rows[found], exceeds[found].int().argmax(1)  # ties: argmax gives the first
        codes[rows, first] = draw_codes(logits[found, first], noise[rows, first, None]).squeeze(1)
        open_from[rows] = first + 1
    return codes.reshape(shape)


def _incremental(prior: Prior, codes: Tensor, thresholds: Tensor, noise: Tensor) -> Tensor:
    """The codes of the plain algorithm, from one evaluation of the prior per distinct prefix of codes.

    What the prior says at a position depends on the codes before it and on nothing else. Restorations of one image
    agree with the image up to their first replacement, and with one another for as long as they drew the same codes.
    All rows with one prefix therefore share one row of the prefix cache; a row of its own begins where a restoration
    draws another code than those it shared with. The images' own rows cost one pass in all.

    Args:
        prior: in evaluation mode.
        codes: (B, h, w) int64.
        thresholds: (N,) float64, nats.
        noise: (B, N, h, w) float64 in [0, 1).

    Returns:
        (B, N, h, w) int64.
    """
    B, N, h, w = noise.shape
    cache = prior.prefix_cache(codes, capacity=B * N)
    image = torch.arange(B, device=codes.device).repeat_interleave(N)  # of each of the BN restorations
    own, thresholds, noise = codes.flatten(1), thresholds.repeat(B), noise.reshape(B * N, h * w)
    result = own[image]
    shared, owner = image.clone(), image[::N].clone()  # restoration -> row of the cache, and that row's image
    member = torch.zeros_like(owner)  # row of the cache -> one of its restorations; an image's own row needs none
    for i in range(h * w):
        logits = cache.logits[:, i]
        if len(owner) > B:
            logits = torch.cat([logits, cache.step(i, result[member[B:], i - 1])])
        nll = F.cross_entropy(logits, own[owner, i], reduction="none")
        rows = (nll[shared] > thresholds).nonzero()[:, 0]
        if not len(rows):
            continue
        result[rows, i] = draw_codes(logits[shared[rows]], noise[rows, i, None]).squeeze(1)
        if i + 1 < h * w and len(owner) < B + B * N:  # else each restoration has a row of its own
            shared, owner, member = _branch(cache, shared, owner, member, result[:, i], own[:, i], position=i)
    return result.reshape(B, N, h, w)


def _branch(
    cache: PrefixCache, shared: Tensor, owner: Tensor, member: Tensor, now: Tensor, own: Tensor, *, position: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Give rows of their own to restorations whose new code differs from that of the others on their row.

    An image's row stays with its own code; another row stays with the smallest of its new codes.

    Args:
        shared: (BN,) restoration -> row; owner: (rows,) row -> image; member: (rows,) row -> one restoration.
        now: (BN,) the restorations' codes at `position`; own: (B,) the images'.
    """
    B, span = len(own), int(now.max()) + 1
    pairs, which = torch.unique(shared * span + now, return_inverse=True)  # sorted: by row, then by code
    parent, code = pairs // span, pairs % span
    stays = torch.ones_like(parent, dtype=torch.bool)
    stays[1:] = parent[1:] != parent[:-1]
    images = parent < B
    stays = torch.where(images, code == own[parent.clamp_max(B - 1)], stays)
    parents = parent[~stays]
    if not len(parents):
        return shared, owner, member
    cache.branch(parents, position)
    rows = parent.clone()
    rows[~stays] = torch.arange(len(owner), len(owner) + len(parents), device=rows.device)
    shared = rows[which]
    owner = torch.cat([owner, owner[parents]])
    member = member.new_zeros(len(owner))
    member[shared] = torch.arange(len(shared), device=shared.device)  # any of them: they agree so far
    return shared, owner, member
