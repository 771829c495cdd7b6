"""The VQ autoencoder: encoder of Table 1, codebook, decoder of Table 2. VQ-VAE and VQ-GAN share it (section 3.1).

The paper's network has channels (64, 64, 128, 128, 256) at 128x128 down to 8x8. Smaller profiles have fewer entries
or fewer channels; the order of blocks stays: non-local blocks stand at the coarsest halved resolution, at the latent
resolution of the decoder, and in the middle. In the decoder each line of Table 2 works at the resolution it gets and
upsamples last, which is the order the table prints; [21] and its code upsample between the same blocks.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vqad_lib.config import AutoencoderConfig
from vqad_lib.models.blocks import Downsample, NonLocal, Residual, Upsample, check_images, norm_swish_conv
from vqad_lib.models.quantiser import Quantiser, straight_through


class _Half(nn.Module):
    """Lines of Table 1 or 2, one after the other.

    Attributes:
        titles: name of a line -> what the table calls it.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.groups, self.titles = {"norm_groups": config.norm_groups}, {}

    def add_line(self, name: str, title: str, line: nn.Module) -> None:
        """Append a line, under a name for `state_dict`."""
        self.add_module(name, line)
        self.titles[name] = title

    def add_residuals(
        self, name: str, in_width: int, out_width: int, n: int, *, attends: bool, then: type[nn.Module] | None = None
    ) -> None:
        """Append n residual blocks, a non-local one after each if it `attends`, and a change of resolution."""
        blocks: list[nn.Module] = []
        for i in range(n):
            blocks.append(Residual(in_width if i == 0 else out_width, out_width, **self.groups))
            if attends:
                blocks.append(NonLocal(out_width, **self.groups))
        title = f"(Residual + NonLocal) × {n}" if attends else f"Residual × {n}"
        if then:
            blocks.append(then(out_width))
            title += f" + {then.__name__}"
        self.add_line(name, title, nn.Sequential(*blocks))

    def add_middle(self, width: int) -> None:
        """Append the line in the middle of both tables."""
        blocks = Residual(width, width, **self.groups), NonLocal(width, **self.groups)
        middle = nn.Sequential(*blocks, Residual(width, width, **self.groups))
        self.add_line("middle", "Residual + NonLocal + Residual", middle)

    def forward(self, x: Tensor) -> Tensor:
        for line in self.children():
            x = line(x)
        return x


class Encoder(_Half):
    """Table 1: (B, 3, H, W) in [-1, 1] -> (B, D, h, w) with h = H / 2 ** (len(channels) - 1)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config)
        channels, n, top = config.channels, config.residual_blocks, config.channels[-1]
        self.add_line("first", "Conv2D", nn.Conv2d(3, channels[0], 3, padding=1))
        width = channels[0]
        for level, out_width in enumerate(channels[:-1]):
            attends = level == len(channels) - 2
            self.add_residuals(f"level{level}", width, out_width, n, attends=attends, then=Downsample)
            width = out_width
        self.add_residuals("latent", width, top, n, attends=False)
        self.add_middle(top)
        self.add_line("last", "GroupNorm, Swish, Conv2D", norm_swish_conv(top, config.latent_dim, **self.groups))


class Decoder(_Half):
    """Table 2: (B, D, h, w) -> (B, 3, H, W). One residual block a line more than the encoder, as [21]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config)
        channels, n, top = config.channels, config.residual_blocks + 1, config.channels[-1]
        self.add_line("first", "Conv2D", nn.Conv2d(config.latent_dim, top, 3, padding=1))
        self.add_middle(top)
        self.add_residuals("latent", top, top, n, attends=True)
        width = top
        for level in reversed(range(len(channels) - 1)):
            attends, out_width = level == len(channels) - 2, channels[level]
            self.add_residuals(f"level{level}", width, out_width, n, attends=attends, then=Upsample)
            width = out_width
        self.add_line("last", "GroupNorm, Swish, Conv2D", norm_swish_conv(width, 3, **self.groups))

    def forward(self, z: Tensor) -> Tensor:
        return self.last[-1](self.features(z))

    def features(self, z: Tensor) -> Tensor:
        """What the last layer gets: (B, D, h, w) -> (B, channels[0], H, W)."""
        *lines, (norm, swish, _) = self.children()
        for line in lines:
            z = line(z)
        return swish(norm(z))

    @property
    def last_weight(self) -> nn.Parameter:
        """The weight of G_L, the decoder's last layer (eq. 16)."""
        return self.last[-1].weight


class VQAutoencoder(nn.Module):
    """Encoder E, codebook VQ and decoder G: x^ = G(VQ(E(x))) (eq. 3)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.channels = config.channels
        self.encoder, self.decoder, self.quantiser = Encoder(config), Decoder(config), Quantiser(config)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reconstruct with gradients, for training.

        Args:
            images: (B, 3, H, W) float in [-1, 1].

        Returns:
            reconstruction (B, 3, H, W), not clamped; z_e and z_q (B, D, h, w); codes (B, h, w) int64.

        Raises:
            ValueError: images have the wrong shape or type.
        """
        check_images(images)
        z_e = self.encoder(images).to(self.quantiser.codebook.dtype)  # bfloat16 from an encoder under autocast
        z_q, codes = self.quantiser(z_e)
        return self.decoder(straight_through(z_e, z_q)), z_e, z_q, codes

    def compile(self, **options: Any) -> None:
        """As of any module, but for the last layer, at which eq. 16 takes gradients of its own.

        A compiled part has all its gradients taken at once, and once.
        """
        self.encoder.compile(**options)
        self.decoder.features = torch.compile(self.decoder.features, **options)

    def bytes_per_image(self, size_px: int) -> int:
        """What encoding or decoding one image of this size takes, about: six activations at full resolution."""
        first = self.encoder.first
        return 6 * first.out_channels * size_px * size_px * first.weight.element_size()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Codes of images (eq. 17 and 18): (B, 3, H, W) float in [-1, 1] -> (B, h, w) int64 in [0, K)."""
        check_images(images)
        return self.quantiser.nearest(self.encoder(images))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Images of codes: (B, h, w) int64 -> (B, 3, H, W) float, clamped to [-1, 1]."""
        return self.decoder(self.quantiser.embed(codes)).float().clamp(-1, 1)


def shape_rows(half: Encoder | Decoder, x: Tensor) -> list[dict[str, str | int]]:
    """One row per line of Table 1 or 2, measured by sending `x` through the live model.

    Args:
        half: the encoder or the decoder.
        x: (1, C, H, W), an input for it.

    Returns:
        Rows of component, height, width, channels; the first row is the input.
    """
    sizes = [("input", x.shape)]
    with torch.no_grad():
        for name, line in half.named_children():
            x = line(x)
            sizes.append((half.titles[name], x.shape))
    return [{"component": title, "height": h, "width": w, "channels": c} for title, (_, c, h, w) in sizes]
