"""The interface of a causal prior over code grids, and what follows from it (section 3.2).

All priors keep it, so that no detector asks which network it holds. `Prior.logits` is enough; a prefix cache of its own
makes a prior's restorations quicker and changes none of their codes.
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

    def prefix_cache(self, codes: Tensor, *, capacity: int) -> "PrefixCache":  # noqa: ARG002
        """One pass over these grids, with the memory to go on from any position of theirs with other codes.

        A prior that has none of its own gets one that re-runs `logits`.

        Args:
            codes: (B, h, w) int64.
            capacity: how many branches it must have room for.

        Raises:
            ValueError: codes is not (B, h, w).
        """
        return _Recomputed(self, codes)

    @property
    def cache_bytes_per_row(self) -> int:
        """What a prefix cache holds for each grid and each branch, bytes; without one, the logits of a pass."""
        return 4 * self.grid[0] * self.grid[1] * self.codebook_size

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


class PrefixCache(ABC):
    """Incremental decoding: what a pass over B grids left behind, and branches of them.

    A branch is a row that left a grid, or another branch, at some position. Rows are numbered: 0 ... B - 1 are the
    grids, B + j is branch j. A branch costs one evaluation per position after the one at which it left; what it shares
    with its parent is copied, not computed. Exact up to float32 rounding.

    Attributes:
        logits: (B, h * w, K) float32 of the grids themselves, as `Prior.logits`.
    """

    logits: Tensor

    @abstractmethod
    def branch(self, parents: Tensor, position: int) -> None:
        """Append branches that have their parents' codes before `position` and another code there.

        Args:
            parents: (n,) int64, row numbers.
            position: in [0, h * w).
        """

    @abstractmethod
    def step(self, position: int, previous: Tensor) -> Tensor:
        """Logits of all branches at the next position; positions are asked for one after the other.

        Args:
            position: in [1, h * w).
            previous: (branches,) int64, the code of each branch at position - 1.

        Returns:
            (branches, K) float32, equal to `Prior.logits` there up to float32 rounding.
        """


class _Recomputed(PrefixCache):
    """Nothing but the codes; each step is a whole pass over all branches."""

    def __init__(self, prior: Prior, codes: Tensor) -> None:
        self.prior, self.first = prior, len(codes)
        self.logits = prior.logits(codes).flatten(1, 2)
        self.rows = codes.flatten(1)

    def branch(self, parents: Tensor, position: int) -> None:  # noqa: ARG002
        self.rows = torch.cat([self.rows, self.rows[parents]])

    def step(self, position: int, previous: Tensor) -> Tensor:
        branches = self.rows[self.first :]
        branches[:, position - 1] = previous
        return self.prior.logits(branches.unflatten(1, self.prior.grid)).flatten(1, 2)[:, position]


def code_nll(logits: Tensor, codes: Tensor) -> Tensor:
    """NLL of each code, -log p(s_i | s_<i) (eq. 10 and 19).

    Args:
        logits: (B, h, w, K) float.
        codes: (B, h, w) int64.

    Returns:
        (B, h, w) float32, nats, >= 0.
    """
    return F.cross_entropy(logits.float().movedim(-1, 1), codes, reduction="none")
