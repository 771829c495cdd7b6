"""Seeds, and addressed noise: the draw for (seed, image, restoration, position) is the same in any batch or process.

Each image has a Philox generator of its own, keyed by a hash of (seed, image id); restoration j at position i is its
draw number j * h * w + i. Asking for more restorations leaves the earlier ones as they were.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def seed_from(*parts: object) -> int:
    """A 63-bit seed from any printable parts; the same on every machine and Python."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def addressed_uniforms(*, seed: int, image_ids: Sequence[str], n_restorations: int, grid: tuple[int, int]) -> Tensor:
    """Uniform draws, one per code that may have to be replaced.

    Args:
        seed: of the run.
        image_ids: B distinct names.
        n_restorations: N.
        grid: (h, w).

    Returns:
        (B, N, h, w) float64 in [0, 1).
    """
    shape = (n_restorations, *grid)
    digests = [hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest() for name in image_ids]
    keys = [int.from_bytes(digest, "big") for digest in digests]
    draws = [np.random.Generator(np.random.Philox(key=key)).random(shape) for key in keys]
    return torch.from_numpy(np.stack(draws)) if draws else torch.empty((0, *shape), dtype=torch.float64)
