"""What the tests of several processes start, by itself or under torchrun: train small networks, then write what each
process holds.

    python train_in_processes.py FOLDER EPOCHS NETWORK...

Everything is float64, and single precision is made to be double: Adam divides a gradient by its own size, so that where
a gradient is nothing but rounding (a bias before a normalisation, for example) float32 steps differ by whole learning
rates between any two orders of summation. In float64 such gradients are far below Adam's epsilon.
"""

import sys
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from vqad_lib.config import AutoencoderConfig, GanConfig, Gpt2Config, PixelSnailConfig, TrainingConfig
from vqad_lib.distributed import joined, process
from vqad_lib.losses.perceptual import PerceptualLoss
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.discriminator import PatchDiscriminator
from vqad_lib.models.gpt2 import Gpt2
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.training import loop
from vqad_lib.training.autoencoders import GanTraining, vqvae_objectives
from vqad_lib.training.batches import Batches
from vqad_lib.training.loop import Objective, fit
from vqad_lib.training.parallel import bare
from vqad_lib.training.priors import prior_objectives

SMOKE = yaml.safe_load((Path(__file__).parents[2] / "profiles" / "smoke.yaml").read_text(encoding="utf-8"))
IMAGES, CODES, BATCH = 19, 11, 6  # batches of 6, 6, 6, 1 and 6, 5: the shares of two processes are uneven, one is empty


def objectives_of(kind: str) -> list[Objective]:
    """The objectives of a network of profile smoke, with first weights that are the same everywhere."""
    torch.manual_seed(0)
    autoencoder = AutoencoderConfig(**SMOKE["autoencoder"] | {"channels": tuple(SMOKE["autoencoder"]["channels"])})
    if kind == "vqvae":
        return vqvae_objectives(VQAutoencoder(autoencoder), autoencoder)
    if kind == "vqgan":
        gan = GanConfig(**SMOKE["gan"] | {"discriminator_start_epoch": 2})
        discriminator = PatchDiscriminator(channels=8, layers=2)
        perceptual = PerceptualLoss(network="alex", weights="random")
        training = GanTraining(VQAutoencoder(autoencoder), discriminator, perceptual, autoencoder=autoencoder, gan=gan)
        return training.objectives()
    dropout = {"dropout": 0.1 if kind.endswith("_dropout") else 0.0}
    sizes = {"codebook_size": 32, "grid": (4, 5)}
    if kind.startswith("gpt2"):
        return prior_objectives(kind, Gpt2(Gpt2Config(**SMOKE["gpt2"] | dropout), **sizes))
    return prior_objectives(kind, PixelSnail(PixelSnailConfig(**SMOKE["pixelsnail"] | dropout), **sizes))


def items_of(kind: str) -> torch.Tensor:
    """Images for an autoencoder, code grids for a prior."""
    generator = torch.Generator().manual_seed(1)
    if kind in ("vqvae", "vqgan"):
        return torch.randint(256, (IMAGES, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return torch.randint(32, (CODES, 4, 5), generator=generator)


def train(kind: str, folder: Path, *, epochs: int) -> None:
    """Fit it in `folder`, then write `rank_<rank>_<network>.safetensors`: what this process, not the file, holds."""
    config = TrainingConfig(**SMOKE["training"]["vqvae"] | {"max_epochs": epochs, "adam_betas": (0.5, 0.9)})
    batches = Batches(items_of(kind), batch_size=BATCH, seed=0, shuffle=True)
    objectives = objectives_of(kind)
    fit(
        objectives,
        train=batches,
        validation=Batches(items_of(kind)[:7], batch_size=BATCH, seed=0, shuffle=False),
        config=config,
        folder=folder,
        device=process().device,
    )
    for objective in objectives:
        state = {key: value.contiguous() for key, value in bare(objective.network).state_dict().items()}
        save_file(state, folder / f"rank_{process().rank}_{objective.name}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    loop.CHECKPOINT_EVERY_S = -1.0
    with joined():
        for name in sys.argv[3:]:
            train(name, Path(sys.argv[1]) / name, epochs=int(sys.argv[2]))
