"""What an autoencoder is trained on beyond normal images, so that its codebook has codes for what is not normal.

A codebook that has seen normal images alone shows what is abnormal by a usual code, and no prior can find that
unlikely. The prior still learns from the codes of normal images alone.
"""

import torch
from torch import Tensor

from vqad_lib.data.defects import pseudo_defects
from vqad_lib.models.blocks import to_uint8, to_unit_range

FASTEST = 3.5
_BATCH = 64


def covered(images: Tensor, coverage: str, *, seed: int) -> Tensor:
    """The images, and as many more that are not normal: (n, 3, H, W) uint8 -> (n or 2 n, 3, H, W) uint8.

    Args:
        coverage: "none"; "faster", of optical flow, each scaled by a factor from 1 to `FASTEST`, drawn evenly on a
            logarithmic scale; "defects", each with a patch of another, a warped or a noisy region (`pseudo_defects`,
            family "taught").
        seed: of all draws.
    """
    if coverage == "none":
        return images
    generator = torch.Generator().manual_seed(seed)
    more = [images]
    for batch in to_unit_range(images).split(_BATCH):
        if coverage == "faster":
            shown = scaled_flow(batch, FASTEST ** torch.rand(len(batch), generator=generator))
        else:
            shown, _ = pseudo_defects(batch, family="taught", generator=generator)
        more.append(torch.from_numpy(to_uint8(shown)).to(images.device))
    return torch.cat(more)


def scaled_flow(flow: Tensor, factors: Tensor) -> Tensor:
    """Optical flow (B, 3, H, W) in [-1, 1], as `data.motion` makes it, so many times as fast (B,); cut at its limit."""
    factors, still = factors.to(flow.device)[:, None, None, None], flow.new_tensor([0.0, 0.0, -1.0])[:, None, None]
    return (still + (flow - still) * factors).clamp(-1, 1)
