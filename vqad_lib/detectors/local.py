"""Where an image departs from normal ones, by what autoencoder and prior say of each place:

residual   |x - G(VQ(E(x)))|, what the codes cannot show
distance   log |z_e - e|^2, how far the encoder's vector lies from its code (eq. 1 throws it away)
nll        -log p(s_i | s_<i), how unlikely the code is (eq. 10)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vqad_lib.detectors.residuals import regenerative_map
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.prior import Prior, code_nll

LOCAL_SIGNALS = ("residual", "distance", "nll")


@torch.no_grad()
def images_and_signals(autoencoder: VQAutoencoder, prior: Prior, images: Tensor, *, window_px: int) -> Tensor:
    """Image, reconstruction, and `LOCAL_SIGNALS`: (B, 3, H, W) float in [-1, 1] -> (B, 9, H, W) float.

    Args:
        window_px: residuals are averaged over so many pixels a side, an odd number.
    """
    z_e = autoencoder.encoder(images).float()
    codes = autoencoder.quantiser.nearest(z_e)
    reconstruction = autoencoder.decode(codes)
    residual = averaged(regenerative_map(images, reconstruction)[:, None], window_px)
    distance = (z_e - autoencoder.quantiser.embed(codes)).square().sum(1).clamp_min(1e-12).log()
    coarse = torch.stack([distance, code_nll(prior.logits(codes), codes)], 1)
    fine = F.interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([images, reconstruction, residual, fine], 1)


def averaged(maps: Tensor, window_px: int) -> Tensor:
    """The mean of a window around each pixel that lies within the map: (B, C, H, W) -> (B, C, H, W)."""
    return F.avg_pool2d(maps, window_px, 1, window_px // 2, count_include_pad=False)
