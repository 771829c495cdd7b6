"""Which values a profile may hold beyond a range of each: those that only fit together, and names of profiles."""

import re
from typing import Any

from vqad_lib.errors import VqadError

NAME = r"^\w[\w.-]*$"  # of a profile: it names a file, folders, and a prerequisite of make
NAME_IN_WORDS = "of letters, digits, _, - and . alone"
# pixels along an edge below which a layer of the perceptual network has nothing left
_PERCEPTUAL_SIZE_PX = {"vgg": 16, "alex": 31, "squeeze": 17}


def check_name(name: str) -> None:
    """Refuse a PROFILE that is no plain name, before any path is made of it.

    Raises:
        VqadError: as described.
    """
    if not re.match(NAME.replace("$", r"\Z"), name):
        raise VqadError(
            f"PROFILE must be the name of a file in profiles/ without its ending, {NAME_IN_WORDS}, got {name!r}"
        )


def odd(value: int) -> int:
    """The value itself.

    Raises:
        ValueError: it is even.
    """
    if value % 2 == 0:
        raise ValueError("must be an odd number")
    return value


def check_together(profile: Any, source: str) -> None:
    """Refuse values that are right each by itself and together build no network or make no run.

    Raises:
        VqadError: naming the key.
    """
    for problem, found in _problems(profile).items():
        if found:
            raise VqadError(f"{source}: {problem}")


def _problems(profile: Any) -> dict[str, bool]:
    """What is wrong, in words, and whether it is the case."""
    channels, size_px = profile.autoencoder.channels, profile.data.image_size_px
    halvings, percentiles = len(channels) - 1, profile.detectors.threshold_percentiles
    gan, layers = profile.gan, profile.gan.discriminator_layers
    smallest_px = _PERCEPTUAL_SIZE_PX[gan.perceptual_network]
    return {
        "autoencoder.channels: must be multiples of autoencoder.norm_groups": any(
            width % profile.autoencoder.norm_groups for width in channels
        ),
        "data.image_size_px: must be a multiple of 2 ** (len(autoencoder.channels) - 1)": bool(size_px % 2**halvings),
        "gpt2.width: must be a multiple of gpt2.heads": bool(profile.gpt2.width % profile.gpt2.heads),
        "detectors.threshold_percentiles: must not repeat": len(set(percentiles)) < len(percentiles),
        "evaluation.unsupervised_percentile: must be one of detectors.threshold_percentiles": (
            profile.evaluation.unsupervised_percentile not in percentiles
        ),
        "pixelsnail.attention_grid: half needs an even grid of codes": (
            profile.pixelsnail.attention_grid == "half" and bool(size_px // 2**halvings % 2)
        ),
        f"gan.discriminator_layers: must be fewer for images of {size_px} px, of which {layers} leave nothing": (
            size_px // 2**layers < 3  # two convolutions more take a pixel each
        ),
        f"gan.perceptual_network: must have images of at least {smallest_px} px for {gan.perceptual_network}": (
            gan.perceptual_weights != "none" and size_px < smallest_px
        ),
    }


def value_at(mapping: dict[str, Any], key: str) -> Any:
    """The value at a dotted key."""
    value: Any = mapping
    for part in key.split("."):
        value = value[part]
    return value
