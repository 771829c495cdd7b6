"""The networks of a run: `train_*` makes what is not there yet, `load_*` never trains.

A network lies in a folder named by a digest of all that shaped it: code, profile, data, split and seed. So nothing
stale is ever loaded, and going back to an earlier setting finds the earlier network.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vqad_lib.config import section_digest_source
from vqad_lib.detectors.scoring import Detectors, encode_all
from vqad_lib.distributed.launch import devices_to_start, run_distributed
from vqad_lib.distributed.parallel import bare
from vqad_lib.errors import VqadError
from vqad_lib.experiment.digests import code_digest, digest
from vqad_lib.experiment.run import Run
from vqad_lib.models.registry import AUTOENCODERS, PRIORS
from vqad_lib.seeds import seed_from
from vqad_lib.training.checkpoint import load_weights
from vqad_lib.training.loop import Batches, Objective, finished, fit


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


def train_autoencoder(run: Run, *, autoencoder: str, scheme: str) -> Trained:
    """Train an autoencoder of a run, unless it is there.

    Under `make DEVICES=` several processes train it together; those of a run that was `changed` could not open it, so
    its networks are trained in this process.

    Args:
        autoencoder: a key of `AUTOENCODERS`.
        scheme: how frames are split, "paper" or "official".
    """
    folder = autoencoder_folder(run, autoencoder, scheme)
    if not finished(folder) and not _trained_by_several(run, autoencoder=autoencoder, scheme=scheme):
        from vqad_lib.training.objectives import AUTOENCODER_OBJECTIVES

        torch.manual_seed(seed_from(run.profile.seed, autoencoder, scheme))
        model = _new_autoencoder(run, autoencoder)
        train, validation = (_normal_frames(run, scheme, subset) for subset in ("train", "validation"))
        _fit(run, autoencoder, AUTOENCODER_OBJECTIVES[autoencoder](model, run.profile), train, validation, folder)
    return load_autoencoder(run, autoencoder=autoencoder, scheme=scheme)


def load_autoencoder(run: Run, *, autoencoder: str, scheme: str) -> Trained:
    """A trained autoencoder; arguments as `train_autoencoder`.

    Raises:
        VqadError: it has not been trained yet.
    """
    what = f"{AUTOENCODERS[autoencoder].title}, split {scheme}"
    folder, network = autoencoder_folder(run, autoencoder, scheme), _new_autoencoder(run, autoencoder)
    return _load(network, folder, autoencoder, what, "02_train_autoencoder")


def train_prior(run: Run, *, autoencoder: str, prior: str, scheme: str) -> Trained:
    """Train a prior on the codes of a trained autoencoder, unless it is there; see `train_autoencoder`.

    Args:
        prior: a key of `PRIORS`.

    Raises:
        VqadError: the autoencoder has not been trained yet.
    """
    coder = load_autoencoder(run, autoencoder=autoencoder, scheme=scheme).network
    folder, names = prior_folder(run, autoencoder, prior, scheme), {"autoencoder": autoencoder, "prior": prior}
    if not finished(folder) and not _trained_by_several(run, **names, scheme=scheme):
        from vqad_lib.training.objectives import prior_objectives

        torch.manual_seed(seed_from(run.profile.seed, autoencoder, prior, scheme))
        network = PRIORS[prior].make(run.profile, run.grid).to(run.device)
        train, validation = (
            encode_all(coder, _normal_frames(run, scheme, subset)) for subset in ("train", "validation")
        )
        _fit(run, prior, prior_objectives(prior, network), train, validation, folder)
    return load_prior(run, **names, scheme=scheme)


def load_prior(run: Run, *, autoencoder: str, prior: str, scheme: str) -> Trained:
    """A trained prior; arguments as `train_prior`.

    Raises:
        VqadError: it has not been trained yet.
    """
    what = f"{PRIORS[prior].title} on codes of {AUTOENCODERS[autoencoder].title}, split {scheme}"
    network = PRIORS[prior].make(run.profile, run.grid).to(run.device)
    return _load(network, prior_folder(run, autoencoder, prior, scheme), prior, what, "03_train_prior")


def train_combination(run: Run, *, autoencoder: str, prior: str, scheme: str) -> None:
    """`train_autoencoder` and `train_prior`."""
    train_autoencoder(run, autoencoder=autoencoder, scheme=scheme)
    train_prior(run, autoencoder=autoencoder, prior=prior, scheme=scheme)


def load_detectors(run: Run, *, autoencoder: str, prior: str, scheme: str) -> Detectors:
    """The detectors of a trained combination.

    Raises:
        VqadError: a network of it has not been trained yet.
    """
    coder = load_autoencoder(run, autoencoder=autoencoder, scheme=scheme).network
    network = load_prior(run, autoencoder=autoencoder, prior=prior, scheme=scheme).network
    return Detectors(coder, network, run.profile.detectors, run.profile.seed)


def autoencoder_folder(run: Run, autoencoder: str, scheme: str) -> Path:
    """Where an autoencoder lies, or will."""
    sections = [*AUTOENCODERS[autoencoder].sections, f"training.{autoencoder}"]
    return _folder(run, autoencoder, scheme, sections)


def prior_folder(run: Run, autoencoder: str, prior: str, scheme: str) -> Path:
    """Where a prior lies, or will."""
    upstream = autoencoder_folder(run, autoencoder, scheme).name
    sections = [*PRIORS[prior].sections, f"training.{prior}"]
    return _folder(run, f"{autoencoder}_{prior}", scheme, sections, upstream)


def _folder(run: Run, name: str, scheme: str, sections: list[str], *upstream: str) -> Path:
    profile = section_digest_source(run.profile, [*sections, "data", "threads_per_stage"])
    shaping = ["models", "losses", "training", "data/splits.py", "data/decode.py"]
    code = code_digest(run.root, shaping, alone=["experiment/networks.py"])
    key = digest(profile, code, run.frames.digest, scheme, *upstream)
    return run.derived / scheme / f"{name}_{key[:12]}"


def _load(network: torch.nn.Module, folder: Path, kind: str, what: str, notebook: str) -> Trained:
    summary = finished(folder)
    if not summary:
        raise VqadError(f"not trained yet: {what} ({folder.name}); run notebook {notebook} first, or `make paper`")
    load_weights(folder / f"{kind}.safetensors", network)
    return Trained(network.eval(), folder, summary)


def _new_autoencoder(run: Run, autoencoder: str) -> torch.nn.Module:
    return AUTOENCODERS[autoencoder].make(run.profile).to(run.device, memory_format=torch.channels_last)


def _normal_frames(run: Run, scheme: str, subset: str) -> Tensor:
    """Normal frames of a subset; anomalous validation frames are kept out of training's stopping rule too."""
    normal = (run.subsets(scheme) == subset) & (run.frames.index["label"].to_numpy() == 0)
    return run.images(np.flatnonzero(normal))


def _trained_by_several(run: Run, **names: str) -> bool:
    if run.options is None or devices_to_start() == 1:
        return False
    names["protocol"] = names.pop("scheme")
    run_distributed(["train", *run.options, *(f"--{key}={value}" for key, value in names.items())])
    return True


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
