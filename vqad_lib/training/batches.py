"""Batches from a tensor that lives on the device, in an order that depends on (seed, epoch) alone.

A resumed run therefore sees the same batches as an unbroken one, without storing where it stood.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vqad_lib.shares import Share, share_of


def to_unit_range(images: Tensor) -> Tensor:
    """Images as the networks take them: uint8 in [0, 255] -> float32 in [-1, 1], any shape."""
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> np.ndarray:
    """The inverse of `to_unit_range`, rounded and clipped: float in [-1, 1] -> uint8 array, any shape."""
    return images.add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def seed_from(*parts: object) -> int:
    """A 63-bit seed from any printable parts; the same on every machine and Python."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Batches:
    """Batches of images or code grids.

    Args:
        items: (n, 3, H, W) uint8 images, which come out as float in [-1, 1], or (n, h, w) int64 codes.
        batch_size: items per batch; the last one may be smaller.
        seed: of the order, if `shuffle`.
    """

    def __init__(self, items: Tensor, *, batch_size: int, seed: int, shuffle: bool) -> None:
        if not len(items):
            raise ValueError("no items to make batches of")
        self.items, self.batch_size, self.seed, self.shuffle = items, batch_size, seed, shuffle

    def __len__(self) -> int:
        return -(-len(self.items) // self.batch_size)

    def epoch(self, epoch: int) -> Iterator[Tensor]:
        """The whole batches of one epoch, counted from 1."""
        for rows in self._order(epoch).split(self.batch_size):
            yield self._items(rows)

    def shares(self, epoch: int) -> Iterator[tuple[Tensor, Share]]:
        """The same batches, of each only what this process works on (see `vqad_lib.shares`), and how much that is."""
        for rows in self._order(epoch).split(self.batch_size):
            share = share_of(len(rows))
            yield self._items(rows[share.start : share.start + max(share.n, 1)]), share

    def _order(self, epoch: int) -> Tensor:
        n = len(self.items)
        order = torch.arange(n)
        if self.shuffle:
            generator = torch.Generator().manual_seed(seed_from("order", self.seed, epoch))
            order = torch.randperm(n, generator=generator)
        return order.to(self.items.device)

    def _items(self, rows: Tensor) -> Tensor:
        batch = self.items[rows]
        return to_unit_range(batch) if batch.dtype == torch.uint8 else batch
