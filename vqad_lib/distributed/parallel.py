"""Several processes compute what one would: the shard of a batch that each works on, sums over all, wrapped networks.

A batch of the whole run is cut into consecutive shards, one per process, whose sizes differ by at most one row. What is
a mean over rows is then a weighted mean over processes. Where there are fewer rows than processes, those left over work
on a row that another one has, because every exchange needs all processes; that row counts nowhere (n is 0).

With one process everything here returns what it was given.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel

from vqad_lib.distributed.process import process
from vqad_lib.errors import VqadError
from vqad_lib.models.quantiser import Quantiser, WholeBatch
from vqad_lib.seeds import seed_from


@dataclass(frozen=True)
class Shard:
    """Rows start to start + n of a batch of `of` rows; n is 0 where the row in hand counts nowhere."""

    start: int
    n: int
    of: int

    @property
    def weight(self) -> float:
        """Times this process's mean over its rows; the plain mean over processes is then the mean over all rows."""
        return self.n * process().size / self.of


_current = Shard(0, 1, 1)


def take_shard(rows: int) -> Shard:
    """What this process has of the next batch, of `rows` rows, 1 or more; from now on it is `current_shard`."""
    global _current
    me = process()
    start, stop = (rank * rows // me.size for rank in (me.rank, me.rank + 1))
    _current = Shard(start, stop - start, rows)
    return _current


def current_shard() -> Shard:
    """Of the batch in hand, for what works on all of it: the codebook, batch normalisation, the adaptive weight."""
    return _current


def sum_over_processes(values: Tensor) -> Tensor:
    """Add up `values` in place, without a graph; bit-equal on all processes afterwards."""
    if process().size > 1:
        dist.all_reduce(values)
    return values


def mean_over_processes(values: Tensor) -> Tensor:
    """Average `values` in place, without a graph; bit-equal on all processes afterwards."""
    return sum_over_processes(values).div_(process().size) if process().size > 1 else values


def parallel(network: nn.Module) -> nn.Module:
    """The network in DistributedDataParallel, which averages gradients over processes; itself where there is one.

    Its codebook and its batch normalisation then take their statistics from the whole batch. They are equal on all
    processes, so buffers are not broadcast at every step.
    """
    if process().size == 1:
        return network
    for module in network.modules():
        if isinstance(module, Quantiser):
            module.batch = ShardedBatch()
        elif type(module) is nn.BatchNorm2d:
            module.__class__ = ShardedBatchNorm  # same parameters and buffers
    device = process().device
    return DistributedDataParallel(
        network,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        forward_sync_buffers=False,
    )


def bare(network: nn.Module) -> nn.Module:
    """The network itself, whether or not `parallel` wrapped it."""
    return network.module if isinstance(network, DistributedDataParallel) else network


class ShardedBatch(WholeBatch):
    """A batch of which this process has a shard; bit-equal on all processes."""

    def total(self, values: Tensor) -> Tensor:
        """Sum in place, without a graph; a row that counts nowhere is another process's, and counted there."""
        return sum_over_processes(values.mul_(current_shard().n > 0))

    def rows(self, rows: Tensor) -> Tensor:
        """This process's rows -> those of the whole batch in their order, (of, ...), without a graph."""
        shard = current_shard()
        whole = rows.new_zeros(shard.of, *rows.shape[1:])
        whole[shard.start : shard.start + shard.n] = rows[: shard.n]
        return sum_over_processes(whole)

    def agreed(self, values: Tensor) -> Tensor:
        """Those of process 0, on this process's device."""
        values = values.to(process().device)
        dist.broadcast(values, src=0)
        return values


class ShardedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the images of all processes.

    torch's SyncBatchNorm is for CUDA devices alone and cannot leave a row out; this one is the same on CPUs.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if not self.training:
            return super().forward(x)
        H, W = x.shape[2:]
        shard, values = current_shard(), x.float()
        n, counts = shard.of * H * W, float(shard.n > 0)
        mean = all_reduce(counts * values.sum((0, 2, 3))) / n  # C; with a gradient, all processes' sum
        centred = values - mean[:, None, None]
        variance = all_reduce(counts * centred.square().sum((0, 2, 3))) / n  # C
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (n / max(n - 1, 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()  # C
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def part_random_streams(seed: int, epoch: int) -> None:
    """Give every process but the first a random stream of its own for this epoch, so that dropout differs.

    The first one's goes on as in a run of one process and is saved in checkpoints; the others follow from (seed, epoch,
    rank), so a run that resumes draws as an unbroken one.
    """
    if not process().is_first:
        torch.manual_seed(seed_from("process", seed, epoch, process().rank))


def check_agreement(epoch: int) -> None:
    """Refuse to resume from different epochs, as happens where machines do not share the folder.

    Raises:
        VqadError: the processes found different checkpoints.
    """
    epochs = [epoch] * process().size
    if process().size > 1:
        dist.all_gather_object(epochs, epoch)
    if len(set(epochs)) > 1:
        raise VqadError(
            f"the processes found checkpoints of epochs {epochs}; data/derived must lie on a file system that all share"
        )
