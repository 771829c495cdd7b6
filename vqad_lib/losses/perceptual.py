"""The perceptual loss L_p: LPIPS on a frozen network (eq. 14), from the lpips package.

The ImageNet weights of the network are downloaded at first use by torchvision. Where there is no network, the setting
`gan.perceptual_weights` (or `make PERCEPTUAL=`) names a file that is already there, or says `random`, explicitly: the
distance then comes from random features, and every result carries that label. `none` leaves the term out.
"""

import warnings
from pathlib import Path

import lpips
import torch
import torchvision
from torch import Tensor, nn

from vqad_lib.errors import VqadError
from vqad_lib.files import first_line
from vqad_lib.losses.labels import ADVICE, weights_file

NETWORKS = {"vgg": "vgg16", "alex": "alexnet", "squeeze": "squeezenet1_1"}


class PerceptualLoss(nn.Module):
    """LPIPS distance, averaged over images: two (B, 3, H, W) in [-1, 1] -> () float, >= 0.

    Args:
        network: "vgg" (the paper's), "alex" or "squeeze".
        weights: "imagenet", "random", or the path of a torchvision state dict of that network.

    Raises:
        VqadError: the weights cannot be downloaded, the file is absent or does not fit; the message names the setting.
    """

    def __init__(self, *, network: str, weights: str) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # lpips uses torchvision's older keyword
            self.distance = _load(network, weights)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "PerceptualLoss":  # noqa: ARG002
        """Stay in evaluation mode: a parent's train() would switch LPIPS's dropout on."""
        return super().train(False)

    def forward(self, images: Tensor, reconstruction: Tensor) -> Tensor:
        return self.distance(reconstruction, images).mean()


def _load(network: str, weights: str) -> lpips.LPIPS:
    if weights == "imagenet":
        try:
            return lpips.LPIPS(net=network, verbose=False)
        except OSError as error:  # urllib's errors are OSErrors
            raise VqadError(
                f"cannot download the ImageNet weights of {NETWORKS[network]} for LPIPS: {error}; {ADVICE}"
            ) from error
    model = lpips.LPIPS(net=network, pnet_rand=True, verbose=False)
    if (path := weights_file(weights)) is not None:
        _fill_backbone(model, network, path)
    return model


def _fill_backbone(model: lpips.LPIPS, network: str, path: Path) -> None:
    plain = getattr(torchvision.models, NETWORKS[network])(weights=None)
    try:
        plain.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # unpickling fails in many ways; each means the same to the user
        raise VqadError(
            f"gan.perceptual_weights: {path} is no state dict of {NETWORKS[network]}: {first_line(error)}; {ADVICE}"
        ) from error
    # lpips cuts the same layers into slices, and keeps their numbers as names
    layers = dict(plain.features.named_children())
    for part in model.net.children():
        for name, layer in part.named_children():
            layer.load_state_dict(layers[name].state_dict())
