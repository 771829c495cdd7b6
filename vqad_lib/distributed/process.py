"""The processes of a run: one by itself, or several that torchrun or srun started side by side, one per device.

`joined` enters the process group that the environment describes, `process` says which one this is, `barrier` waits for
the others. Where nothing describes a group, this is process 0 of 1 and no group is made. torch is imported late, for
the Makefile's commands that only compare digests read `process` too.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from vqad_lib import progress
from vqad_lib.errors import VqadError
from vqad_lib.files import first_line

if TYPE_CHECKING:
    import torch

# long, for a process that finds all its chunks scored waits for those that do not; a dead one is noticed by its starter
WAIT_FOR_OTHERS = timedelta(hours=2)
FIRST_SPECIAL_STEP = 0xFFFFFFF0  # SLURM's numbers for scripts and shells; steps that srun starts count from 0


@dataclass(frozen=True)
class Process:
    """Which process of how many this is.

    Attributes:
        rank: in [0, size); process 0 alone writes files that all share, and shows progress.
        size: number of processes, 1 or more.
        local_rank: among the processes of this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is process 0."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process works: a CUDA device of its own, or the CPU where torch cannot use one.

        Raises:
            VqadError: this machine has fewer CUDA devices than processes.
        """
        import torch

        visible = torch.cuda.device_count()
        index = self.local_rank % max(visible, 1)
        if gpu_trouble(index):
            return torch.device("cpu")
        if self.size == 1:
            return torch.device("cuda")
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's; srun can show each process its own device
        if here > visible or self.local_rank >= visible > 1:
            raise VqadError(
                f"{max(here, self.local_rank + 1)} processes on a machine with {visible} CUDA device(s); "
                "start one per device (DEVICES=, --nproc-per-node, --ntasks-per-node)"
            )
        return torch.device("cuda", index)


@functools.cache
def gpu_trouble(index: int = 0) -> str:
    """Why torch cannot compute on a GPU of this machine, in a few words; "" where it can.

    That there is one says little: the driver may be too old, this torch built without CUDA or without kernels for this
    GPU, the GPU hidden or taken. So it is tried.

    Args:
        index: of the CUDA device.
    """
    import torch

    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    if not hidden[:1].isalnum():  # "" and "-1" show none
        return f"CUDA_VISIBLE_DEVICES={hidden} hides it"
    try:
        torch.ones(2, device=f"cuda:{index}").add(1).sum().item()
    except (AssertionError, RuntimeError) as error:  # the former of a torch that is built without CUDA
        return first_line(error).split(". ")[0]
    return ""


_process = Process()


def process() -> Process:
    """This process; number 0 of 1 outside of `joined`."""
    return _process


@contextmanager
def joined() -> Iterator[Process]:
    """Be in the process group that torchrun's or srun's environment describes, gloo on CPUs and NCCL on CUDA devices.

    An error leaves the group as it is: the process is about to end, and waiting for the others could take forever.

    Raises:
        VqadError: the environment is incomplete, or the other processes cannot be reached.
    """
    global _process
    found = _from_environment()
    if found.size == 1:
        yield found
        return
    import torch
    import torch.distributed as dist

    if found.device.type == "cuda":
        torch.cuda.set_device(found.device)
    host = os.environ.setdefault("MASTER_ADDR", "127.0.0.1")  # torchrun sets both, srun neither
    port = os.environ.setdefault("MASTER_PORT", str(20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20000))
    backend = "nccl" if found.device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, rank=found.rank, world_size=found.size, timeout=WAIT_FOR_OTHERS)
    except (RuntimeError, ValueError) as error:
        raise VqadError(
            f"process {found.rank} of {found.size} cannot reach the others at {host}:{port} ({first_line(error)})"
        ) from error
    _process, progress.quiet = found, not found.is_first
    yield found
    barrier()
    _process, progress.quiet = Process(), False
    dist.destroy_process_group()


def barrier() -> None:
    """Wait until every process is here; at once where there is one."""
    if _process.size > 1:
        import torch.distributed as dist

        dist.barrier(device_ids=[_process.device.index] if _process.device.type == "cuda" else None)


@contextmanager
def first_process_first() -> Iterator[None]:
    """Let process 0 do this alone, then the others: for what is made once on disk and then found there."""
    if not _process.is_first:
        barrier()
    yield
    if _process.is_first:
        barrier()


def _from_environment() -> Process:
    """torchrun's variables; else srun's in a step of its own, which no script of sbatch or shell of salloc is."""
    variables, keys = os.environ, ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not {"RANK", "WORLD_SIZE"} <= variables.keys():
        step = variables.get("SLURM_STEP_ID", "")
        if not step or int(step) >= FIRST_SPECIAL_STEP:
            return Process()
        keys = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
    try:
        found = Process(*(int(variables.get(key, "0")) for key in keys))
    except ValueError as error:
        raise VqadError(f"{', '.join(keys)} must be whole numbers ({error})") from error
    if not 0 <= found.rank < found.size:
        raise VqadError(f"{keys[0]} is {found.rank}, {keys[1]} is {found.size}; it must be 0 to {keys[1]} - 1")
    if found.size > 1 and "MASTER_ADDR" not in variables and int(variables.get("SLURM_NNODES", "1")) > 1:
        raise VqadError(
            "MASTER_ADDR is not set; before srun: "
            "export MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)"
        )
    return found
