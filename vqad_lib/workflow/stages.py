"""The stages that notebooks share: trained networks and scores, made at first use and found again afterwards.

A network lies in a folder named by a digest of all that shaped it: code, profile, data, split and seed. So nothing
stale is ever loaded, and going back to an earlier setting finds the earlier network.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vqad_lib.config import Profile, section_digest_source
from vqad_lib.detectors.scoring import Detectors, encode_all
from vqad_lib.distributed import first_process_first
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.discriminator import PatchDiscriminator
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.models.prior import Prior
from vqad_lib.training.batches import Batches, seed_from
from vqad_lib.training.checkpoint import load_weights
from vqad_lib.training.loop import Objective, finished, fit
from vqad_lib.training.parallel import bare
from vqad_lib.workflow.digests import code_digest, digest
from vqad_lib.workflow.launch import devices_to_start, run_distributed
from vqad_lib.workflow.run import Run

AUTOENCODERS = {"vqvae": "VQ-VAE", "vqgan": "VQ-GAN"}
PRIORS = {"pixelsnail": "PixelSNAIL", "gpt2": "GPT-2"}
COMBINATIONS = {
    ("vqvae", "pixelsnail"): "VP",
    ("vqvae", "gpt2"): "VT",
    ("vqgan", "pixelsnail"): "GP",
    ("vqgan", "gpt2"): "GT",
}


@dataclass(frozen=True)
class Trained:
    """A network in evaluation mode, the folder it lies in, and how its training ended."""

    network: torch.nn.Module
    folder: Path
    summary: dict

    @property
    def curves(self) -> pd.DataFrame:
        """One row per epoch: epoch, train_*, validation_*, seconds."""
        return pd.read_csv(self.folder / "curves.csv")


def autoencoder(run: Run, *, kind: str, protocol: str) -> Trained:
    """The VQ-VAE or VQ-GAN of a run, trained if it is not there yet.

    Args:
        kind: "vqvae" or "vqgan".
        protocol: the split to train on, "paper" or "official".
    """
    folder = _autoencoder_folder(run, kind, protocol)
    torch.manual_seed(seed_from(run.profile.seed, kind, protocol))
    model = VQAutoencoder(run.profile.autoencoder).to(run.device, memory_format=torch.channels_last)
    if not finished(folder) and devices_to_start() > 1:
        run_distributed(["train", *run.options, f"--autoencoder={kind}", f"--protocol={protocol}"])
    elif not finished(folder):
        train, validation = (_frames_of(run, protocol, part) for part in ("train", "validation"))
        _fit(run, kind, _autoencoder_objectives(run, kind, model), train, validation, folder)
    load_weights(folder / f"{kind}.safetensors", model)
    return Trained(model.eval(), folder, finished(folder) or {})


def prior(run: Run, *, kind: str, autoencoder_kind: str, protocol: str) -> Trained:
    """The PixelSNAIL or GPT-2 prior on the codes of an autoencoder, trained if it is not there yet.

    Args:
        kind: "pixelsnail" or "gpt2".
        autoencoder_kind: "vqvae" or "vqgan"; it must have been trained before.
        protocol: "paper" or "official".
    """
    coder = autoencoder(run, kind=autoencoder_kind, protocol=protocol)
    folder = _prior_folder(run, kind, autoencoder_kind, protocol)
    torch.manual_seed(seed_from(run.profile.seed, autoencoder_kind, kind, protocol))
    network = new_prior(run.profile, kind, grid=run.grid).to(run.device)
    if not finished(folder) and devices_to_start() > 1:
        names = [f"--autoencoder={autoencoder_kind}", f"--prior={kind}", f"--protocol={protocol}"]
        run_distributed(["train", *run.options, *names])
    elif not finished(folder):
        from vqad_lib.training.priors import prior_objectives

        train, validation = (
            encode_all(coder.network, _frames_of(run, protocol, part)) for part in ("train", "validation")
        )
        _fit(run, kind, prior_objectives(kind, network), train, validation, folder)
    load_weights(folder / f"{kind}.safetensors", network)
    return Trained(network.eval(), folder, finished(folder) or {})


def detectors(run: Run, *, autoencoder_kind: str, prior_kind: str, protocol: str) -> Detectors:
    """The four detectors of a trained combination."""
    coder = autoencoder(run, kind=autoencoder_kind, protocol=protocol)
    learnt = prior(run, kind=prior_kind, autoencoder_kind=autoencoder_kind, protocol=protocol)
    return Detectors(coder.network, learnt.network, run.profile.detectors, run.profile.seed)


def is_trained(run: Run, *, autoencoder_kind: str, prior_kind: str, protocol: str) -> bool:
    """Whether both networks of a combination are there, so that `detectors` would train nothing."""
    coder = _autoencoder_folder(run, autoencoder_kind, protocol)
    return bool(finished(coder) and finished(_prior_folder(run, prior_kind, autoencoder_kind, protocol)))


def parts_folder(run: Run, *, autoencoder_kind: str, prior_kind: str, protocol: str) -> Path:
    """Where the scores of a combination are kept as they come, chunk by chunk."""
    learnt = prior(run, kind=prior_kind, autoencoder_kind=autoencoder_kind, protocol=protocol)
    key = digest(
        learnt.folder.name,
        section_digest_source(run.profile, ["detectors", "evaluation"]),
        code_digest(run.root, ["detectors", "evaluation/selection.py"], alone=["workflow/scores.py"]),
    )
    return learnt.folder.parent / f"scores_{autoencoder_kind}_{prior_kind}_{key[:12]}"


def _autoencoder_folder(run: Run, kind: str, protocol: str) -> Path:
    sections = ["autoencoder", f"training.{kind}"] + (["gan"] if kind == "vqgan" else [])
    return _folder(run, kind, protocol, sections)


def _prior_folder(run: Run, kind: str, autoencoder_kind: str, protocol: str) -> Path:
    coder = _autoencoder_folder(run, autoencoder_kind, protocol).name
    return _folder(run, f"{autoencoder_kind}_{kind}", protocol, [kind, f"training.{kind}"], coder)


def _folder(run: Run, name: str, protocol: str, sections: list[str], *upstream: str) -> Path:
    profile = section_digest_source(run.profile, [*sections, "data", "threads_per_stage"])
    code = code_digest(
        run.root,
        ["models", "losses", "training", "data/splits.py", "data/survey.py"],
        alone=["workflow/stages.py"],
    )
    key = digest(profile, code, run.frames.digest, protocol, *upstream)
    return run.derived / protocol / f"{name}_{key[:12]}"


def _frames_of(run: Run, protocol: str, part: str) -> Tensor:
    """Normal frames of a subset; anomalous validation frames are kept out of training's stopping rule too."""
    normal = (run.subsets(protocol) == part) & (run.frames.index["label"].to_numpy() == 0)
    return run.images(np.flatnonzero(normal))


def _fit(run: Run, kind: str, objectives: list[Objective], train: Tensor, validation: Tensor, folder: Path) -> None:
    config = getattr(run.profile.training, kind)
    options = {"batch_size": config.batch_size, "seed": run.profile.seed}
    if config.compile and run.device.type == "cuda":
        for objective in objectives:
            bare(objective.network).compile()
    fit(
        objectives,
        train=Batches(train, shuffle=True, **options),
        validation=Batches(validation, shuffle=False, **options),
        config=config,
        folder=folder,
        device=run.device,
    )


def _autoencoder_objectives(run: Run, kind: str, model: VQAutoencoder) -> list[Objective]:
    from vqad_lib.training.autoencoders import GanTraining, vqvae_objectives

    if kind == "vqvae":
        return vqvae_objectives(model, run.profile.autoencoder)
    from vqad_lib.losses.perceptual import PerceptualLoss  # torchvision takes seconds to import

    gan = run.profile.gan
    perceptual = None
    if gan.perceptual_weights != "none":
        with first_process_first():  # one download for all
            perceptual = PerceptualLoss(network=gan.perceptual_network, weights=gan.perceptual_weights)
        perceptual = perceptual.to(run.device)
    discriminator = PatchDiscriminator(channels=gan.discriminator_channels, layers=gan.discriminator_layers)
    discriminator = discriminator.to(run.device, memory_format=torch.channels_last)
    training = GanTraining(model, discriminator, perceptual, autoencoder=run.profile.autoencoder, gan=gan)
    return training.objectives()


def new_prior(profile: Profile, kind: str, *, grid: tuple[int, int]) -> Prior:
    """An untrained prior of a profile's sizes: "pixelsnail" or "gpt2", over (h, w) grids."""
    sizes = {"codebook_size": profile.autoencoder.codebook_size, "grid": grid}
    if kind == "pixelsnail":
        return PixelSnail(profile.pixelsnail, **sizes)
    from vqad_lib.models.gpt2 import Gpt2  # transformers takes seconds to import

    return Gpt2(profile.gpt2, **sizes)
