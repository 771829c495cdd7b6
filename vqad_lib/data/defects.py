"""Pseudo-anomalies: defects painted into normal images, for all that must be taught or chosen without a real one.

The two families have no kind in common: what an autoencoder learns to take out ("taught") is not what its scores are
chosen by ("judged"). No kind is made after the defects of any data set; their largest sizes were widened after large
defects of magnetic tiles had been missed (docs/reference.md).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

FAMILIES = {"taught": ("patch", "warp", "noise"), "judged": ("scratch", "spot", "stain", "blur")}
# length and width of a region, in shares of the image's side, each drawn evenly on a logarithmic scale: up to all of
# it, for a defect may be of any size
_LENGTH = {"patch": (0.05, 1.0), "warp": (0.08, 1.0), "noise": (0.05, 1.0)}
_LENGTH |= {"scratch": (0.1, 1.0), "spot": (0.03, 0.1), "stain": (0.15, 1.0), "blur": (0.1, 1.0)}
_WIDTH = _LENGTH | {"patch": (0.01, 1.0), "warp": (0.03, 1.0), "noise": (0.01, 1.0)}


def pseudo_defects(images: Tensor, *, family: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One defect in each image, of a kind, a place, a size and a strength drawn at random.

    Args:
        images: (B, 3, H, W) float in [-1, 1]; patches come from their neighbours in the batch.
        family: a key of `FAMILIES`.
        generator: on the CPU; the same state gives the same defects.

    Returns:
        (B, 3, H, W) float in [-1, 1], and (B, H, W) bool, where the defect is; it fades out over a pixel more. It may
        lie beyond the image, and change nothing.
    """
    draw = _Draw(generator, len(images), images.device)
    kind = draw.whole(len(FAMILIES[family]))
    changed, where = images, torch.zeros_like(images[:, 0], dtype=torch.bool)
    for number, name in enumerate(FAMILIES[family]):
        painted, region = _paint(images, name, draw)
        changed = torch.where((kind == number)[:, None, None, None], painted, changed)
        where = torch.where((kind == number)[:, None, None], region, where)
    return changed.clamp(-1, 1), where


class _Draw:
    """Random numbers for each image of a batch."""

    def __init__(self, generator: torch.Generator, n: int, device: torch.device) -> None:
        self.generator, self.n, self.device = generator, n, device

    def whole(self, below: int) -> Tensor:
        return torch.randint(below, (self.n,), generator=self.generator).to(self.device)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        values = torch.rand((self.n, *(shape or (1, 1))), generator=self.generator).to(self.device)
        return low + (high - low) * values

    def size(self, low: float, high: float) -> Tensor:
        return self.uniform(math.log(low), math.log(high)).exp()

    def sign(self) -> Tensor:
        return self.uniform(-1, 1).sign()

    def smooth(self, channels: int, cells: int, size: list[int]) -> Tensor:
        """Smooth noise of deviation about 1 with so many bumps along a side: (B, channels, H, W)."""
        noise = torch.randn((self.n, channels, cells, cells), generator=self.generator).to(self.device)
        return F.interpolate(noise, size=size, mode="bicubic", align_corners=False)


def _region(kind: str, draw: _Draw, size: list[int]) -> Tensor:
    """Where a defect is: (B, H, W) bool."""
    ys, xs = (torch.linspace(0, 1, side, device=draw.device) for side in size)
    dy, dx = ys[:, None] - draw.uniform(0.05, 0.95), xs[None, :] - draw.uniform(0.05, 0.95)
    angle = draw.uniform(0, torch.pi)
    along, across = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
    length, width = draw.size(*_LENGTH[kind]) / 2, draw.size(*_WIDTH[kind]) / 2
    across = across - draw.uniform(-2, 2) * along**2
    if kind == "scratch":  # a thin, bent line
        across = across - draw.uniform(-9, 9) * along**3
        inside = (along.abs() < length) & (across.abs() < draw.uniform(0.4, 1.6) / max(size))
    else:
        ragged = 0.4 * draw.smooth(1, 12, size)[:, 0]
        inside = (along / length) ** 2 + (across / width) ** 2 + ragged < 1
    return inside


def _paint(images: Tensor, kind: str, draw: _Draw) -> tuple[Tensor, Tensor]:
    size = list(images.shape[-2:])
    region = _region(kind, draw, size)
    strength = draw.uniform(0.2, 0.8)[..., None] * draw.sign()[..., None]  # B 1 1 1, of [-1, 1]
    if kind == "patch":
        shift = [int(side * share) for side, share in zip(size, torch.rand(2, generator=draw.generator), strict=True)]
        other = images.roll(1, 0).roll(shift, (2, 3)).flip(2 + int(shift[0] % 2)) + 0.3 * strength
    elif kind == "warp":
        still = torch.eye(2, 3, device=images.device).expand(len(images), -1, -1)
        base = F.affine_grid(still, list(images.shape), align_corners=False)
        moved = base + 0.08 * draw.smooth(2, 16, size).movedim(1, -1)
        other = F.grid_sample(images, moved, padding_mode="reflection", align_corners=False)
    elif kind == "noise":
        other = images + 0.5 * strength * draw.smooth(1, max(size) // 3, size) + 0.5 * strength
    elif kind == "blur":
        other = F.avg_pool2d(images, 7, 1, 3, count_include_pad=False)
    else:
        other = images + strength * (0.5 if kind == "stain" else 1.0)
    soft = F.avg_pool2d(region.float()[:, None], 3, 1, 1, count_include_pad=False)
    return images + soft * (other - images), region
