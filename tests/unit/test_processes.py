"""Which process this is, by torchrun's and srun's environment; shards of a batch by hand; errors in one line."""

import os
from collections.abc import Callable

import pytest
import torch

from vqad_lib.distributed import process as distributed
from vqad_lib.distributed.launch import _reason, devices_to_start
from vqad_lib.distributed.parallel import Shard, current_shard, mean_over_processes, parallel, take_shard
from vqad_lib.distributed.process import Process, barrier, first_process_first, joined, process
from vqad_lib.errors import VqadError
from vqad_lib.training.loop import Batches

JOB = {"SLURM_JOB_ID": "41", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Nothing of torchrun, srun or make in the environment but what the test puts there."""
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if k in ("PATH", "HOME")})
    return lambda variables: os.environ.update(variables)


@pytest.fixture
def as_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Be process `rank` of `size`, without the others."""
    return lambda rank, size: monkeypatch.setattr(distributed, "_process", Process(rank, size, rank))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Process(0, 1, 0)),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, Process(1, 2, 1)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"} | JOB, Process(5, 8, 1)),  # torchrun inside of srun
        (JOB, Process(3, 4, 1)),
        ({key: value for key, value in JOB.items() if key != "SLURM_STEP_ID"}, Process(0, 1, 0)),  # sbatch's script
        (JOB | {"SLURM_STEP_ID": str(0xFFFFFFFA)}, Process(0, 1, 0)),  # salloc's shell
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, Process(0, 1, 0)),
        ({"RANK": "0"}, Process(0, 1, 0)),
    ],
)
def test_the_environment_says_which_process_this_is(environment, variables, expected):
    environment(variables)
    assert distributed._from_environment() == expected


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK, WORLD_SIZE, LOCAL_RANK must be whole numbers"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2, WORLD_SIZE is 2; it must be 0 to WORLD_SIZE - 1"),
        (JOB | {"SLURM_NNODES": "2"}, "MASTER_ADDR is not set; before srun: export MASTER_ADDR="),
    ],
)
def test_an_incomplete_environment_is_one_line(environment, variables, said):
    environment(variables)
    with pytest.raises(VqadError, match=said) as caught, joined():
        pass
    assert "\n" not in str(caught.value)


def test_one_process_makes_no_group_and_waits_for_nobody(environment):
    environment({})
    with joined() as me:
        assert me == process() == Process(0, 1, 0)
        assert me.is_first
        assert not torch.distributed.is_initialized()
        with first_process_first():
            barrier()


@pytest.mark.parametrize(
    ("local_rank", "visible", "started_here", "expected"),
    [(1, 2, 2, "cuda:1"), (3, 1, 1, "cuda:0"), (1, 1, 2, None), (2, 2, 1, None)],  # srun may show each its own device
)
def test_each_process_has_a_device_of_its_own(environment, monkeypatch, local_rank, visible, started_here, expected):
    environment({"LOCAL_WORLD_SIZE": str(started_here)})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(distributed, "gpu_trouble", lambda _index: "")
    me = Process(local_rank, 4, local_rank)
    if expected:
        assert me.device == torch.device(expected)
    else:
        with pytest.raises(VqadError, match=rf"processes on a machine with {visible} CUDA device\(s\)"):
            _ = me.device


def raises(error: Exception) -> Callable[..., None]:
    def ones(*_: object, **__: object) -> None:
        raise error

    return ones


@pytest.mark.parametrize(
    ("ones", "visible", "expected"),
    [
        (raises(AssertionError("Torch not compiled with CUDA enabled")), None, "Torch not compiled with CUDA enabled"),
        (raises(RuntimeError("The driver is too old. Please update")), None, "The driver is too old"),
        (raises(RuntimeError("CUDA error: no kernel image\nand more lines")), None, "CUDA error: no kernel image"),
        (lambda n, **_: torch.zeros(n), "", "CUDA_VISIBLE_DEVICES= hides it"),
        (lambda n, **_: torch.zeros(n), "-1", "CUDA_VISIBLE_DEVICES=-1 hides it"),
        (lambda n, **_: torch.zeros(n), "0", ""),
        (lambda n, **_: torch.zeros(n), None, ""),
    ],
    ids=["CPU build", "old driver", "old GPU", "hidden", "hidden by -1", "shown", "works"],
)
def test_a_gpu_counts_if_torch_can_compute_on_it(environment, monkeypatch, ones, visible, expected):
    environment({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "ones", ones)
    distributed.gpu_trouble.cache_clear()
    try:
        assert distributed.gpu_trouble() == expected
        assert Process().device == torch.device("cpu" if expected else "cuda"), "where networks run"
    finally:
        distributed.gpu_trouble.cache_clear()


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [
        (10, 1, [(0, 10)]),
        (10, 3, [(0, 3), (3, 3), (6, 4)]),
        (16, 2, [(0, 8), (8, 8)]),
        (3, 2, [(0, 1), (1, 2)]),
        (1, 2, [(0, 0), (0, 1)]),
        (2, 4, [(0, 0), (0, 1), (1, 0), (1, 1)]),
    ],
)
def test_shards_of_a_batch_by_hand(as_process, rows, size, expected):
    found = []
    for rank in range(size):
        as_process(rank, size)
        found.append(take_shard(rows))
    assert found == [Shard(start, n, rows) for start, n in expected]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize(("items", "batch_size"), [(19, 6), (13, 5), (7, 7), (11, 10)])
def test_shards_make_up_the_batches_of_one_process(as_process, size, items, batch_size):
    batches = Batches(torch.arange(items), batch_size=batch_size, seed=0, shuffle=True)
    whole = [batch for batch, _ in batches.shards(3)]
    parts = []
    for rank in range(size):
        as_process(rank, size)
        parts.append(list(batches.shards(3)))
    for number, batch in enumerate(whole):
        rows, shards = zip(*(part[number] for part in parts), strict=True)
        assert torch.equal(torch.cat([r[: s.n] for r, s in zip(rows, shards, strict=True)]), batch)
        assert all(len(r) == max(s.n, 1) for r, s in zip(rows, shards, strict=True)), "every process has a row"
        assert max(s.n for s in shards) - min(s.n for s in shards) <= 1


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("rows", [1, 4, 7])
def test_weighted_shards_average_to_the_mean_over_rows(as_process, size, rows):
    values = torch.arange(1.0, rows + 1) ** 2
    total = 0.0
    for rank in range(size):
        as_process(rank, size)
        shard = take_shard(rows)
        total += shard.weight * values[shard.start : shard.start + max(shard.n, 1)].mean().item()
    assert total / size == pytest.approx(values.mean().item(), rel=1e-6)


def test_current_shard_is_that_of_the_batch_in_hand(as_process):
    as_process(1, 2)
    for _, shard in Batches(torch.arange(7), batch_size=4, seed=0, shuffle=False).shards(1):
        assert current_shard() == shard
    assert current_shard() == Shard(1, 2, 3)


def test_one_process_gets_back_what_it_gave():
    values = torch.rand(3, 2)
    assert take_shard(7).weight == 1.0
    assert mean_over_processes(values) is values
    network = torch.nn.Linear(2, 2)
    assert parallel(network) is network


@pytest.mark.parametrize(("asked", "expected"), [("", 1), ("1", 1), ("3", 3)])
def test_devices_come_from_make(environment, as_process, asked, expected):
    environment({"VQAD_DEVICES": asked})
    assert devices_to_start() == expected
    as_process(0, 2)
    assert devices_to_start() == 1, "a process that was started must not start more"


@pytest.mark.parametrize("asked", ["0", "-1", "two", "1.5"])
def test_devices_must_be_a_number(environment, asked):
    environment({"VQAD_DEVICES": asked})
    with pytest.raises(VqadError, match=rf"DEVICES must be a whole number of at least 1, got '{asked}'"):
        devices_to_start()


TORCHRUN = """\
E1124 15:04:15.152000 22167 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 1) local_rank: 1
Traceback (most recent call last):
  File "site-packages/torch/distributed/run.py", line 1142, in <module>
    main()
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
  exitcode  : {status}
"""
LOST = "[rank0]: Traceback (most recent call last):\n[rank0]: RuntimeError: Connection closed by peer [127.0.0.1]\n"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (f"vqvae: epoch 1:  0%|  | 0/7\rerror: no data\nerror: no data\n{TORCHRUN}", "no data"),
        (f"{LOST}error: the disk is full\n{TORCHRUN}", "the disk is full"),
        (f"{LOST}{TORCHRUN}", "RuntimeError: Connection closed by peer [127.0.0.1]"),
        ("[rank1]:[rank1]: torch.OutOfMemoryError: CUDA out of memory\n", "torch.OutOfMemoryError: CUDA out of memory"),
        (
            TORCHRUN + "traceback : Signal 9 (SIGKILL) received by PID 7",
            "a process was killed; if memory ran out",
        ),
        (TORCHRUN, ""),
    ],
)
def test_reason_is_what_a_process_said_and_not_torchrun(said, expected):
    assert _reason(said).startswith(expected)
    assert bool(_reason(said)) == bool(expected)
