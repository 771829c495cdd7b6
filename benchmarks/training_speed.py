"""Training: images and tokens per second, with fast and with plain settings, and whether both learn the same.

The fast settings are those of `training/loop.py`: frames stay on the device as uint8, networks lie channels last, the
optimiser is fused, gradients are dropped instead of zeroed, and a step waits once, for whether it is finite. The plain
ones are what a first script has: float frames that are copied batch by batch, contiguous networks, an optimiser that
goes through the parameters one by one, gradients set to zero, and each loss read at once.
"""

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import reference_implementations as reference
from benchmarks.flops import count_gflop, products_share
from benchmarks.timing import Timing, measure
from vqad_lib.config import Profile, TrainingConfig
from vqad_lib.errors import VqadError
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.registry import PRIORS
from vqad_lib.progress import progress
from vqad_lib.seeds import seed_from
from vqad_lib.training.loop import Batches, size_of_step
from vqad_lib.training.objectives import negative_log_likelihood, vq_terms

SETTINGS = ("plain", "fast")

Loss = Callable[[nn.Module, Tensor], Tensor]


class Trainer:
    """A network that trains step by step, with one of the two settings.

    Args:
        network: trained in place, and moved to the device.
        loss: (network, batch) -> () tensor.
        items: (n, 3, H, W) uint8 images or (n, h, w) int64 grids, on the device.
        config: batch size, learning rate, precision.
        fast: which settings, see the module.
        seed: of the order of batches.
    """

    def __init__(
        self, network: nn.Module, loss: Loss, items: Tensor, config: TrainingConfig, *, fast: bool, seed: int = 0
    ) -> None:
        device = items.device
        self.loss, self.fast, self.device, self.config = loss, fast, device, config
        layout = torch.channels_last if fast else torch.contiguous_format
        self.network = network.to(device, memory_format=layout).train()
        options = {"fused": True} if fast else {"foreach": False}
        parameters = [p for p in network.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, betas=config.adam_betas, **options)
        kept = items if fast else items.cpu()
        self.batches = _forever(Batches(kept, batch_size=config.batch_size, seed=seed, shuffle=True))

    def step(self) -> Tensor:
        """One step on the next batch: its loss, a () tensor."""
        batch = next(self.batches)
        if not self.fast:
            batch = batch.contiguous().to(self.device)
        self.optimiser.zero_grad(set_to_none=self.fast)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            loss = self.loss(self.network, batch)
        loss.backward()
        if self.fast and not size_of_step(self.network, loss).isfinite():
            raise VqadError("the benchmark's loss is not finite")
        self.optimiser.step()
        if not self.fast:
            loss.item()  # waits for the device
        return loss.detach()


def _forever(batches: Batches) -> Iterator[Tensor]:
    """Epoch after epoch, full batches only, so that all steps cost the same."""
    for epoch in count(1):
        yield from (batch for batch, _ in batches.shards(epoch) if len(batch) == batches.batch_size)


def training_rows(profile: Profile, frames: Tensor, codes: Tensor) -> pd.DataFrame:
    """How fast the VQ-VAE, MONAI's beside it, and both priors train.

    Args:
        frames: (n, 3, H, W) uint8, on the device; at least a batch.
        codes: (n, h, w) int64 grids of an autoencoder, on the device; at least a batch.

    Returns:
        network, settings, parameters, gflop_per_step, batch, unit ("images/s" or "tokens/s"), rate with _low and
        _high, products_share (`flops.products_share` of a step: without all else, the rate divided by it), calls (each
        of `benchmarks.training_steps` steps).
    """
    grid = tuple(codes.shape[1:])
    tables = [_rate_rows(profile, "VQ-VAE", "images/s", _vqvae_trainers(profile, frames))]
    for prior in progress(PRIORS.values(), what="training", total=len(PRIORS)):
        trainers = {fast: prior_trainer(profile, prior.key, codes, fast=fast == "fast") for fast in SETTINGS}
        tables.append(_rate_rows(profile, prior.title, "tokens/s", trainers, tokens=grid[0] * grid[1]))
    return pd.concat(tables, ignore_index=True)


def curve_rows(profile: Profile, frames: Tensor) -> pd.DataFrame:
    """Loss curves of a VQ-VAE with both settings, from the same initial weights and on the same batches, seed by seed.

    Returns:
        seed, step (from 1), plain, fast: the loss (eq. 7) at each step.
    """
    config, rows = profile.benchmarks, []
    for seed in progress(range(config.curve_seeds), what="loss curves", unit="seed"):
        trainers = {}
        for settings in SETTINGS:
            torch.manual_seed(seed_from("benchmark", seed))
            trainers[settings] = vqvae_trainer(profile, frames, fast=settings == "fast", seed=seed)
        curves = {}
        for settings, trainer in trainers.items():
            torch.manual_seed(seed_from("benchmark", seed))  # the codebook starts from the first batch, by chance
            curves[settings] = [trainer.step() for _ in range(config.curve_steps)]
        table = {settings: torch.stack(curve).cpu().numpy() for settings, curve in curves.items()}
        rows.append(pd.DataFrame({"seed": seed, "step": np.arange(1, config.curve_steps + 1), **table}))
    return pd.concat(rows, ignore_index=True)


def settings_rows(curves: pd.DataFrame) -> pd.DataFrame:
    """Where the curves end: one row per settings.

    Args:
        curves: see `curve_rows`.

    Returns:
        settings, seeds, steps, final_loss (the mean over seeds of the mean loss of the last tenth of the steps, at
        least one), final_loss_low and _high (the lowest and the highest seed), and farthest_apart (the largest
        difference between the two settings at one seed).
    """
    steps = int(curves["step"].max())
    last = curves[curves["step"] > steps - max(steps // 10, 1)]
    finals = last.groupby("seed")[["plain", "fast"]].mean()
    return pd.DataFrame(
        {
            "settings": settings,
            "seeds": len(finals),
            "steps": steps,
            "final_loss": finals[settings].mean(),
            "final_loss_low": finals[settings].min(),
            "final_loss_high": finals[settings].max(),
            "farthest_apart": (finals["plain"] - finals["fast"]).abs().max(),
        }
        for settings in SETTINGS
    )


def vqvae_trainer(profile: Profile, frames: Tensor, *, fast: bool, seed: int = 0) -> Trainer:
    """An untrained VQ-VAE of the profile, ready to learn these (n, 3, H, W) uint8 frames by eq. 7."""

    def loss(model: nn.Module, images: Tensor) -> Tensor:
        return vq_terms(model, images, profile.autoencoder)[1]["loss"]

    network = VQAutoencoder(profile.autoencoder)
    return Trainer(network, loss, frames, profile.training.vqvae, fast=fast, seed=seed)


def prior_trainer(profile: Profile, kind: str, codes: Tensor, *, fast: bool) -> Trainer:
    """An untrained prior of the profile, ready to learn these (n, h, w) int64 grids by eq. 19."""
    network = PRIORS[kind].make(profile, tuple(codes.shape[1:]))
    return Trainer(network, negative_log_likelihood, codes, getattr(profile.training, kind), fast=fast)


def _vqvae_trainers(profile: Profile, frames: Tensor) -> dict[str, Trainer]:
    trainers = {settings: vqvae_trainer(profile, frames, fast=settings == "fast") for settings in SETTINGS}
    if reference.is_installed("monai"):
        for settings in SETTINGS:
            network = reference.monai_vqvae(profile.autoencoder)
            options = {"fast": settings == "fast"}
            trainers[f"MONAI's, {settings}"] = Trainer(network, _monai_loss, frames, profile.training.vqvae, **options)
    return trainers


def _monai_loss(network: nn.Module, images: Tensor) -> Tensor:
    reconstruction, quantisation = network(images)
    return F.mse_loss(reconstruction, images) + quantisation


def _rate_rows(
    profile: Profile, title: str, unit: str, trainers: dict[str, Trainer], *, tokens: int = 1
) -> pd.DataFrame:
    config = profile.benchmarks
    timings: dict[str, Timing] = measure(
        {name: lambda trainer=trainer: _steps(trainer, config.training_steps) for name, trainer in trainers.items()},
        repeats=config.repeats,
        once_above_s=config.once_above_s,
        device=next(iter(trainers.values())).device,
    )
    return pd.DataFrame(
        {
            "network": title,
            "settings": name,
            "parameters": reference.parameter_count(trainers[name].network),
            "gflop_per_step": count_gflop(trainers[name].step),
            "batch": trainers[name].config.batch_size,
            "unit": unit,
            **timing.rate("rate", config.training_steps * trainers[name].config.batch_size * tokens),
            "products_share": products_share(trainers[name].step, trainers[name].device),
            "calls": len(timing.samples_s),
        }
        for name, timing in timings.items()
    )


def _steps(trainer: Trainer, n: int) -> None:
    for _ in range(n):
        trainer.step()
