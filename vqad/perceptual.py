"""A codebook of perceptual features: how far what a pretrained network sees at a place lies from all normal images.

The distance of eq. 1 once more, |f - e| to the nearest code, but of the features that a VGG16 has at relu3_3 (a quarter
of the image's side, 256 channels): they know textures and edges of a million photographs, where the VQ-VAE knows only
what its few images have shown it. Nothing is trained but the codebook, by k-means.
"""

import torch
import torch.nn.functional as F
import torchvision
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn

from vqad_lib.detectors.local import averaged
from vqad_lib.errors import VqadError
from vqad_lib.losses.pretrained import PERCEPTUAL, pretrained
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.progress import progress

NONE = "none"
_NETWORK, _LAYERS, _CHANNELS = "vgg16", 16, 256
_CODES = 512
_IMAGES, _VECTORS = 256, 65_536  # that the codebook is made from, at most
_WINDOW = 3  # positions of the features that are averaged
_BATCH = 16


class FeatureCodes(nn.Module):
    """Frozen layers and their codebook; `fitted` makes one, and weights that were kept fill an empty one."""

    def __init__(self) -> None:
        super().__init__()
        with torch.device("meta"):  # a VGG16's classifier is not worth its second
            layers = getattr(torchvision.models, _NETWORK)(weights=None).features[:_LAYERS]
        self.layers = layers.to_empty(device="cpu")
        self.register_buffer("codebook", torch.zeros(_CODES, _CHANNELS))
        for name, values in (("mean", (0.485, 0.456, 0.406)), ("deviation", (0.229, 0.224, 0.225))):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @classmethod
    def fitted(cls, images: Tensor, weights: str, *, device: torch.device, seed: int) -> "FeatureCodes":
        """The codebook of normal images: (n, 3, H, W) uint8.

        Args:
            weights: "imagenet", "hed", "random", or the path of a torchvision state dict of vgg16.

        Raises:
            VqadError: the weights cannot be had.
        """
        made = cls()
        try:
            layers = pretrained(_NETWORK, weights, setting=PERCEPTUAL).features[:_LAYERS]
        except VqadError as error:
            advice = "give none, hed, imagenet, or the path of a torchvision state dict of vgg16"
            what = str(error).split(";")[0].removeprefix(f"{PERCEPTUAL}: ")
            raise VqadError(f"perceptual: {what}; {advice}") from error
        made.layers.load_state_dict(layers.state_dict())
        made.to(device)
        generator = torch.Generator().manual_seed(seed)
        some = images[torch.randperm(len(images), generator=generator)[:_IMAGES]].to(device)
        batches = progress(some.split(_BATCH), what="perceptual features", unit="batch")
        features = [made.features(to_unit_range(batch)).cpu() for batch in batches]
        vectors = torch.cat([batch.movedim(1, -1).flatten(0, 2) for batch in features])
        vectors = vectors[torch.randperm(len(vectors), generator=generator)[:_VECTORS]].numpy()
        kmeans = MiniBatchKMeans(min(_CODES, len(vectors)), random_state=seed, batch_size=4096, n_init=1)
        centres = torch.from_numpy(kmeans.fit(vectors).cluster_centers_)
        made.codebook.copy_(centres[torch.arange(_CODES) % len(centres)])  # of few vectors, the same ones again
        return made

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float in [-1, 1] -> (B, 256, H/4, W/4) float, each averaged with its neighbours."""
        return averaged(self.layers(((images + 1) / 2 - self.mean) / self.deviation), _WINDOW)

    @torch.no_grad()
    def distance(self, images: Tensor) -> Tensor:
        """To the nearest code, at each pixel: (B, 3, H, W) float in [-1, 1] -> (B, 1, H, W) float, >= 0."""
        features = self.features(images)
        vectors = features.flatten(2).mT  # B hw 256
        nearest = torch.cdist(vectors, self.codebook.expand(len(vectors), -1, -1)).amin(2)
        coarse = nearest.reshape(len(images), 1, *features.shape[-2:])
        return F.interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)
