"""Networks of other libraries to measure beside ours: MONAI's VQ-VAE and transformer, Anomalib's GANomaly.

Both libraries are optional (requirements-extra.lock). They are imported where they are used, for that takes seconds,
and what they warn of on import is not shown.
"""

import importlib
import importlib.util
import warnings
from importlib.metadata import version
from types import ModuleType, SimpleNamespace

import torch
from torch import Tensor, nn

from vqad_lib.config import AutoencoderConfig, Profile
from vqad_lib.models.autoencoder import VQAutoencoder

LIBRARIES = {"monai": "MONAI", "anomalib": "Anomalib"}
REMEDY = "make bench without PYTHON= installs it; or: python -m pip install --require-hashes -r requirements-extra.lock"
GANOMALY = {"n_features": 64, "latent_vec_size": 100}  # Anomalib's defaults
_WIDTH_STEPS = 32  # widths are tried in thirty-seconds of ours, up to four times as wide


def is_installed(library: str) -> bool:
    """Whether "monai" or "anomalib" can be imported; does not import it."""
    return importlib.util.find_spec(library) is not None


def installed_versions() -> dict[str, str]:
    """Version of each of the two that is installed."""
    return {library: version(library) for library in LIBRARIES if is_installed(library)}


def parameter_count(network: nn.Module) -> int:
    """Number of parameters, the codebook's among them; buffers do not count."""
    return sum(parameter.numel() for parameter in network.parameters())


def monai_vqvae(config: AutoencoderConfig) -> nn.Module:
    """MONAI's VQ-VAE with as many halvings, residual blocks, codes and code dimensions as ours, and about its size.

    MONAI's blocks are not ours, so equal widths give another size. The widths are therefore scaled, all by the same
    factor, to the number of parameters that is nearest to ours.

    Args:
        config: of ours.
    """
    steps = range(_WIDTH_STEPS // 4, 4 * _WIDTH_STEPS + 1)
    # the "meta" device builds shapes without memory, so that trying many widths costs nothing
    with torch.device("meta"):
        wanted = parameter_count(VQAutoencoder(config))
        sizes = {step: parameter_count(_monai_vqvae(config, step / _WIDTH_STEPS)) for step in steps}
    nearest = min(sizes, key=lambda step: abs(sizes[step] - wanted))
    return _monai_vqvae(config, nearest / _WIDTH_STEPS)


def _monai_vqvae(config: AutoencoderConfig, factor: float) -> nn.Module:
    channels = tuple(max(round(width * factor), 1) for width in config.channels[1:])
    return _quietly("monai.networks.nets").VQVAE(
        spatial_dims=2,
        in_channels=3,
        out_channels=3,
        channels=channels,
        num_res_layers=config.residual_blocks,
        num_res_channels=channels,
        downsample_parameters=((2, 4, 1, 1),) * len(channels),
        upsample_parameters=((2, 4, 1, 1, 0),) * len(channels),
        num_embeddings=config.codebook_size,
        embedding_dim=config.latent_dim,
        decay=config.codebook_decay,
        ddp_sync=False,
    )


def monai_transformer(profile: Profile, grid: tuple[int, int]) -> nn.Module:
    """MONAI's decoder-only transformer with the layers, heads and width of our GPT-2."""
    return _quietly("monai.networks.nets").DecoderOnlyTransformer(
        num_tokens=profile.autoencoder.codebook_size + 1,
        max_seq_len=grid[0] * grid[1],
        attn_layers_dim=profile.gpt2.width,
        attn_layers_depth=profile.gpt2.layers,
        attn_layers_heads=profile.gpt2.heads,
    )


class MonaiLikelihood:
    """MONAI's likelihood of images or of code grids, in raster order.

    Args:
        vqvae: MONAI's, in evaluation mode.
        transformer: MONAI's, in evaluation mode.
        grid: (h, w) of the codes.
    """

    def __init__(self, vqvae: nn.Module, transformer: nn.Module, grid: tuple[int, int]) -> None:
        self.vqvae, self.transformer = vqvae, transformer
        ordering = _quietly("monai.utils.ordering").Ordering
        self.ordering = ordering("raster_scan", spatial_dims=2, dimensions=(1, *grid))
        self.inferer = _quietly("monai.inferers").VQVAETransformerInferer()

    def of_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float -> (B, h, w) log-likelihoods, nats, encoding included."""
        return self.inferer.get_likelihood(images, self.vqvae, self.transformer, self.ordering)

    def of_codes(self, codes: Tensor) -> Tensor:
        """(B, h, w) int64 -> (B, h, w) log-likelihoods, nats: the inferer, with an encoder that has nothing to do."""
        given = SimpleNamespace(index_quantize=lambda found: found, num_embeddings=self.vqvae.num_embeddings)
        return self.inferer.get_likelihood(codes, given, self.transformer, self.ordering)


def ganomaly(size_px: int) -> nn.Module:
    """Anomalib's GANomaly for (B, 3, size_px, size_px) images, in evaluation mode, with Anomalib's default widths."""
    module = _quietly("anomalib.models.image.ganomaly.torch_model")
    return module.GanomalyModel(input_size=(size_px, size_px), num_input_channels=3, **GANOMALY).eval()


def _quietly(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)
