"""GPT-2 over code grids (section 3.3), from the transformers library, trained from scratch.

The grid is read in raster order behind a start token, index K; the network's output at position i - 1 predicts code
i. gpt2-medium is 24 layers, 16 heads, 1024 wide [30]; the published code of the paper uses 8 heads, and
reads random codes in place of the second half of the grid, in training and scoring (`random_second_half`).
"""

from inspect import signature

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, GPT2Config, GPT2Model

from vqad_lib.config import Gpt2Config
from vqad_lib.models.prior import PrefixCache, Prior

# what transformers calls it from 5.24 on, or before
_CACHE = "cache" if "cache" in signature(GPT2Model.forward).parameters else "past_key_values"


class Gpt2(Prior):
    """The GPT-2 prior; see `Prior` for the interface."""

    def __init__(self, config: Gpt2Config, *, codebook_size: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.codebook_size, self.grid = codebook_size, grid
        self.network = GPT2Model(
            GPT2Config(
                vocab_size=codebook_size + 1,
                n_positions=grid[0] * grid[1],
                n_embd=config.width,
                n_layer=config.layers,
                n_head=config.heads,
                activation_function="gelu",  # as [38] has it; GPT-2 approximates it, slower on a CPU
                resid_pdrop=config.dropout,
                embd_pdrop=config.dropout,
                attn_pdrop=config.dropout,
                bos_token_id=codebook_size,
                eos_token_id=codebook_size,
                use_cache=False,
            )
        )
        self.head = nn.Linear(config.width, codebook_size, bias=False)
        nn.init.normal_(self.head.weight, 0.0, 0.02)
        n, generator = grid[0] * grid[1], torch.Generator().manual_seed(0)
        self.random_from = n // 2 if config.random_second_half else n
        # outside of training always the same ones, so that a score does not depend on the batch
        stand_ins = torch.randint(codebook_size, (n,), generator=generator)
        self.register_buffer("stand_ins", stand_ins, persistent=False)

    def logits(self, codes: Tensor) -> Tensor:
        self.check(codes)
        hidden = self.network(input_ids=self.tokens(codes)).last_hidden_state
        return self.head(hidden).reshape(*codes.shape, self.codebook_size).float()

    def tokens(self, codes: Tensor) -> Tensor:
        """What the network reads: (B, h, w) codes -> (B, hw), the start token first; the last code predicts nothing."""
        rows, half = codes.flatten(1), self.random_from
        if half < rows.shape[1]:
            stand_ins = self.stand_ins[half:].expand(len(rows), -1)
            if self.training:
                stand_ins = torch.randint_like(stand_ins, self.codebook_size)
            rows = torch.cat([rows[:, :half], stand_ins], 1)
        return torch.cat([torch.full_like(rows[:, :1], self.codebook_size), rows[:, :-1]], 1)

    def prefix_cache(self, codes: Tensor, *, capacity: int) -> PrefixCache:
        self.check(codes)
        return _Gpt2Cache(self, codes, capacity)

    @property
    def cache_bytes_per_row(self) -> int:
        config = self.network.config
        return 4 * 2 * config.n_layer * config.n_embd * config.n_positions


class _Gpt2Cache(PrefixCache):
    """Keys and values of all tokens so far: of the grids from transformers' cache, of the branches written in place.

    A step is written out on the weights of transformers' own blocks: with one token per row, the library's call spends
    most of its time beside the matrix products, and its cache is copied at every step.
    """

    def __init__(self, prior: Gpt2, codes: Tensor, capacity: int) -> None:
        self.prior, self.first, self.branches = prior, len(codes), 0
        network, n = prior.network, codes[0].numel()
        cache = DynamicCache(config=network.config)
        hidden = network(input_ids=prior.tokens(codes), **{_CACHE: cache}, use_cache=True).last_hidden_state
        self.logits = prior.head(hidden).float()
        config = network.config
        self.layers = [_Layer(block, config.n_embd, config.n_head) for block in network.h]
        shape = (config.n_layer, 2, len(codes) + capacity, config.n_head, n, config.n_embd // config.n_head)
        self.kept = torch.empty(shape, dtype=hidden.dtype, device=hidden.device)
        for kept, layer in zip(self.kept, cache.layers, strict=True):
            kept[0, : self.first], kept[1, : self.first] = layer.keys, layer.values

    def branch(self, parents: Tensor, position: int) -> None:
        to = slice(self.first + self.branches, self.first + self.branches + len(parents))
        self.branches += len(parents)
        kept = self.kept[:, :, :, :, : position + 1]  # token i is code i - 1
        kept[:, :, to] = kept[:, :, parents]

    def step(self, position: int, previous: Tensor) -> Tensor:
        network, rows = self.prior.network, slice(self.first, self.first + len(previous))
        if position > self.prior.random_from:
            previous = self.prior.stand_ins[position - 1].expand_as(previous)
        x = F.embedding(previous, network.wte.weight) + network.wpe.weight[position]
        for layer, kept in zip(self.layers, self.kept, strict=True):
            kept = kept[:, rows]
            x = x + self._attend(layer, F.layer_norm(x, x.shape[1:], *layer.norm1), kept, position)
            hidden = torch.addmm(layer.widen[1], F.layer_norm(x, x.shape[1:], *layer.norm2), layer.widen[0])
            x = x + torch.addmm(layer.narrow[1], F.gelu(hidden), layer.narrow[0])
        return F.linear(network.ln_f(x), self.prior.head.weight).float()

    @staticmethod
    def _attend(layer: "_Layer", x: Tensor, kept: Tensor, position: int) -> Tensor:
        """Attention of the newest token: (n, width) and kept (2, n, heads, hw, d) -> (n, width)."""
        n, heads, d = kept.shape[1], kept.shape[2], kept.shape[4]
        qkv = torch.addmm(layer.qkv[1], x, layer.qkv[0]).reshape(n, 3, heads, 1, d)
        kept[:, :, :, position] = qkv[:, 1:, :, 0].transpose(0, 1)
        key, value = kept[:, :, :, : position + 1]
        weights = (qkv[:, 0] @ key.transpose(-1, -2)).softmax(-1)  # quicker than the fused kernel for one query
        return torch.addmm(layer.mix[1], (weights @ value).reshape(n, heads * d), layer.mix[0])


class _Layer:
    """Weights and biases of one of transformers' blocks, looked up once instead of at every step."""

    def __init__(self, block: nn.Module, width: int, heads: int) -> None:
        self.norm1 = (block.ln_1.weight, block.ln_1.bias, block.ln_1.eps)
        self.norm2 = (block.ln_2.weight, block.ln_2.bias, block.ln_2.eps)
        scale = torch.ones(3 * width, device=block.ln_1.weight.device)
        scale[:width] = (width // heads) ** -0.5  # of attention, put into the queries
        self.qkv = (block.attn.c_attn.weight * scale, block.attn.c_attn.bias * scale)
        self.mix = (block.attn.c_proj.weight, block.attn.c_proj.bias)
        self.widen = (block.mlp.c_fc.weight, block.mlp.c_fc.bias)
        self.narrow = (block.mlp.c_proj.weight, block.mlp.c_proj.bias)
