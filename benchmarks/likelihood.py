"""The likelihood of a batch of grids under our GPT-2, beside MONAI's transformer of the same size."""

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks import reference_implementations as reference
from benchmarks.cases import Case
from benchmarks.timing import measure
from vqad_lib.config import Profile
from vqad_lib.models.prior import code_nll


@torch.no_grad()
def likelihood_rows(case: Case, profile: Profile) -> pd.DataFrame:
    """How fast -log p of each code comes out, from grids and from images.

    Args:
        case: of prior "gpt2".

    Returns:
        library, from ("codes" or "images"), prior_parameters, autoencoder_parameters (0 where it is not used), images
        (per batch), images_per_s with _low and _high, calls. MONAI's rows only where it is installed.
    """
    autoencoder, prior = case.detectors.autoencoder, case.detectors.prior
    images, codes = case.images, case.codes
    networks: dict[str, tuple[nn.Module, nn.Module]] = {"vqad": (autoencoder, prior)}
    calls: dict[tuple[str, str], Callable[[], Tensor]] = {
        ("vqad", "codes"): lambda: code_nll(prior.logits(codes), codes),
        ("vqad", "images"): lambda: _from_images(case),
    }
    if reference.is_installed("monai"):
        grid = tuple(codes.shape[1:])
        vqvae = reference.monai_vqvae(profile.autoencoder).to(images.device).eval()
        transformer = reference.monai_transformer(profile, grid).to(images.device).eval()
        monai = reference.MonaiLikelihood(vqvae, transformer, grid)
        networks["MONAI"] = (vqvae, transformer)
        calls["MONAI", "codes"] = lambda: monai.of_codes(codes)
        calls["MONAI", "images"] = lambda: monai.of_images(images)
    config = profile.benchmarks
    timings = measure(calls, repeats=config.repeats, once_above_s=config.once_above_s, device=images.device)
    return pd.DataFrame(
        {
            "library": library,
            "from": source,
            "prior_parameters": reference.parameter_count(networks[library][1]),
            "autoencoder_parameters": reference.parameter_count(networks[library][0]) if source == "images" else 0,
            "images": len(images),
            **timing.rate("images_per_s", len(images)),
            "calls": len(timing.samples_s),
        }
        for (library, source), timing in timings.items()
    )


def _from_images(case: Case) -> Tensor:
    codes = case.detectors.autoencoder.encode(case.images)
    return code_nll(case.detectors.prior.logits(codes), codes)
