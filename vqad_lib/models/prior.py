"""The interface of a causal prior over code grids, and what follows from it (section 3.2).

Both priors keep it, so that no detector asks which network it holds.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Prior(nn.Module, ABC):
    """p(s) = prod_i p(s_i | s_<i) over h x w grids of K codes, in raster order.

    Attributes:
        codebook_size: K.
        grid: (h, w).
    """

    codebook_size: int
    grid: tuple[int, int]

    @abstractmethod
    def logits(self, codes: Tensor) -> Tensor:
        """Unnormalised log-probabilities of every code at every position, in one pass.

        Args:
            codes: (B, h, w) int64 in [0, K).

        Returns:
            (B, h, w, K) float32. Position i depends on the codes before i in raster order, and on no other.

        Raises:
            ValueError: codes is not (B, h, w).
        """

    @abstractmethod
    def steps(self, codes: Tensor, *, start: int) -> "Steps":
        """A walk over positions start, start + 1, ... of these rows that evaluates each position once.

        Args:
            codes: (R, h, w) int64; codes before `start` must be final.
            start: in [0, h * w).
        """

    def forward(self, codes: Tensor) -> Tensor:
        """Same as `logits`, so that wrappers (compile, DistributedDataParallel) apply."""
        return self.logits(codes)

    def check(self, codes: Tensor) -> None:
        """Refuse grids of another size or type.

        Raises:
            ValueError: as described.
        """
        if codes.ndim != 3 or tuple(codes.shape[1:]) != self.grid or codes.dtype != torch.int64:
            raise ValueError(
                f"codes must be (B, {self.grid[0]}, {self.grid[1]}) int64, got {tuple(codes.shape)} {codes.dtype}"
            )


class Steps(ABC):
    """The memory of a walk over the positions of a batch of grids; exact, only faster than `Prior.logits`."""

    @abstractmethod
    def logits_at(self, position: int, codes: Tensor) -> Tensor:
        """Logits at one position; positions are asked for one after the other.

        Args:
            position: in [0, h * w).
            codes: (R, h * w) int64, final before `position`.

        Returns:
            (R, K) float32, equal to `Prior.logits` there up to float32 rounding.
        """


def code_nll(logits: Tensor, codes: Tensor) -> Tensor:
    """Surprise of each code, -log p(s_i | s_<i) (eq. 10 and 19).

    Args:
        logits: (B, h, w, K) float.
        codes: (B, h, w) int64.

    Returns:
        (B, h, w) float32, nats, >= 0.
    """
    return F.cross_entropy(logits.float().movedim(-1, 1), codes, reduction="none")
