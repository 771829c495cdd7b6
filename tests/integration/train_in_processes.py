"""What test_distributed.py starts, alone or in several processes: train small networks, and write what each one holds.

    python train_in_processes.py FOLDER NETWORK...

With VQAD_WAIT_AT=2 process 0 waits for its end once the checkpoint of epoch 2 is there, and so do the others.

Everything is float64, and single precision is made to be double: Adam divides a gradient by its own size, so that where
a gradient is nothing but rounding (a bias before a normalisation, for example) float32 steps differ by whole learning
rates between any two orders of summation. In float64 such gradients are far below Adam's epsilon.
"""

import os
import sys
import time
from pathlib import Path

import torch
import yaml

from vqad_lib.config import AutoencoderConfig, GanConfig, Gpt2Config, PixelSnailConfig, TrainingConfig
from vqad_lib.distributed.parallel import bare
from vqad_lib.distributed.process import joined, process
from vqad_lib.files import write_json
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.discriminator import PatchDiscriminator
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.models.quantiser import DEAD_BELOW, Quantiser
from vqad_lib.training import loop
from vqad_lib.training.checkpoint import TrainingState, save_checkpoint, weights_bytes
from vqad_lib.training.loop import Batches, Objective, fit
from vqad_lib.training.objectives import GanTraining, prior_objectives, vqvae_objectives

SMOKE = yaml.safe_load((Path(__file__).parents[2] / "profiles" / "smoke.yaml").read_text(encoding="utf-8"))
EPOCHS = 4
ITEMS, BATCH = 19, 6  # batches of 6, 6, 6 and 1: of the last one, two processes have none and one row
VALIDATION = 9  # 6 and 3

restarted: list[int] = []
restart = Quantiser._restart


def count_and_restart(quantiser: Quantiser, z_e: torch.Tensor) -> None:
    """Dead codes restart as ever, and are counted."""
    restarted.append(int((quantiser.running_count < DEAD_BELOW).sum()))
    restart(quantiser, z_e)


def save_and_wait(folder: Path, state: TrainingState) -> None:
    save_checkpoint(folder, state)
    if os.environ.get("VQAD_WAIT_AT") == str(state.epoch):
        (folder / "waits").touch()
        time.sleep(3600)


class Roughness(torch.nn.Module):
    """Stands in for LPIPS, which takes seconds to import: mean absolute difference of horizontal steps."""

    def forward(self, images: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        return (images - reconstruction).diff(dim=-1).abs().mean()


def autoencoder_of(**changes: object) -> tuple[VQAutoencoder, AutoencoderConfig]:
    channels = tuple(SMOKE["autoencoder"]["channels"])
    config = AutoencoderConfig(**SMOKE["autoencoder"] | {"channels": channels} | changes)
    return VQAutoencoder(config), config


def objectives_of(kind: str) -> list[Objective]:
    """What trains a network of profile smoke, with first weights that are the same everywhere."""
    torch.manual_seed(0)
    if kind == "vqvae":  # running averages, codebook from the first batch; so many codes, so soon dead, that some are
        return vqvae_objectives(*autoencoder_of(codebook_size=256, codebook_decay=0.5))
    if kind == "vqgan":
        model, config = autoencoder_of(
            codebook_update="gradient", codebook_init_from_data=False, restart_dead_codes=False
        )
        judge, perceptual = PatchDiscriminator(channels=8, layers=2), Roughness()
        gan = GanConfig(**SMOKE["gan"] | {"discriminator_start_epoch": 2, "perceptual_crop_px": 9})
        return GanTraining(model, judge, perceptual, autoencoder=config, gan=gan).objectives()
    dropout = {"dropout": 0.1 if kind.endswith("_dropout") else 0.0}
    sizes = {"codebook_size": 32, "grid": (4, 5)}
    if kind.startswith("gpt2"):
        from vqad_lib.models.gpt2 import Gpt2

        return prior_objectives(kind, Gpt2(Gpt2Config(**SMOKE["gpt2"] | dropout), **sizes))
    return prior_objectives(kind, PixelSnail(PixelSnailConfig(**SMOKE["pixelsnail"] | dropout), **sizes))


def items_of(kind: str) -> torch.Tensor:
    """Images for an autoencoder, code grids for a prior."""
    generator = torch.Generator().manual_seed(1)
    if kind in ("vqvae", "vqgan"):
        return torch.randint(256, (ITEMS, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return torch.randint(32, (ITEMS, 4, 5), generator=generator)


def train(kind: str, folder: Path) -> None:
    """Fit it in `folder`, then write `rank_<rank>_<network>.safetensors`: what this process, not the file, holds."""
    items, objectives = items_of(kind), objectives_of(kind)
    restarted.clear()
    fit(
        objectives,
        train=Batches(items, batch_size=BATCH, seed=0, shuffle=True),
        validation=Batches(items[:VALIDATION], batch_size=BATCH, seed=0, shuffle=False),
        config=TrainingConfig(**SMOKE["training"]["vqvae"] | {"max_epochs": EPOCHS, "adam_betas": (0.5, 0.9)}),
        folder=folder,
        device=process().device,
    )
    for objective in objectives:
        held = weights_bytes(bare(objective.network))
        (folder / f"rank_{process().rank}_{objective.name}.safetensors").write_bytes(held)
    random_numbers = torch.rand(8).tolist()  # from where the process's random stream has come to
    write_json(folder / f"rank_{process().rank}.json", {"restarted": sum(restarted), "random": random_numbers})


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    loop.CHECKPOINT_EVERY_S = -1.0  # a checkpoint at every epoch
    loop.save_checkpoint = save_and_wait
    Quantiser._restart = count_and_restart
    with joined():
        for name in sys.argv[2:]:
            train(name, Path(sys.argv[1]) / name)
