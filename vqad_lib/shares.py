"""The share of a batch that each process works on, and sums over all shares: several processes compute what one would.

A batch of the whole run is cut into consecutive parts, one per process, whose sizes differ by at most one row. What is
a mean over rows is then a weighted mean over processes. Where there are fewer rows than processes, those left over work
on a row that another one has, because every exchange needs all processes; that row counts nowhere (n is 0).

With one process everything here returns what it was given.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from vqad_lib.distributed import process


@dataclass(frozen=True)
class Share:
    """Rows start to start + n of a batch of `of` rows; n is 0 where the row in hand counts nowhere."""

    start: int
    n: int
    of: int

    @property
    def weight(self) -> float:
        """Times this process's mean over its rows; the plain mean over processes is then the mean over all rows."""
        return self.n * process().size / self.of


_current: Share | None = None


def share_of(rows: int) -> Share:
    """What this process has of a batch of `rows` rows, 1 or more."""
    me = process()
    start, stop = (rank * rows // me.size for rank in (me.rank, me.rank + 1))
    return Share(start, stop - start, rows)


@contextmanager
def working_on(share: Share) -> Iterator[None]:
    """Within this block the networks see rows of that share; batch statistics and the codebook need to know."""
    global _current
    before, _current = _current, share
    try:
        yield
    finally:
        _current = before


def current_share(rows: int) -> Share:
    """The share in hand; outside of `working_on`, `rows` rows on every process."""
    me = process()
    return _current or Share(me.rank * rows, rows, me.size * rows)


def sum_over_processes(values: Tensor) -> Tensor:
    """Add up `values` in place, without a graph; bit-equal on all processes afterwards."""
    if process().size > 1:
        dist.all_reduce(values)
    return values


def from_first(values: Tensor) -> Tensor:
    """Replace `values` in place by those of process 0."""
    if process().size > 1:
        dist.broadcast(values, src=0)
    return values


def rows_of_all(rows: Tensor) -> Tensor:
    """This process's rows -> those of the whole batch in their order, (of, ...), without a graph."""
    if process().size == 1:
        return rows
    share = current_share(len(rows))
    whole = rows.new_zeros(share.of, *rows.shape[1:])
    whole[share.start : share.start + share.n] = rows[: share.n]
    return sum_over_processes(whole)


def mean_over_processes(values: Tensor) -> Tensor:
    """Average `values` in place, without a graph; bit-equal on all processes afterwards."""
    return sum_over_processes(values).div_(process().size) if process().size > 1 else values


class SumOverProcesses(torch.autograd.Function):
    """`sum_over_processes` with a gradient, which is the sum of the gradients of all processes."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:  # noqa: ARG004
        return sum_over_processes(values.clone())

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return sum_over_processes(gradient.clone())
