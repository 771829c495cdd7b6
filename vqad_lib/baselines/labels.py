"""The setting for DFKDE's backbone, and what its row says of it; apart from the network, for torch takes seconds."""

from pathlib import Path

from vqad_lib.errors import VqadError, printable

SETTINGS = ("imagenet", "random")
ADVICE = (
    "set baselines.dfkde.weights in the profile to the path of a torchvision state dict, or to `random` (the row is "
    "labelled); make PERCEPTUAL=random does that too"
)


def weights_file(weights: str) -> Path | None:
    """The file that `baselines.dfkde.weights` names; None where it is one of `SETTINGS`.

    Raises:
        VqadError: there is no such file.
    """
    if weights in SETTINGS:
        return None
    if not Path(weights).is_file():
        raise VqadError(f"baselines.dfkde.weights: no file at {weights}; {ADVICE}")
    return Path(weights)


def weights_label(backbone: str, weights: str) -> str:
    """What a result says of the backbone, for example "resnet50, random weights (not ImageNet)"."""
    kinds = {"imagenet": "ImageNet weights", "random": "random weights (not ImageNet)"}
    return f"{backbone}, " + kinds.get(weights, f"ImageNet weights from {printable(Path(weights).name)}")


def pca_components(wanted: int, training_images: int) -> int:
    """How many principal components so many images have: one fewer than images, for their mean is taken away."""
    return min(wanted, training_images - 1)
