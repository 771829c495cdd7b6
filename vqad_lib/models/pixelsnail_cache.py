"""PixelSNAIL one position at a time: each convolution is evaluated at the newly known position only.

Every layer's input at the positions before i is final once the codes before i are, so it is kept, and position i costs
one matrix product per convolution. The layout is (h, w, R, C): a tap of a kernel is one contiguous block of rows.
Hooks fill what is kept of the grids themselves while the prior makes one ordinary pass over them.
Works on the modules of `pixelsnail_layers`; tests hold the two equal.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqad_lib.models.pixelsnail_layers import (
    CausalAttention,
    CausalConv2d,
    GatedResidual,
    PixelBlock,
    half_size_cells,
)
from vqad_lib.models.prior import PrefixCache, Prior


class _ConvCache:
    """A causal convolution, with its padded input so far; a 1x1 convolution needs none."""

    def __init__(self, conv: CausalConv2d, cache: "PixelSnailCache") -> None:
        self.pad, self.bias, self.first = conv.padding[0], conv.bias, cache.first
        self.taps = [(dy, dx) for dy, dx in conv.mask[0, 0].nonzero().tolist()]
        weight = torch.stack([conv.weight[:, :, dy, dx] for dy, dx in self.taps], -1)  # out in taps
        self.weight = weight.permute(2, 1, 0).flatten(0, 1).contiguous()  # taps*in out
        if self.pad:
            h, w = (side + 2 * self.pad for side in cache.grid)
            self.kept = torch.zeros((h, w, cache.rows, conv.in_channels), device=conv.weight.device)
            cache.kept_by.append(self)
            cache.hooks.append(conv.register_forward_pre_hook(lambda _, inputs: self._keep(inputs[0])))

    def _keep(self, x: Tensor) -> None:
        """The input of a whole pass, (B, in, h, w), as the first B rows."""
        pad, (B, _, h, w) = self.pad, x.shape
        self.kept[pad : pad + h, pad : pad + w, :B] = x.permute(2, 3, 0, 1)

    def at(self, row: int, column: int, x: Tensor) -> Tensor:
        """(n, in) input of the branches at (row, column) -> (n, out)."""
        if not self.pad:
            return torch.addmm(self.bias, x, self.weight)
        self.put(row, column, x)
        return self.from_kept(row, column, len(x))

    def from_kept(self, row: int, column: int, n: int) -> Tensor:
        """The output of n branches at (row, column), from what is kept: (n, out)."""
        rows = slice(self.first, self.first + n)
        neighbours = [self.kept[row + dy, column + dx, rows] for dy, dx in self.taps]
        return torch.addmm(self.bias, torch.cat(neighbours, -1), self.weight)

    def put(self, row: int, column: int, x: Tensor) -> None:
        self.kept[row + self.pad, column + self.pad, self.first : self.first + len(x)] = x

    def copy(self, parents: Tensor, to: slice, row: int, position: int) -> None:  # noqa: ARG002
        rows = self.kept[: row + self.pad + 1]
        rows[:, :, to] = rows[:, :, parents]


class _AttentionCache:
    """Keys and values so far."""

    def __init__(self, block: CausalAttention, cache: "PixelSnailCache") -> None:
        self.block, self.columns, self.first = block, cache.grid[1], cache.first
        shape = (2, cache.rows, block.heads, cache.grid[0] * cache.grid[1], block.key_dim)
        self.kept = torch.empty(shape, device=block.to_query.weight.device)
        cache.kept_by.append(self)
        cache.hooks.append(block.to_key_value.register_forward_hook(lambda _, __, output: self._keep(output)))

    def _keep(self, key_value: Tensor) -> None:
        """Keys and values of a whole pass, (B, 2 * heads * key_dim, h, w), as the first B rows."""
        shape = (len(key_value), 2, self.block.heads, self.block.key_dim, -1)
        self.kept[:, : len(key_value)] = key_value.reshape(shape).movedim(1, 0).transpose(-1, -2)

    def at(self, position: int, query_input: Tensor, key_input: Tensor) -> Tensor:
        block, n = self.block, len(query_input)
        kept = self.kept[:, self.first : self.first + n]
        query = _pointwise(block.to_query, query_input)
        key_value = _pointwise(block.to_key_value, key_input).reshape(n, 2, block.heads, block.key_dim)
        kept[:, :, :, position] = key_value.movedim(1, 0)
        key, value = self._seen(kept, position)  # n heads seen key_dim
        query = query.reshape(n, block.heads, 1, block.key_dim)
        return F.scaled_dot_product_attention(query, key, value).flatten(1)

    def _seen(self, kept: Tensor, position: int) -> Tensor:
        if not self.block.half_size:
            return kept[..., : position + 1, :]
        pair = 2 * self.columns  # positions in two rows
        return half_size_cells(kept[..., : position // pair * pair, :], columns=self.columns)

    def copy(self, parents: Tensor, to: slice, row: int, position: int) -> None:  # noqa: ARG002
        kept = self.kept[:, :, :, : position + 1]
        kept[:, to] = kept[:, parents]


class _Residual:
    """A gated residual block, one position at a time."""

    def __init__(self, block: GatedResidual, cache: "PixelSnailCache") -> None:
        self.conv1, self.conv2 = _ConvCache(block.conv1, cache), _ConvCache(block.conv2, cache)
        self.context = block.context

    def at(self, row: int, column: int, x: Tensor, context: Tensor | None = None) -> Tensor:
        hidden = self.conv1.at(row, column, F.elu(x))
        if self.context is not None:
            hidden = hidden + _pointwise(self.context, F.elu(context))
        return x + F.glu(self.conv2.at(row, column, F.elu(hidden)), dim=-1)


class _Block:
    """A pixel block, one position at a time."""

    def __init__(self, block: PixelBlock, cache: "PixelSnailCache") -> None:
        self.residuals = [_Residual(residual, cache) for residual in block.residuals]
        self.attention = _AttentionCache(block.attention, cache)
        self.merge = _Residual(block.merge, cache)

    def at(self, row: int, column: int, x: Tensor, place: Tensor) -> Tensor:
        hidden = x
        for residual in self.residuals:
            hidden = residual.at(row, column, hidden)
        position = row * self.attention.columns + column
        context = self.attention.at(position, torch.cat([hidden, place], 1), torch.cat([x, hidden, place], 1))
        return self.merge.at(row, column, hidden, context)


class PixelSnailCache(PrefixCache):
    """The cache of a `PixelSnail`, made by its `prefix_cache`."""

    def __init__(self, prior: Prior, codes: Tensor, capacity: int) -> None:
        self.prior, self.grid, self.first, self.branches = prior, prior.grid, len(codes), 0
        self.rows, self.hooks, self.kept_by = len(codes) + capacity, [], []
        self.shift = _ConvCache(prior.shift, self)
        self.blocks = [_Block(block, self) for block in prior.blocks]
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
            part.copy(parents, to, position // self.grid[1], position)

    def step(self, position: int, previous: Tensor) -> Tensor:
        prior, n = self.prior, len(previous)
        before, (row, column) = divmod(position - 1, self.grid[1]), divmod(position, self.grid[1])
        embedded = F.embedding(previous, prior.embedding.weight)
        self.shift.put(*before, torch.cat([embedded, self.places[position - 1].expand(n, 2)], 1))
        x = self.shift.from_kept(row, column, n)
        for block in self.blocks:
            x = block.at(row, column, x, self.places[position].expand(n, 2))
        return _pointwise(prior.head, F.elu(x)).float()


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution at one position: (n, in) -> (n, out)."""
    return F.linear(x, conv.weight[:, :, 0, 0], conv.bias)
