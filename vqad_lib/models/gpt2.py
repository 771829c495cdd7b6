"""GPT-2 over code grids (section 3.3), from the transformers library, trained from scratch.

The grid is read in raster order behind a start token, index K; the network's output at position i - 1 predicts code
i. gpt2-medium is 24 layers, 16 heads, 1024 wide [30]; the published code of the paper uses 8 heads.
"""

import torch
from torch import Tensor, nn
from transformers import DynamicCache, GPT2Config, GPT2Model

from vqad_lib.config import Gpt2Config
from vqad_lib.models.prior import Prior, Steps


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

    def logits(self, codes: Tensor) -> Tensor:
        self.check(codes)
        B, h, w = codes.shape
        start = torch.full((B, 1), self.codebook_size, dtype=codes.dtype, device=codes.device)
        tokens = torch.cat([start, codes.reshape(B, h * w)[:, :-1]], 1)  # B hw: the last code predicts nothing
        hidden = self.network(input_ids=tokens).last_hidden_state
        return self.head(hidden).reshape(B, h, w, self.codebook_size).float()

    def steps(self, codes: Tensor, *, start: int) -> Steps:
        self.check(codes)
        return _CachedSteps(self, codes.flatten(1), start)


class _CachedSteps(Steps):
    """Keys and values of the tokens so far, in transformers' cache."""

    def __init__(self, prior: Gpt2, codes: Tensor, start: int) -> None:
        self.prior = prior
        self.cache = DynamicCache(config=prior.network.config)
        if start:
            tokens = torch.cat([self._start_token(codes), codes[:, : start - 1]], 1)  # R start
            self._run(tokens)

    def logits_at(self, position: int, codes: Tensor) -> Tensor:
        token = codes[:, position - 1 : position] if position else self._start_token(codes)
        return self.prior.head(self._run(token)[:, -1]).float()

    def _start_token(self, codes: Tensor) -> Tensor:
        return torch.full_like(codes[:, :1], self.prior.codebook_size)

    def _run(self, tokens: Tensor) -> Tensor:
        output = self.prior.network(input_ids=tokens, past_key_values=self.cache, use_cache=True)
        return output.last_hidden_state
