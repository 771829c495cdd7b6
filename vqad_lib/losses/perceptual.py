"""The perceptual loss L_p: LPIPS on a frozen network (eq. 14), from the lpips package.

The ImageNet weights of the network are downloaded at first use by torchvision. Where there is no network, the setting
`gan.perceptual_weights` (or `make PERCEPTUAL=`) names a file that is already there, or says `random`, explicitly: the
distance then comes from random features, and every result carries that label. `none` leaves the term out.
"""

import warnings

import lpips
from torch import Tensor, nn

from vqad_lib.losses.pretrained import PERCEPTUAL, pretrained

NETWORKS = {"vgg": "vgg16", "alex": "alexnet", "squeeze": "squeezenet1_1"}


class PerceptualLoss(nn.Module):
    """LPIPS distance, averaged over images: two (B, 3, H, W) in [-1, 1] -> () float, >= 0.

    Args:
        network: "vgg" (the paper's), "alex" or "squeeze".
        weights: "imagenet", "random", or the path of a torchvision state dict of that network.

    Raises:
        VqadError: the weights cannot be downloaded, the file is absent, cut off or another network's; the message names
            file and setting.
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
    model = lpips.LPIPS(net=network, pnet_rand=True, verbose=False)
    if weights != "random":
        plain = pretrained(NETWORKS[network], weights, setting=PERCEPTUAL)
        # lpips cuts the same layers into slices, and keeps their numbers as names
        layers = dict(plain.features.named_children())
        for part in model.net.children():
            for name, layer in part.named_children():
                layer.load_state_dict(layers[name].state_dict())
    return model
