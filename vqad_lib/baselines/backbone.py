"""The network whose features DFKDE reads: a torchvision ResNet, with ImageNet weights, a file's, or random ones.

torch is imported where the network is made: commands that only read the setting need not wait for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vqad_lib.errors import VqadError, printable

if TYPE_CHECKING:
    from torch import nn

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


def load_backbone(backbone: str, weights: str) -> nn.Module:
    """A ResNet in evaluation mode, frozen.

    Args:
        backbone: "resnet18" or "resnet50" (the paper's).
        weights: "imagenet" (downloaded by torchvision at first use), "random", or the path of a torchvision state dict.

    Raises:
        VqadError: the weights cannot be downloaded, the file is absent, cut off or another network's; the message names
            file and setting.
    """
    from vqad_lib.losses.pretrained import pretrained

    weights_file(weights)  # or an error
    network = pretrained(backbone, weights, setting="baselines.dfkde.weights", advice=ADVICE)
    return network.eval().requires_grad_(False)
