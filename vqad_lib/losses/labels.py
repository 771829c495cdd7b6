"""The perceptual network's setting, and what results say of it; apart from it, for importing lpips takes seconds."""

from pathlib import Path

from vqad_lib.errors import VqadError, printable

SETTINGS = ("imagenet", "random", "none")
ADVICE = (
    "set gan.perceptual_weights in the profile (or make PERCEPTUAL=) to the path of a torchvision state dict, "
    "to `random` (results are labelled) or to `none`"
)


def weights_file(weights: str) -> Path | None:
    """The file that `gan.perceptual_weights` names; None where it is one of `SETTINGS`.

    Raises:
        VqadError: there is no such file.
    """
    if weights in SETTINGS:
        return None
    if not Path(weights).is_file():
        raise VqadError(f"gan.perceptual_weights: no file at {weights}; {ADVICE}")
    return Path(weights)


def perceptual_label(*, network: str, weights: str) -> str:
    """What results say of the perceptual network, for example "LPIPS alex, random weights (not ImageNet)"."""
    if weights == "none":
        return "no perceptual term"
    if weights == "random":
        return f"LPIPS {network}, random weights (not ImageNet)"
    return f"LPIPS {network}, ImageNet weights" + (
        "" if weights == "imagenet" else f" from {printable(Path(weights).name)}"
    )
