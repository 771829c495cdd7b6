"""The likelihood of a batch of grids under our GPT-2, beside MONAI's transformer of the same size."""

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor, nn

from vqad_lib.benchmarks import peers
from vqad_lib.benchmarks.subjects import Subject
from vqad_lib.benchmarks.timing import measure
from vqad_lib.config import Profile
from vqad_lib.models.prior import code_nll


@torch.no_grad()
def likelihood_rows(subject: Subject, profile: Profile) -> pd.DataFrame:
    """How fast -log p of each code comes out, from grids and from images.

    Args:
        subject: of prior "gpt2".

    Returns:
        library, from ("codes" or "images"), prior_parameters, autoencoder_parameters (0 where it is not used), images
        (per batch), images_per_s with _low and _high, calls. MONAI's rows only where it is installed.
    """
    autoencoder, prior = subject.detectors.autoencoder, subject.detectors.prior
    images, codes = subject.images, subject.codes
    networks: dict[str, tuple[nn.Module, nn.Module]] = {"vqad": (autoencoder, prior)}
    calls: dict[tuple[str, str], Callable[[], Tensor]] = {
        ("vqad", "codes"): lambda: code_nll(prior.logits(codes), codes),
        ("vqad", "images"): lambda: _from_images(subject),
    }
    if peers.is_installed("monai"):
        grid = tuple(codes.shape[1:])
        vqvae = peers.monai_vqvae(profile.autoencoder).to(images.device).eval()
        transformer = peers.monai_transformer(profile, grid).to(images.device).eval()
        monai = peers.MonaiLikelihood(vqvae, transformer, grid)
        networks["MONAI"] = (vqvae, transformer)
        calls["MONAI", "codes"] = lambda: monai.of_codes(codes)
        calls["MONAI", "images"] = lambda: monai.of_images(images)
    config = profile.benchmarks
    timings = measure(calls, repeats=config.repeats, once_above_s=config.once_above_s, device=images.device)
    return pd.DataFrame(
        {
            "library": library,
            "from": source,
            "prior_parameters": peers.parameter_count(networks[library][1]),
            "autoencoder_parameters": peers.parameter_count(networks[library][0]) if source == "images" else 0,
            "images": len(images),
            **timing.rate("images_per_s", len(images)),
            "calls": len(timing.samples_s),
        }
        for (library, source), timing in timings.items()
    )


def _from_images(subject: Subject) -> Tensor:
    codes = subject.detectors.autoencoder.encode(subject.images)
    return code_nll(subject.detectors.prior.logits(codes), codes)
