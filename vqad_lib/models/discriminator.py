"""The patch discriminator of the VQ-GAN (section 3.1), after Isola et al. 2018 [33].

Strided 4x4 convolutions with batch normalisation and leaky ReLU; each output position judges one image patch. The
loss functions average over positions, which is the average that the paper describes.
"""

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Judge image patches: (B, 3, H, W) in [-1, 1] -> (B, 1, H', W') logits of "real".

    `distributed.parallel` makes its batch normalisation one over the images of all processes.

    Args:
        channels: width of the first layer; doubles with each further layer, up to 8 times.
        layers: number of halvings; 3 gives patches of 70x70 pixels.
    """

    def __init__(self, *, channels: int, layers: int) -> None:
        super().__init__()
        widths = [channels * min(2**i, 8) for i in range(layers + 1)]
        modules: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i in range(1, layers + 1):
            stride = 2 if i < layers else 1
            modules += [
                nn.Conv2d(widths[i - 1], widths[i], 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(widths[i]),
                nn.LeakyReLU(0.2),
            ]
        modules.append(nn.Conv2d(widths[-1], 1, 4, padding=1))
        self.network = nn.Sequential(*modules)
        for module in self.network:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)  # [33], section 6.2

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)
