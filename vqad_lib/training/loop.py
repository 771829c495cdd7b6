"""The training loop: epochs over batches, one or more objectives, the paper's early stopping, exact resumption.

An objective is a network, its optimiser, and a function from a batch to a loss. A VQ-VAE or a prior has one; a VQ-GAN
has two, autoencoder and discriminator, which take turns on every batch.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from vqad_lib.config import TrainingConfig
from vqad_lib.distributed import barrier, process
from vqad_lib.errors import VqadError
from vqad_lib.files import read_json, write_bytes, write_json, write_text
from vqad_lib.progress import progress
from vqad_lib.shares import sum_over_processes, working_on
from vqad_lib.training.batches import Batches
from vqad_lib.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
    weights_bytes,
)
from vqad_lib.training.parallel import bare, check_agreement, part_random_streams

CHECKPOINT_EVERY_S = 30.0

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Objective:
    """One network and the loss that trains it.

    Attributes:
        name: of the network, as the checkpoint calls it.
        network: whose parameters this objective updates; `loss` calls this very module, which is wrapped where there
            are several processes (see `vqad_lib.training.parallel`).
        loss: (batch, epoch) -> {"loss": to minimise, "monitored": what early stopping compares, others to log}, each
            a () tensor. "monitored" may be left out where it is the loss; the first objective's counts.
        learning_rate_factor: times `TrainingConfig.learning_rate`.
    """

    name: str
    network: nn.Module
    loss: Callable[[Tensor, int], Losses]
    learning_rate_factor: float = 1.0


@dataclass
class EarlyStopping:
    """Stop once the validation loss has exceeded the training loss more than `patience` times (section 4.1)."""

    patience: int
    exceeded: int = 0

    def should_stop(self, *, training: float, validation: float) -> bool:
        """Count one comparison; True from the one that makes it more than `patience`."""
        self.exceeded += validation > training
        return self.exceeded > self.patience


def fit(
    objectives: list[Objective],
    *,
    train: Batches,
    validation: Batches,
    config: TrainingConfig,
    folder: Path,
    device: torch.device,
) -> pd.DataFrame:
    """Train until early stopping or `config.max_epochs`, going on from `folder` if a run was cut off there.

    Several processes share each batch and end with the same weights. The first one writes.

    Args:
        objectives: updated in this order on every batch; the first one's monitored loss is validated.
        train, validation: batches; validation is gone through every `config.validate_every_epochs` epochs.
        folder: gets checkpoints while training, then `<name>.safetensors`, `curves.csv` and, last, `done.json`.

    Returns:
        One row per epoch: epoch, train_*, validation_*, seconds. The objectives' networks hold the last weights.

    Raises:
        VqadError: a loss is not finite; the folder cannot be written; more processes than items in a batch.
    """
    if train.batch_size < process().size:
        raise VqadError(
            f"{process().size} processes cannot share batches of training.{objectives[0].name}.batch_size = "
            f"{train.batch_size}; start fewer"
        )
    networks = {objective.name: bare(objective.network) for objective in objectives}
    optimisers = {
        objective.name: torch.optim.Adam(
            [p for p in objective.network.parameters() if p.requires_grad],
            lr=config.learning_rate,
            betas=config.adam_betas,
            fused=device.type == "cuda",
        )
        for objective in objectives
    }
    state = TrainingState(networks, optimisers, history=[])
    if load_checkpoint(folder, state, device=device) and process().is_first:
        print(f"going on after epoch {state.epoch} of at most {config.max_epochs}")
    check_agreement(state.epoch, device)
    stopping = EarlyStopping(config.patience)
    stopped = any(_stops(stopping, row) for row in state.history)
    saved_at = time.monotonic()
    with _writer(folder / "tensorboard", state) as writer:  # of the first process; None elsewhere
        while state.epoch < config.max_epochs and not stopped:
            row = _one_epoch(objectives, state, train=train, validation=validation, config=config, device=device)
            stopped = _stops(stopping, row)
            if writer is None:
                continue
            for key, value in row.items():
                writer.add_scalar(key, value, row["epoch"])
            if time.monotonic() - saved_at > CHECKPOINT_EVERY_S:
                save_checkpoint(folder, state)
                saved_at = time.monotonic()
    history = _finish(folder, state, stopped=stopped)
    barrier()  # until the first process has written the weights
    return history


def _writer(folder: Path, state: TrainingState) -> AbstractContextManager[SummaryWriter | None]:
    if not process().is_first:
        return nullcontext()
    try:
        return SummaryWriter(folder, purge_step=state.epoch + 1)
    except OSError as error:
        raise VqadError(
            f"cannot write {folder}: {error.strerror}; free space or make the folder writable, then run again"
        ) from error


def _one_epoch(
    objectives: list[Objective],
    state: TrainingState,
    *,
    train: Batches,
    validation: Batches,
    config: TrainingConfig,
    device: torch.device,
) -> dict[str, float]:
    started = time.monotonic()
    epoch = state.epoch + 1
    _set_learning_rate(objectives, state, config, epoch)
    part_random_streams(train.seed, epoch)
    row = {"epoch": float(epoch)}
    autocast = _autocast(config, device)
    title = f"{objectives[0].name}: epoch {epoch} of at most {config.max_epochs}"
    for objective in objectives:
        objective.network.train()
    sums: Losses = {}
    for batch, share in progress(train.shares(epoch), what=title, total=len(train), unit="batch"):
        for objective in objectives:
            optimiser = state.optimisers[objective.name]
            optimiser.zero_grad(set_to_none=True)
            with working_on(share):
                with autocast():
                    losses = objective.loss(batch, epoch)
                (losses["loss"] * share.weight).backward()
            optimiser.step()
            _add(sums, losses, objective.name, share.n)
    row |= _averages(sums, len(train.items), "train", objectives[0].name)
    if epoch % config.validate_every_epochs == 0 or epoch == config.max_epochs:
        row |= _validate(objectives, validation, epoch, autocast)
    row["seconds"] = time.monotonic() - started
    state.epoch = epoch
    state.history.append(row)
    return row


def _validate(objectives: list[Objective], validation: Batches, epoch: int, autocast: Callable) -> dict[str, float]:
    first = objectives[0]
    for objective in objectives:
        objective.network.eval()
    sums: Losses = {}
    with torch.no_grad(), autocast():
        for batch, share in validation.shares(epoch):
            _add(sums, first.loss(batch, epoch), first.name, share.n)
    return _averages(sums, len(validation.items), "validation", first.name)


def _autocast(config: TrainingConfig, device: torch.device) -> Callable[[], AbstractContextManager]:
    enabled = config.precision == "bfloat16"
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def _set_learning_rate(objectives: list[Objective], state: TrainingState, config: TrainingConfig, epoch: int) -> None:
    """Linear from 1 in the first epoch to the final factor in the last; 1 throughout in the paper."""
    done = (epoch - 1) / max(config.max_epochs - 1, 1)
    factor = 1 + done * (config.final_learning_rate_factor - 1)
    for objective in objectives:
        for group in state.optimisers[objective.name].param_groups:
            group["lr"] = config.learning_rate * objective.learning_rate_factor * factor


def _add(sums: Losses, losses: Losses, name: str, n: int) -> None:
    """Sum on the device: reading a value at every step would make the host wait for it."""
    losses = {"monitored": losses["loss"]} | losses
    for key, value in losses.items():
        term = value.detach().double() * n
        label = f"{name}_{key}"
        sums[label] = sums[label] + term if label in sums else term


def _averages(sums: Losses, n: int, part: str, first: str) -> dict[str, float]:
    totals = sum_over_processes(torch.stack(list(sums.values()))).tolist()
    averages = {f"{part}_{key}": total / n for key, total in zip(sums, totals, strict=True)}
    for key, value in averages.items():
        if not -float("inf") < value < float("inf"):
            raise VqadError(f"{key} is {value}: training diverged; lower training.{first}.learning_rate in the profile")
    return averages


def _stops(stopping: EarlyStopping, row: dict[str, float]) -> bool:
    monitored = [key for key in row if key.startswith("validation_") and key.endswith("_monitored")]
    if not monitored:
        return False
    key = monitored[0].removeprefix("validation_")
    return stopping.should_stop(training=row[f"train_{key}"], validation=row[f"validation_{key}"])


def _finish(folder: Path, state: TrainingState, *, stopped: bool) -> pd.DataFrame:
    history = pd.DataFrame(state.history)
    # a run that went on from a checkpoint got its rows in another order of keys
    history = history[["epoch", *sorted(history.columns.difference(["epoch", "seconds"])), "seconds"]]
    for network in state.networks.values():
        network.eval()
    if not process().is_first:
        return history
    for name, network in state.networks.items():
        write_bytes(folder / f"{name}.safetensors", weights_bytes(network))
    write_text(folder / "curves.csv", history.to_csv(index=False, lineterminator="\n"))
    summary = {
        "epochs": state.epoch,
        "stopped_by": "early stopping" if stopped else "cap on epochs",
        "seconds": history["seconds"].sum(),
        "processes": process().size,
    }
    write_json(folder / "done.json", summary)
    remove_checkpoints(folder)  # several times the weights, and of no more use
    return history


def finished(folder: Path) -> dict | None:
    """The summary of a finished run in `folder` (epochs, stopped_by, seconds, processes), or None."""
    return read_json(folder / "done.json") if (folder / "done.json").exists() else None
