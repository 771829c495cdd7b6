"""A small network that is taught to mark pseudo-anomalies by what autoencoder and prior say of an image.

After Zavrtanik et al. 2021 (DRAEM), whose discriminative network sees an image beside its reconstruction; here it sees
the distance to the code and the code's likelihood too. A U-Net of three resolutions, half the image's the finest.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IN_CHANNELS = 9  # image and reconstruction, and three signals


class Segmenter(nn.Module):
    """Image and signals to a map of logits: (B, 9, H, W) -> (B, H, W); H and W are even.

    Args:
        channels: width at the finest resolution; it doubles with each halving.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.scaled = nn.BatchNorm2d(IN_CHANNELS, affine=False)  # the signals have units of their own
        self.down1 = nn.Sequential(nn.PixelUnshuffle(2), _conv(4 * IN_CHANNELS, c), _conv(c, c))
        self.down2 = nn.Sequential(_conv(c, 2 * c, stride=2), _conv(2 * c, 2 * c))
        self.down4 = nn.Sequential(_conv(2 * c, 4 * c, stride=2), _conv(4 * c, 4 * c), _conv(4 * c, 4 * c))
        self.up2, self.up1 = _conv(6 * c, 2 * c), _conv(3 * c, c)
        self.last = nn.Conv2d(c, 1, 1)

    def forward(self, signals: Tensor) -> Tensor:
        fine = self.down1(self.scaled(signals))
        middle = self.down2(fine)
        middle = self.up2(torch.cat([middle, _as_large_as(middle, self.down4(middle))], 1))
        fine = self.up1(torch.cat([fine, _as_large_as(fine, middle)], 1))
        return _as_large_as(signals, self.last(fine))[:, 0]


def segmentation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Focal loss and Dice loss, for anomalous pixels are few: (B, H, W) float, (B, H, W) bool -> ()."""
    target, found = masks.float(), logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focal = (entropy * (target - found).square()).mean()
    dice = 1 - (2 * (found * target).sum() + 1) / (found.square().sum() + target.sum() + 1)
    return 10 * focal + dice


def _conv(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def _as_large_as(fine: Tensor, coarse: Tensor) -> Tensor:
    return F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
