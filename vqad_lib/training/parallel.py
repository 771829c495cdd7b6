"""Networks in several processes: wrapped for training, bare for files; random draws that differ between processes."""

import inspect

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vqad_lib.distributed import process
from vqad_lib.errors import VqadError
from vqad_lib.shares import sum_over_processes
from vqad_lib.training.batches import seed_from

_DDP_ARGUMENTS = inspect.signature(DistributedDataParallel.__init__).parameters
# newer versions of torch deprecate the second name; both leave the buffers alone at every step
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _DDP_ARGUMENTS else "broadcast_buffers"


def parallel(network: nn.Module) -> nn.Module:
    """The network in DistributedDataParallel, which averages gradients over processes; itself where there is one.

    Buffers are not broadcast at every step: running averages of the codebook and of batch normalisation are kept from
    sums over all processes, so they are equal already.
    """
    if process().size == 1:
        return network
    device = process().device
    return DistributedDataParallel(
        network,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        **{_SYNC_BUFFERS: False},
    )


def bare(network: nn.Module) -> nn.Module:
    """The network itself, whether or not `parallel` wrapped it."""
    return network.module if isinstance(network, DistributedDataParallel) else network


def part_random_streams(seed: int, epoch: int) -> None:
    """Give every process but the first a random stream of its own for this epoch, so that dropout differs.

    The first one's goes on as in a run of one process and is saved in checkpoints; the others follow from (seed, epoch,
    rank), so a run that goes on draws as an unbroken one.
    """
    if not process().is_first:
        torch.manual_seed(seed_from("process", seed, epoch, process().rank))


def check_agreement(epoch: int, device: torch.device) -> None:
    """Refuse to go on from different epochs, as happens where machines do not share the folder.

    Raises:
        VqadError: the processes found different checkpoints.
    """
    me = process()
    found: Tensor = torch.zeros(me.size, dtype=torch.int64, device=device)
    found[me.rank] = epoch
    epochs = sum_over_processes(found).tolist()
    if len(set(epochs)) > 1:
        raise VqadError(
            f"the processes found checkpoints of epochs {epochs}; data/derived must lie on a file system that all share"
        )
