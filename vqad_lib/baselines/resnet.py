"""The network whose features DFKDE reads: a torchvision ResNet, with ImageNet weights, a file's, or random ones."""

from torch import nn

from vqad_lib.baselines.labels import ADVICE, weights_file
from vqad_lib.losses.pretrained import pretrained


def load_backbone(backbone: str, weights: str) -> nn.Module:
    """A ResNet in evaluation mode, frozen.

    Args:
        backbone: "resnet18" or "resnet50" (the paper's).
        weights: "imagenet" (downloaded by torchvision at first use), "random", or the path of a torchvision state dict.

    Raises:
        VqadError: the weights cannot be downloaded, the file is absent, cut off or another network's; the message names
            file and setting.
    """
    weights_file(weights)  # or an error
    network = pretrained(backbone, weights, setting="baselines.dfkde.weights", advice=ADVICE)
    return network.eval().requires_grad_(False)
