"""What is measured: the four combinations, trained where `make paper` has left them, with thresholds from real grids.

Networks that have not been trained can stand in; their weights are drawn large enough that NLL varies from code
to code, so that each percentile of it replaces its share of the codes. Every result says which of the two it is from.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqad_lib.config import Profile
from vqad_lib.detectors.chunks import nll_of_frames
from vqad_lib.detectors.sample_wise import thresholds_at
from vqad_lib.detectors.scoring import Detectors
from vqad_lib.errors import VqadError
from vqad_lib.experiment.networks import load_detectors
from vqad_lib.experiment.run import Run
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.prior import Prior
from vqad_lib.models.registry import COMBINATIONS, PRIORS
from vqad_lib.seeds import addressed_uniforms, seed_from

NETWORKS = ("auto", "trained", "random")
SCHEME = "paper"  # the split whose networks and frames are measured; how fast they are does not hang on it
FRAMES = 256  # at most, to take percentiles from and to train on
_GAIN = {"pixelsnail": 1.6, "gpt2": 8.0}


@dataclass(frozen=True)
class Case:
    """One combination, ready to be measured.

    Attributes:
        model: "VP", "VT", "GP" or "GT".
        prior_kind: "pixelsnail" or "gpt2".
        detectors: its networks, in evaluation mode.
        images: (n, 3, H, W) float in [-1, 1], test images.
        image_ids: their n names.
        codes: (n, h, w) int64, their grids.
        thresholds: percentile -> nats, from validation images.
        networks: "trained" or "random".
    """

    model: str
    prior_kind: str
    detectors: Detectors
    images: Tensor
    image_ids: list[str]
    codes: Tensor
    thresholds: dict[int, float]
    networks: str

    def noise(self, n_restorations: int) -> Tensor:
        """(n, N, h, w) float64 in [0, 1), addressed by image."""
        uniforms = addressed_uniforms(
            seed=self.detectors.seed,
            image_ids=self.image_ids,
            n_restorations=n_restorations,
            grid=tuple(self.codes.shape[1:]),
        )
        return uniforms.to(self.codes.device)


def cases(run: Run, networks: str) -> dict[str, Case]:
    """The four combinations of a run: "VP", "VT", "GP", "GT".

    Args:
        networks: "trained", "random", or "auto": trained where all four are there, random where not.

    Raises:
        VqadError: no such choice of networks, some are not trained yet, or fewer test images than `benchmarks.images`.
    """
    if networks not in NETWORKS:
        raise VqadError(f"NETWORKS must be {', '.join(NETWORKS)}, got {networks!r}")
    if networks == "auto":
        try:
            return cases(run, "trained")
        except VqadError:
            networks = "random"
    return {name: _case(run, name, autoencoder, prior, networks) for (autoencoder, prior), name in COMBINATIONS.items()}


def random_prior(profile: Profile, kind: str, *, grid: tuple[int, int], seed: int = 0) -> Prior:
    """An untrained prior in evaluation mode whose NLL varies from code to code, on the CPU.

    Args:
        kind: "pixelsnail" or "gpt2".
        grid: (h, w).
        seed: of its weights.
    """
    torch.manual_seed(seed_from("benchmark", seed, kind))
    prior = PRIORS[kind].make(profile, grid)
    with torch.no_grad():  # fresh weights make all codes about equally likely, and no threshold would tell them apart
        for parameter in prior.parameters():
            if parameter.ndim > 1:
                parameter.mul_(_GAIN[kind])
    return prior.eval().requires_grad_(False)


@torch.no_grad()
def random_autoencoder(profile: Profile, images: Tensor, *, seed: int = 0) -> VQAutoencoder:
    """An untrained autoencoder in evaluation mode whose codebook is drawn from what it makes of some images.

    Args:
        images: (n, 3, H, W) float in [-1, 1]; sets the device too.
        seed: of its weights.
    """
    torch.manual_seed(seed_from("benchmark", seed, "autoencoder"))
    model = VQAutoencoder(profile.autoencoder).to(images.device, memory_format=torch.channels_last)
    vectors = model.encoder(images).movedim(1, -1).flatten(0, 2)  # nhw D
    drawn = torch.randint(len(vectors), (profile.autoencoder.codebook_size,))
    model.quantiser.codebook.copy_(vectors[drawn.to(vectors.device)])
    return model.eval().requires_grad_(False)


def encoded_frames(run: Run, case: Case) -> tuple[Tensor, Tensor]:
    """Training frames, at most `FRAMES`, and their grids: (n, 3, H, W) uint8 and (n, h, w) int64, on the device."""
    frames = run.images(np.flatnonzero(run.splits(SCHEME) == "train")[:FRAMES])
    return frames, case.detectors.encode(to_unit_range(frames))


def share_equal(reference: Tensor, other: Tensor) -> float:
    """Fraction of equal codes of two equally shaped grids: 1.0 only if all of them are.

    Raises:
        ValueError: the shapes differ.
    """
    if reference.shape != other.shape:
        raise ValueError(f"shapes differ: {tuple(reference.shape)} and {tuple(other.shape)}")
    return (reference == other).double().mean().item()


def _case(run: Run, name: str, autoencoder: str, prior: str, networks: str) -> Case:
    n, splits = run.profile.benchmarks.images, run.splits(SCHEME)
    validation, test = (np.flatnonzero(splits == split) for split in ("validation", "test"))
    if len(test) < n:
        raise VqadError(f"benchmarks.images is {n}, but there are only {len(test)} test images; lower it")
    rows = test[np.linspace(0, len(test) - 1, n).round().astype(int)]
    images = to_unit_range(run.images(rows))
    if networks == "trained":
        scorer = load_detectors(run, autoencoder=autoencoder, prior=prior, scheme=SCHEME)
    else:
        seed = run.profile.seed
        coder = random_autoencoder(run.profile, images, seed=seed)
        learnt = random_prior(run.profile, prior, grid=run.grid, seed=seed).to(run.device)
        scorer = Detectors(coder, learnt, run.profile.detectors, seed)
    return Case(
        model=name,
        prior_kind=prior,
        detectors=scorer,
        images=images,
        image_ids=run.frames.index["image_id"].iloc[rows].tolist(),
        codes=scorer.autoencoder.encode(images),
        thresholds=thresholds_at(
            nll_of_frames(scorer, run.frames.images, validation[:FRAMES]),
            run.profile.detectors.threshold_percentiles,
        ),
        networks=networks,
    )
