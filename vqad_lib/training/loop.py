"""The training loop: epochs over batches, one or more objectives, the paper's early stopping, exact resumption.

An objective is a network, its optimiser, and a function from a batch to a loss. A VQ-VAE or a prior has one; a VQ-GAN
has two, autoencoder and discriminator, which take turns on every batch.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from vqad_lib.config import TrainingConfig
from vqad_lib.distributed import parallel
from vqad_lib.distributed.parallel import Shard, bare, take_shard
from vqad_lib.distributed.process import barrier, process
from vqad_lib.errors import VqadError
from vqad_lib.files import read_json, write_bytes, write_json, write_text
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.quantiser import usage_of
from vqad_lib.progress import progress
from vqad_lib.seeds import seed_from
from vqad_lib.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    remove_checkpoint,
    save_checkpoint,
    weights_bytes,
)

CHECKPOINT_EVERY_S = 30.0
_NAMED = 10  # images of a batch, at most
EXTREMES = ("adaptive_weight",)  # terms whose lowest and highest value in an epoch are kept beside the average

Losses = dict[str, Tensor]


class Batches:
    """Batches from a tensor that lives on the device, in an order that depends on (seed, epoch) alone.

    A resumed run therefore sees the same batches as an unbroken one, without storing where it stood.

    Args:
        items: (n, 3, H, W) uint8 images, which come out as float in [-1, 1], or (n, h, w) int64 codes.
        batch_size: items per batch; the last one may be smaller.
        seed: of the order, if `shuffle`.
        ids: what errors call the items; by default their numbers.
    """

    def __init__(
        self, items: Tensor, *, batch_size: int, seed: int, shuffle: bool, ids: Sequence[str] | None = None
    ) -> None:
        if not len(items):
            raise ValueError("no items to make batches of")
        self.items, self.batch_size, self.seed, self.shuffle = items, batch_size, seed, shuffle
        self.ids = ids or [str(number) for number in range(len(items))]

    def __len__(self) -> int:
        return -(-len(self.items) // self.batch_size)

    def shards(self, epoch: int) -> Iterator[tuple[Tensor, Shard]]:
        """The batches of an epoch (counted from 1), each cut to this process's rows, and how much of it that is."""
        for rows in self._order(epoch).to(self.items.device).split(self.batch_size):
            shard = take_shard(len(rows))
            batch = self.items[rows[shard.start : shard.start + max(shard.n, 1)]]
            yield to_unit_range(batch) if batch.dtype == torch.uint8 else batch, shard

    def ids_of(self, epoch: int, number: int) -> list[str]:
        """What a batch of an epoch, by its number from 0, holds in all processes."""
        return [self.ids[row] for row in self._order(epoch).split(self.batch_size)[number].tolist()]

    def _order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(len(self.items))
        generator = torch.Generator().manual_seed(seed_from("order", self.seed, epoch))
        return torch.randperm(len(self.items), generator=generator)


@dataclass(frozen=True)
class Objective:
    """One network and the loss that trains it.

    Attributes:
        name: of the network, as the checkpoint calls it.
        network: whose parameters this objective updates; `loss` calls this very module, which is wrapped where there
            are several processes (see `vqad_lib.distributed.parallel`).
        loss: (batch, epoch) -> {"loss": to minimise, "monitored": what early stopping compares, others to log}, each
            a () tensor. "monitored" may be left out where it is the loss; the first objective's counts. "code_share",
            (K,), is how often each code was chosen: of it the epoch's usage and perplexity are logged.
        learning_rate_factor: times `TrainingConfig.learning_rate`.
    """

    name: str
    network: nn.Module
    loss: Callable[[Tensor, int], Losses]
    learning_rate_factor: float = 1.0


def should_stop(history: list[dict[str, float]], *, network: str, patience: int) -> bool:
    """Stop once the validation loss has exceeded the training loss more than `patience` times (section 4.1).

    Args:
        history: a row per epoch; those without a validation loss count nothing.
        network: name of the objective that is validated.
        patience: how many times are allowed.
    """
    key = f"{network}_monitored"
    return sum(row.get(f"validation_{key}", -math.inf) > row[f"train_{key}"] for row in history) > patience


def fit(
    objectives: list[Objective],
    *,
    train: Batches,
    validation: Batches,
    config: TrainingConfig,
    folder: Path,
    device: torch.device,
) -> pd.DataFrame:
    """Train until early stopping or `config.max_epochs`, resuming from `folder` if a run was cut off there.

    Several processes share each batch and end with the same weights. The first one writes.

    Args:
        objectives: updated in this order on every batch; the first one's monitored loss is validated.
        train, validation: batches; validation is gone through every `config.validate_every_epochs` epochs.
        folder: gets checkpoints while training, then `<name>.safetensors`, `curves.csv` and, last, `done.json`.

    Returns:
        One row per epoch: epoch, train_*, validation_*, seconds. The objectives' networks hold the last weights.

    Raises:
        VqadError: a loss or a gradient is not finite: its step is not made, the last checkpoint stays, and the images
            of the batch are named; the folder cannot be written.
    """
    networks = {objective.name: bare(objective.network) for objective in objectives}
    optimisers = {
        objective.name: torch.optim.Adam(
            [p for p in objective.network.parameters() if p.requires_grad],
            lr=config.learning_rate,
            betas=config.adam_betas,
            fused=True,
        )
        for objective in objectives
    }
    state = TrainingState(networks, optimisers)
    if load_checkpoint(folder, state) and process().is_first:
        print(f"resuming after epoch {state.epoch} of at most {config.max_epochs}")
    parallel.check_agreement(state.epoch)
    autocast = partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")
    stops = partial(should_stop, network=objectives[0].name, patience=config.patience)
    saved_at = time.monotonic()
    while state.epoch < config.max_epochs and not stops(state.history):
        started = time.monotonic()
        row = _train(objectives, train, state, config, autocast)
        if state.epoch % config.validate_every_epochs == 0 or state.epoch == config.max_epochs:
            row |= _validate(objectives, validation, state.epoch, autocast)
        row["seconds"] = time.monotonic() - started
        state.history.append(row)
        if process().is_first and time.monotonic() - saved_at > CHECKPOINT_EVERY_S:
            save_checkpoint(folder, state)
            saved_at = time.monotonic()
    history = _finish(folder, state, stopped=stops(state.history))
    barrier()  # until the first process has written the weights
    return history


def _train(
    objectives: list[Objective], batches: Batches, state: TrainingState, config: TrainingConfig, autocast: Callable
) -> dict[str, float]:
    """One epoch; returns its row."""
    state.epoch += 1
    _set_learning_rate(objectives, state, config)
    parallel.part_random_streams(batches.seed, state.epoch)
    for objective in objectives:
        objective.network.train()
    title = f"{objectives[0].name}: epoch {state.epoch} of at most {config.max_epochs}"
    tally = _Tally()
    shown = progress(batches.shards(state.epoch), what=title, total=len(batches), unit="batch")
    for number, (batch, shard) in enumerate(shown):
        for objective in objectives:
            optimiser = state.optimisers[objective.name]
            optimiser.zero_grad(set_to_none=True)
            with autocast():
                losses = objective.loss(batch, state.epoch)
            (losses["loss"] * shard.weight).backward()
            size = size_of_step(objective.network, losses["loss"])
            if not size.isfinite():
                ids = batches.ids_of(state.epoch, number)
                named = ", ".join(ids[:_NAMED]) + " ..." * (len(ids) > _NAMED)
                raise VqadError(
                    f"{objective.name}: loss or gradient is {size.item()} in epoch {state.epoch}, at {named}: training "
                    f"diverged, or an image is unlike others; lower training.{objectives[0].name}.learning_rate in the "
                    "profile"
                )
            optimiser.step()
            tally.add(losses, objective.name, shard.n)
    return {"epoch": float(state.epoch)} | tally.row(len(batches.items), "train", objectives[0].name)


def size_of_step(network: nn.Module, loss: Tensor) -> Tensor:
    """The norm of all gradients, and the loss: a () tensor that is not finite if one of them is not."""
    return nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None]) + loss.detach()


def _validate(objectives: list[Objective], batches: Batches, epoch: int, autocast: Callable) -> dict[str, float]:
    first = objectives[0]
    for objective in objectives:
        objective.network.eval()
    tally = _Tally()
    with torch.no_grad(), autocast():
        for batch, shard in batches.shards(epoch):
            tally.add(first.loss(batch, epoch), first.name, shard.n)
    return tally.row(len(batches.items), "validation", first.name)


def _set_learning_rate(objectives: list[Objective], state: TrainingState, config: TrainingConfig) -> None:
    """Linear from 1 in the first epoch to the final factor in the last; 1 throughout in the paper."""
    done = (state.epoch - 1) / max(config.max_epochs - 1, 1)
    factor = 1 + done * (config.final_learning_rate_factor - 1)
    for objective in objectives:
        for group in state.optimisers[objective.name].param_groups:
            group["lr"] = config.learning_rate * objective.learning_rate_factor * factor


class _Tally:
    """What the losses of an epoch add up to, on the device: reading a value at every step would make the host wait."""

    def __init__(self) -> None:
        self.sums: Losses = {}
        self.extremes: Losses = {}

    def add(self, losses: Losses, name: str, n: int) -> None:
        for key, value in ({"monitored": losses["loss"]} | losses).items():
            label, value = f"{name}_{key}", value.detach().double()
            self.sums[label] = self.sums[label] + value * n if label in self.sums else value * n
            if key in EXTREMES:
                for word, furthest in (("lowest", torch.minimum), ("highest", torch.maximum)):
                    known = self.extremes.get(f"{label}_{word}", value)
                    self.extremes[f"{label}_{word}"] = furthest(known, value)

    def row(self, n: int, part: str, first: str) -> dict[str, float]:
        """Averages over n items, and the extremes.

        Raises:
            VqadError: one is not finite.
        """
        sizes = [value.numel() for value in self.sums.values()]
        totals = parallel.sum_over_processes(torch.cat([value.reshape(-1) for value in self.sums.values()]))
        found: dict[str, float] = {}
        for key, total in zip(self.sums, totals.cpu().split(sizes), strict=True):
            if key.endswith("_code_share"):
                used, perplexity = usage_of(total / n)
                found |= {
                    key.replace("code_share", "codes_used"): used,
                    key.replace("code_share", "perplexity"): perplexity,
                }
            else:
                found[key] = total.item() / n
        found |= {key: value.item() for key, value in self.extremes.items()}  # the same in every process
        for key, value in found.items():
            if not math.isfinite(value):
                raise VqadError(
                    f"{part}_{key} is {value}: training diverged; lower training.{first}.learning_rate in the profile"
                )
        return {f"{part}_{key}": value for key, value in found.items()}


def _finish(folder: Path, state: TrainingState, *, stopped: bool) -> pd.DataFrame:
    history = pd.DataFrame(state.history)
    history = history[["epoch", *sorted(history.columns.difference(["epoch", "seconds"])), "seconds"]]
    for network in state.networks.values():
        network.eval()
    if not process().is_first:
        return history
    for name, network in state.networks.items():
        write_bytes(folder / f"{name}.safetensors", weights_bytes(network))
    write_text(folder / "curves.csv", history.to_csv(index=False, lineterminator="\n"))
    ended = {"epochs": state.epoch, "stopped_by": "early stopping" if stopped else "cap on epochs"}
    took = {"seconds": history["seconds"].sum(), "processes": process().size}
    write_json(folder / "done.json", ended | took)
    remove_checkpoint(folder)  # several times the weights, and of no more use
    return history


def finished(folder: Path) -> dict | None:
    """The summary of a finished run in `folder` (epochs, stopped_by, seconds, processes), or None."""
    return read_json(folder / "done.json") if (folder / "done.json").exists() else None
