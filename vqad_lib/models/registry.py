"""The autoencoders and the priors that there are: what they are called, and how an untrained one is made.

A new one gets an entry here; what trains an autoencoder stands in `training.objectives`. Networks are imported where
they are made, for commands that only want names need neither torch nor transformers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vqad_lib.config import Profile


@dataclass(frozen=True)
class Entry:
    """An autoencoder or a prior.

    Attributes:
        key: of files, folders, options, and of its section under `training` in a profile; a prior's own section too.
        title: for people.
        letter: its part of a combination's name, for example G and T of GT.
        make: an untrained one of a profile's sizes: (profile) -> `VQAutoencoder`, or (profile, (h, w)) -> `Prior`.
        sections: of a profile, that shape it, beside `training.<key>`.
    """

    key: str
    title: str
    letter: str
    make: Callable[..., Any]
    sections: tuple[str, ...]


def _vq_autoencoder(profile: Profile):
    from vqad_lib.models.autoencoder import VQAutoencoder

    return VQAutoencoder(profile.autoencoder)


def _pixelsnail(profile: Profile, grid: tuple[int, int]):
    from vqad_lib.models.pixelsnail import PixelSnail

    return PixelSnail(profile.pixelsnail, codebook_size=profile.autoencoder.codebook_size, grid=grid)


def _gpt2(profile: Profile, grid: tuple[int, int]):
    from vqad_lib.models.gpt2 import Gpt2

    return Gpt2(profile.gpt2, codebook_size=profile.autoencoder.codebook_size, grid=grid)


AUTOENCODERS = {
    "vqvae": Entry("vqvae", "VQ-VAE", "V", _vq_autoencoder, ("autoencoder",)),
    "vqgan": Entry("vqgan", "VQ-GAN", "G", _vq_autoencoder, ("autoencoder", "gan")),
}
PRIORS = {
    "pixelsnail": Entry("pixelsnail", "PixelSNAIL", "P", _pixelsnail, ("pixelsnail",)),
    "gpt2": Entry("gpt2", "GPT-2", "T", _gpt2, ("gpt2",)),
}
COMBINATIONS = {(a.key, p.key): a.letter + p.letter for a in AUTOENCODERS.values() for p in PRIORS.values()}
"""(autoencoder, prior) -> VP, VT, GP or GT."""
