"""The networks of a run: `train_*` makes what is not there yet, `load_*` never trains.

A network lies in a folder named by a digest of all that shaped it: code, profile, data, split and seed. So nothing
stale is ever loaded, and going back to an earlier setting finds the earlier network.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from vqad_lib.detectors.scoring import Detectors, encode_all
from vqad_lib.distributed.launch import devices_to_start, run_distributed
from vqad_lib.distributed.parallel import bare
from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import Run
from vqad_lib.models.registry import AUTOENCODERS, PRIORS
from vqad_lib.seeds import seed_from
from vqad_lib.training.checkpoint import load_weights
from vqad_lib.training.coverage import covered
from vqad_lib.training.loop import Batches, Objective, finished, fit
from vqad_lib.training.objectives import AUTOENCODER_OBJECTIVES, prior_objectives


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
    names = {"autoencoder": autoencoder, "scheme": scheme}
    folder = network_folder(run, **names)
    if _to_be_trained_here(run, folder, names):
        network = _new_autoencoder(run, autoencoder)
        objectives = AUTOENCODER_OBJECTIVES[autoencoder](network, run.profile)
        train, validation = (run.images(rows) for rows in _normal_frames(run, scheme))
        train = covered(train, run.profile.autoencoder.coverage, seed=seed_from(run.profile.seed, "coverage", scheme))
        _fit(run, autoencoder, scheme, objectives, [train, validation], folder)
    return load_autoencoder(run, **names)


def load_autoencoder(run: Run, *, autoencoder: str, scheme: str) -> Trained:
    """A trained autoencoder; arguments as `train_autoencoder`.

    Raises:
        VqadError: it has not been trained yet.
    """
    what = f"{AUTOENCODERS[autoencoder].title}, scheme {scheme}"
    folder = network_folder(run, autoencoder=autoencoder, scheme=scheme)
    return _load(_new_autoencoder(run, autoencoder), folder, autoencoder, what, "02_train_autoencoder")


def train_prior(run: Run, *, autoencoder: str, prior: str, scheme: str) -> Trained:
    """Train a prior on the codes of a trained autoencoder, unless it is there; see `train_autoencoder`.

    Args:
        prior: a key of `PRIORS`.

    Raises:
        VqadError: the autoencoder has not been trained yet.
    """
    coder = load_autoencoder(run, autoencoder=autoencoder, scheme=scheme).network
    names = {"autoencoder": autoencoder, "prior": prior, "scheme": scheme}
    folder = network_folder(run, **names)
    if _to_be_trained_here(run, folder, names):
        objectives = prior_objectives(prior, _new_prior(run, prior))
        codes = [encode_all(coder, run.images(rows)) for rows in _normal_frames(run, scheme)]
        _fit(run, prior, scheme, objectives, codes, folder)
    return load_prior(run, **names)


def load_prior(run: Run, *, autoencoder: str, prior: str, scheme: str) -> Trained:
    """A trained prior; arguments as `train_prior`.

    Raises:
        VqadError: it has not been trained yet.
    """
    what = f"{PRIORS[prior].title} on codes of {AUTOENCODERS[autoencoder].title}, scheme {scheme}"
    folder = network_folder(run, autoencoder=autoencoder, prior=prior, scheme=scheme)
    return _load(_new_prior(run, prior), folder, prior, what, "03_train_prior")


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


def network_folder(run: Run, *, autoencoder: str, scheme: str, prior: str = "") -> Path:
    """Where an autoencoder lies, or will; with `prior`, that prior on its codes."""
    network = PRIORS[prior] if prior else AUTOENCODERS[autoencoder]
    coder = [network_folder(run, autoencoder=autoencoder, scheme=scheme).name] if prior else []
    sections = [*network.sections, f"training.{network.key}", "data", "threads_per_stage"]
    code = ["models", "losses", "training", "data/splits.py", "data/decode.py", "data/defects.py"]
    name = f"{autoencoder}_{prior}" if prior else autoencoder
    return run.place(scheme, name, *coder, sections=sections, code=code, alone="experiment/networks.py")


def _load(network: torch.nn.Module, folder: Path, kind: str, what: str, notebook: str) -> Trained:
    summary = finished(folder)
    if not summary:
        raise VqadError(f"not trained yet: {what} ({folder.name}); run notebook {notebook} first, or `make paper`")
    load_weights(folder / f"{kind}.safetensors", network)
    return Trained(network.eval(), folder, summary)


def _new_autoencoder(run: Run, autoencoder: str) -> torch.nn.Module:
    return AUTOENCODERS[autoencoder].make(run.profile).to(run.device, memory_format=torch.channels_last)


def _new_prior(run: Run, prior: str) -> torch.nn.Module:
    return PRIORS[prior].make(run.profile, run.grid).to(run.device)


def _normal_frames(run: Run, scheme: str) -> list[NDArray]:
    """Rows of training and validation; anomalous validation frames are kept out of training's stopping rule too."""
    splits, normal = run.splits(scheme), run.frames.index["label"].to_numpy() == 0
    return [np.flatnonzero(normal & (splits == split)) for split in ("train", "validation")]


def _to_be_trained_here(run: Run, folder: Path, names: dict[str, str]) -> bool:
    """Whether a network is not there yet, and other processes could not train it; if so, the seed is set."""
    if finished(folder):
        return False
    if run.options is not None and devices_to_start() > 1:
        run_distributed(["train", *run.options, *(f"--{key}={value}" for key, value in names.items())])
        return False
    torch.manual_seed(seed_from(run.profile.seed, *names.values()))
    return True


def _fit(run: Run, kind: str, scheme: str, objectives: list[Objective], items: list[Tensor], folder: Path) -> None:
    config = getattr(run.profile.training, kind)
    if config.compile and run.device.type == "cuda":
        for objective in objectives:
            bare(objective.network).compile()
    ids = run.frames.index["image_id"].iloc[_normal_frames(run, scheme)[0]].tolist()
    ids = [ids[i % len(ids)] for i in range(len(items[0]))]  # where more is covered, the frames that it is made of
    train, validation = (
        Batches(split, batch_size=config.batch_size, seed=run.profile.seed, shuffle=shuffle, ids=of)
        for split, shuffle, of in zip(items, (True, False), (ids, None), strict=True)
    )
    fit(objectives, train=train, validation=validation, config=config, folder=folder, device=run.device)
