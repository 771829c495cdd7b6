"""PixelSNAIL one position at a time: each convolution is evaluated at the newly known position only.

Every layer's input at the positions before i is final once the codes before i are, so it is kept, and position i costs
one matrix product per convolution. The layout is (h, w, R, C): a tap of a kernel is one contiguous block of rows.
Hooks fill what is kept of the grids themselves while the prior makes one ordinary pass over them.

The blocks are the prior's own, with convolutions and attention exchanged for those here, which take one position of n
branches, (n, C), in place of (B, C, h, w); tests hold the two equal.
"""

import copy
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqad_lib.models.pixelsnail_layers import CausalAttention, CausalConv2d, half_size_cells
from vqad_lib.models.prior import PrefixCache, Prior


class _CachedConv:
    """A causal convolution at `position`, with its padded input so far; a 1x1 convolution needs none."""

    def __init__(self, conv: CausalConv2d, cache: "PixelSnailCache") -> None:
        self.pad, self.bias, self.first, self.columns = conv.padding[0], conv.bias, cache.first, cache.grid[1]
        self.taps = conv.mask[0, 0].nonzero().tolist()
        weight = torch.stack([conv.weight[:, :, dy, dx] for dy, dx in self.taps], -1)  # out in taps
        self.weight = weight.permute(2, 1, 0).flatten(0, 1).contiguous()  # taps*in out
        if self.pad:
            h, w = (side + 2 * self.pad for side in cache.grid)
            self.kept = torch.zeros((h, w, cache.rows, conv.in_channels), device=conv.weight.device)
            cache.kept_by.append(self)
            cache.hooks.append(conv.register_forward_pre_hook(lambda _, inputs: self._fill(inputs[0])))

    def _fill(self, x: Tensor) -> None:
        """The input of a whole pass, (B, in, h, w), as the first B rows."""
        pad, (B, _, h, w) = self.pad, x.shape
        self.kept[pad : pad + h, pad : pad + w, :B] = x.permute(2, 3, 0, 1)

    def __call__(self, x: Tensor) -> Tensor:
        """(n, in) input of the branches -> (n, out)."""
        if not self.pad:
            return torch.addmm(self.bias, x, self.weight)
        self.put(x, self.position)
        return self.output(len(x))

    def put(self, x: Tensor, position: int) -> None:
        row, column = divmod(position, self.columns)
        self.kept[row + self.pad, column + self.pad, self.first : self.first + len(x)] = x

    def output(self, n: int) -> Tensor:
        """The output of n branches, from what is kept: (n, out)."""
        (row, column), rows = divmod(self.position, self.columns), slice(self.first, self.first + n)
        neighbours = [self.kept[row + dy, column + dx, rows] for dy, dx in self.taps]
        return torch.addmm(self.bias, torch.cat(neighbours, -1), self.weight)

    def copy(self, parents: Tensor, to: slice, position: int) -> None:
        rows = self.kept[: position // self.columns + self.pad + 1]
        rows[:, :, to] = rows[:, :, parents]


class _CachedAttention:
    """Attention at `position`, with keys and values so far."""

    def __init__(self, block: CausalAttention, cache: "PixelSnailCache") -> None:
        self.block, self.first, self.columns = block, cache.first, cache.grid[1]
        shape = (2, cache.rows, block.heads, cache.grid[0] * cache.grid[1], block.key_dim)
        self.kept = torch.empty(shape, device=block.to_query.weight.device)
        cache.kept_by.append(self)
        cache.hooks.append(block.to_key_value.register_forward_hook(lambda _, __, output: self._fill(output)))

    def _fill(self, key_value: Tensor) -> None:
        """Keys and values of a whole pass, (B, 2 * heads * key_dim, h, w), as the first B rows."""
        shape = (len(key_value), 2, self.block.heads, self.block.key_dim, -1)
        self.kept[:, : len(key_value)] = key_value.reshape(shape).movedim(1, 0).transpose(-1, -2)

    def __call__(self, query_input: Tensor, key_input: Tensor) -> Tensor:
        """(n, query_channels) and (n, key_channels) of the branches -> (n, heads * key_dim)."""
        block, n = self.block, len(query_input)
        kept = self.kept[:, self.first : self.first + n]
        query = _pointwise(block.to_query, query_input).reshape(n, block.heads, 1, block.key_dim)
        key_value = _pointwise(block.to_key_value, key_input).reshape(n, 2, block.heads, block.key_dim)
        kept[:, :, :, self.position] = key_value.movedim(1, 0)
        seen = kept[..., : self.position + 1, :]
        if block.half_size:
            pair = 2 * self.columns  # positions in two rows
            seen = half_size_cells(kept[..., : self.position // pair * pair, :], columns=self.columns)
        return F.scaled_dot_product_attention(query, *seen).flatten(1)

    def copy(self, parents: Tensor, to: slice, position: int) -> None:
        kept = self.kept[:, :, :, : position + 1]
        kept[:, to] = kept[:, parents]


class PixelSnailCache(PrefixCache):
    """The cache of a `PixelSnail`, made by its `prefix_cache`."""

    def __init__(self, prior: Prior, codes: Tensor, capacity: int) -> None:
        self.prior, self.grid, self.first, self.branches = prior, prior.grid, len(codes), 0
        self.rows, self.hooks, self.kept_by = len(codes) + capacity, [], []
        self.shift = _CachedConv(prior.shift, self)
        self.blocks = [_at_one_position(block, self) for block in prior.blocks]
        self.places = prior.position[0].movedim(0, -1).flatten(0, 1)  # hw 2
        try:
            self.logits = prior.logits(codes).flatten(1, 2)
        finally:
            for hook in self.hooks:
                hook.remove()

    def branch(self, parents: Tensor, position: int) -> None:
        to = slice(self.first + self.branches, self.first + self.branches + len(parents))
        self.branches += len(parents)
        for part in self.kept_by:
            part.copy(parents, to, position)

    def step(self, position: int, previous: Tensor) -> Tensor:
        prior, n = self.prior, len(previous)
        for part in self.kept_by:
            part.position = position
        embedded = F.embedding(previous, prior.embedding.weight)
        self.shift.put(torch.cat([embedded, self.places[position - 1].expand(n, 2)], 1), position - 1)
        x = self.shift.output(n)
        for block in self.blocks:
            x = block(x, self.places[position].expand(n, 2))
        return _pointwise(prior.head, F.elu(x)).float()


def _at_one_position(module: nn.Module, cache: PixelSnailCache) -> Callable[..., Tensor]:
    """What a module computes, at one position; a copy that shares its parameters, with other layers inside."""
    if isinstance(module, CausalConv2d):
        return _CachedConv(module, cache)
    if isinstance(module, CausalAttention):
        return _CachedAttention(module, cache)
    if isinstance(module, nn.Conv2d):
        return partial(_pointwise, module)
    if isinstance(module, nn.ModuleList):
        return [_at_one_position(child, cache) for child in module]
    if isinstance(module, nn.Dropout):
        return lambda x: x
    twin = copy.copy(module)
    twin.__dict__.update({name: _at_one_position(child, cache) for name, child in module.named_children()})
    return twin.forward


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution at one position: (n, in) -> (n, out)."""
    return F.linear(x, conv.weight[:, :, 0, 0], conv.bias)
