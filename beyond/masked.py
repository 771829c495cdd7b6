"""Encoders over code grids that know no order: p(s_i | the codes that are shown), for eq. 20 (section 6.1).

A BERT from the transformers library, and a PixelSNAIL whose convolutions and attention see all positions, both trained
from scratch. Each grid of a batch hides a share of its codes, the share
drawn evenly from 0 to 1, and the network says what they are: so it has met a grid with one code hidden, and one with
nearly all of them.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from vqad_lib.config import Gpt2Config, PixelSnailConfig
from vqad_lib.detectors.scoring import encode_all
from vqad_lib.experiment.networks import load_autoencoder
from vqad_lib.experiment.run import Run
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.models.pixelsnail_layers import CausalAttention, CausalConv2d
from vqad_lib.models.prior import code_nll
from vqad_lib.seeds import seed_from
from vqad_lib.training.checkpoint import load_weights
from vqad_lib.training.loop import Batches, Losses, Objective, finished, fit

KIND = "masked"
ENCODERS = {"BERT": "gpt2", "PixelSNAIL": "pixelsnail"}  # title -> the section of the profile that it is built by


class MaskedEncoder(nn.Module):
    """Layers, heads, width and dropout are those of the profile's GPT-2; index K stands for a hidden code."""

    def __init__(self, config: Gpt2Config, *, codebook_size: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        bert = BertConfig(
            vocab_size=codebook_size + 1,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=4 * config.width,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            max_position_embeddings=grid[0] * grid[1],
            type_vocab_size=1,
        )
        self.network = BertModel(bert, add_pooling_layer=False)
        self.head = nn.Linear(config.width, codebook_size)

    def forward(self, codes: Tensor, hidden: Tensor) -> Tensor:
        """(B, h, w) int64 and bool, True where a code is not to be seen -> (B, h, w, K) float32."""
        tokens = codes.masked_fill(hidden, self.codebook_size).flatten(1)
        states = self.network(input_ids=tokens).last_hidden_state
        return self.head(states).reshape(*codes.shape, self.codebook_size).float()


class FullAttention(CausalAttention):
    """Each position looks at all; shapes as those of `CausalAttention`."""

    def forward(self, query_input: Tensor, key_input: Tensor) -> Tensor:
        B, _, h, w = query_input.shape
        shape = (B, -1, self.heads, self.key_dim, h * w)
        query = self.to_query(query_input).reshape(shape)[:, 0].transpose(-1, -2)
        key, value = self.to_key_value(key_input).reshape(shape).transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(-1, -2).reshape(B, self.heads * self.key_dim, h, w)


class MaskedPixelSnail(PixelSnail):
    """The profile's PixelSNAIL without its order: no weight is masked; code K stands for a hidden one."""

    def __init__(self, config: PixelSnailConfig, *, codebook_size: int, grid: tuple[int, int]) -> None:
        super().__init__(replace(config, attention_grid="whole"), codebook_size=codebook_size + 1, grid=grid)
        for block in self.blocks:
            channels = block.attention.to_query.in_channels, block.attention.to_key_value.in_channels
            block.attention = FullAttention(*channels, heads=config.heads, key_dim=config.key_dim)
        for convolution in (module for module in self.modules() if isinstance(module, CausalConv2d)):
            convolution.mask.fill_(1)

    def forward(self, codes: Tensor, hidden: Tensor) -> Tensor:
        """As `MaskedEncoder`."""
        last = self.codebook_size - 1
        return self.logits(codes.masked_fill(hidden, last))[..., :last]


def hidden_nll(network: nn.Module, codes: Tensor) -> Losses:
    """The mean NLL of the codes that are hidden, nats; drawn on the CPU, one at least in each grid."""
    draws = torch.rand(codes.shape)
    hidden = (draws < torch.rand(len(codes), 1, 1)) | (draws == draws.amin((1, 2), keepdim=True))
    hidden = hidden.to(codes.device)
    return {"loss": code_nll(network(codes, hidden), codes)[hidden].mean()}


def train_masked(run: Run, *, autoencoder: str, scheme: str, encoder: str = "BERT") -> nn.Module:
    """The encoder on the codes of a trained autoencoder, trained as the profile's prior is, unless it is there.

    Args:
        encoder: a key of `ENCODERS`.

    Raises:
        VqadError: the autoencoder has not been trained yet.
    """
    coder = load_autoencoder(run, autoencoder=autoencoder, scheme=scheme)
    key, size = ENCODERS[encoder], run.profile.autoencoder.codebook_size
    sections = [key, f"training.{key}", "threads_per_stage", "autoencoder.codebook_size"]
    shaping = {"sections": sections, "code": ["training", "../beyond/masked.py"], "alone": "seeds.py"}
    folder = run.place(scheme, f"{KIND}_{autoencoder}", coder.folder.name, **shaping)
    torch.manual_seed(seed_from(run.profile.seed, KIND, autoencoder, scheme))
    kind = MaskedEncoder if key == "gpt2" else MaskedPixelSnail
    network = kind(getattr(run.profile, key), codebook_size=size, grid=run.grid).to(run.device)
    if not finished(folder):
        config, splits = getattr(run.profile.training, key), run.splits(scheme)
        normal = run.frames.index["label"].to_numpy() == 0
        train, validation = (
            Batches(
                encode_all(coder.network, run.images(normal & (splits == split))),
                batch_size=config.batch_size,
                seed=run.profile.seed,
                shuffle=split == "train",
            )
            for split in ("train", "validation")
        )
        objective = Objective(KIND, network, lambda codes, _epoch: hidden_nll(network, codes))
        fit([objective], train=train, validation=validation, config=config, folder=folder, device=run.device)
    load_weights(folder / f"{KIND}.safetensors", network)
    return network.eval().requires_grad_(False)
