"""The network whose features DFKDE reads: a torchvision ResNet, with ImageNet weights, a file's, or random ones."""

from pathlib import Path

import torch
import torchvision
from torch import nn

from vqad_lib.errors import VqadError
from vqad_lib.files import first_line

# the weights that Anomalib's DFKDE took from torchvision when the paper was written
_IMAGENET = {"resnet18": "ResNet18_Weights", "resnet50": "ResNet50_Weights"}
_ADVICE = (
    "set baselines.dfkde.weights in the profile to the path of a torchvision state dict, or to `random` (the row is "
    "labelled); make PERCEPTUAL=random does that too"
)


def weights_label(backbone: str, weights: str) -> str:
    """What a result says of the backbone, for example "resnet50, random weights (not ImageNet)"."""
    kind = {"imagenet": "ImageNet", "random": "random weights (not ImageNet)"}.get(
        weights, f"weights {Path(weights).name}"
    )
    return f"{backbone}, {kind}"


def load_backbone(backbone: str, weights: str) -> nn.Module:
    """A ResNet in evaluation mode, frozen.

    Args:
        backbone: "resnet18" or "resnet50" (the paper's).
        weights: "imagenet" (downloaded by torchvision at first use), "random", or the path of a torchvision state dict.

    Raises:
        VqadError: the weights cannot be downloaded, the file is absent or does not fit; the message names the setting.
    """
    make = getattr(torchvision.models, backbone)
    if weights == "imagenet":
        try:
            network = make(weights=getattr(torchvision.models, _IMAGENET[backbone]).IMAGENET1K_V1)
        except OSError as error:  # urllib's errors are OSErrors
            raise VqadError(
                f"cannot download the ImageNet weights of {backbone} for DFKDE: {error}; {_ADVICE}"
            ) from error
    else:
        network = make(weights=None)
        if weights != "random":
            _fill(network, backbone, Path(weights))
    return network.eval().requires_grad_(False)


def _fill(network: nn.Module, backbone: str, path: Path) -> None:
    if not path.is_file():
        raise VqadError(f"baselines.dfkde.weights: no file at {path}; {_ADVICE}")
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # unpickling fails in many ways; each means the same to the user
        raise VqadError(
            f"baselines.dfkde.weights: {path} is no state dict of {backbone}: {first_line(error)}; {_ADVICE}"
        ) from error
