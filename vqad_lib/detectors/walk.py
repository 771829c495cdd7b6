"""Pixel-wise restoration in one walk over the positions, each distinct prefix of codes evaluated once.

The prior is causal, so what it says at a position depends on the codes before it and on nothing else. Restorations of
one image agree with the image up to their first replacement, and with one another for as long as they drew the same
codes. All rows with one prefix therefore share one row of the prior's memory (`models.prior.Walk`); a row of its own
begins where a restoration draws another code than those it shared with. The images' own rows cost one pass in all.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vqad_lib.models.prior import Prior, Walk


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


def walk(prior: Prior, codes: Tensor, thresholds: Tensor, noise: Tensor, limit: int) -> Tensor:
    """The codes of the plain algorithm, from one evaluation of the prior per distinct prefix.

    Args:
        prior: in evaluation mode.
        codes: (B, h, w) int64.
        thresholds: (N,) float64, nats.
        noise: (B, N, h, w) float64 in [0, 1).
        limit: stop replacing in a restoration after so many.

    Returns:
        (B, N, h, w) int64.
    """
    B, N, h, w = noise.shape
    memory = prior.walk(codes, capacity=B * N)
    image = torch.arange(B, device=codes.device).repeat_interleave(N)  # of each of the BN restorations
    own, thresholds, noise = codes.flatten(1), thresholds.repeat(B), noise.reshape(B * N, h * w)
    result = own[image]
    shared, owner = image.clone(), image[::N].clone()  # restoration -> row of the memory, and that row's image
    member = torch.arange(0, B * N, N, device=codes.device)  # row of the memory -> one of its restorations
    replaced = torch.zeros(B * N, dtype=torch.int64, device=codes.device)
    for i in range(h * w):
        logits = memory.logits[:, i]
        if len(owner) > B:
            logits = torch.cat([logits, memory.step(i, result[member[B:], i - 1])])
        surprise = F.cross_entropy(logits, own[owner, i], reduction="none")
        exceeds = (surprise[shared] > thresholds) & (replaced < limit)
        rows = exceeds.nonzero()[:, 0]
        if not len(rows):
            continue
        replaced += exceeds
        result[rows, i] = draw_codes(logits[shared[rows]], noise[rows, i, None])[:, 0]
        if i + 1 < h * w and len(owner) < B + B * N:  # else each restoration has a row of its own
            shared, owner, member = _part(memory, shared, owner, member, result[:, i], own[:, i], position=i)
    return result.reshape(B, N, h, w)


def _part(
    memory: Walk, shared: Tensor, owner: Tensor, member: Tensor, now: Tensor, own: Tensor, *, position: int
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
    memory.branch(parents, position)
    rows = parent.clone()
    rows[~stays] = torch.arange(len(owner), len(owner) + len(parents), device=rows.device)
    shared = rows[which]
    owner = torch.cat([owner, owner[parents]])
    member = member.new_zeros(len(owner))
    member[shared] = torch.arange(len(shared), device=shared.device)  # any of them: they agree so far
    return shared, owner, member
