"""The network whose features DFKDE reads: a torchvision ResNet, with ImageNet weights, a file's, or random ones."""

import torch
import torchvision
from torch import nn

from vqad_lib.baselines.labels import ADVICE, weights_file
from vqad_lib.errors import VqadError
from vqad_lib.files import first_line


def load_backbone(backbone: str, weights: str) -> nn.Module:
    """A ResNet in evaluation mode, frozen.

    Args:
        backbone: "resnet18" or "resnet50" (the paper's).
        weights: "imagenet" (downloaded by torchvision at first use), "random", or the path of a torchvision state dict.

    Raises:
        VqadError: the weights cannot be downloaded, the file is absent or does not fit; the message names the setting.
    """
    make, path = getattr(torchvision.models, backbone), weights_file(weights)
    try:
        network = make(weights="IMAGENET1K_V1" if weights == "imagenet" else None)
    except OSError as error:  # urllib's errors are OSErrors
        raise VqadError(f"cannot download the ImageNet weights of {backbone} for DFKDE: {error}; {ADVICE}") from error
    if path:
        try:
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # unpickling fails in many ways; each means the same to the user
            raise VqadError(
                f"baselines.dfkde.weights: {path} is no state dict of {backbone}: {first_line(error)}; {ADVICE}"
            ) from error
    return network.eval().requires_grad_(False)
