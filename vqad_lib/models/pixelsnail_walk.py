"""PixelSNAIL one position at a time: each convolution is evaluated at the newly known position only.

Every layer's input at the positions before i is final once the codes before i are, so it is kept, and position i costs
one matrix product per convolution. The layout is (h, w, R, C): a tap of a kernel is one contiguous block of rows.
Works on the modules of `pixelsnail`; tests hold the two equal.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vqad_lib.models.pixelsnail import (
    CausalAttention,
    CausalConv2d,
    GatedResidual,
    PixelBlock,
    PixelSnail,
    half_size_cells,
)
from vqad_lib.models.prior import Walk


class _ConvMemory:
    """A causal convolution, with its padded input so far; a 1x1 convolution needs none."""

    def __init__(self, conv: CausalConv2d, rows: int, grid: tuple[int, int], hooks: list) -> None:
        self.pad = conv.padding[0]
        self.taps = [(dy, dx) for dy, dx in conv.mask[0, 0].nonzero().tolist()]
        weight = torch.stack([conv.weight[:, :, dy, dx] for dy, dx in self.taps], -1)  # out in taps
        self.weight = weight.permute(2, 1, 0).flatten(0, 1).contiguous()  # taps*in out
        self.bias, self.kept = conv.bias, None
        if self.pad:
            shape = (grid[0] + 2 * self.pad, grid[1] + 2 * self.pad, rows, conv.in_channels)
            self.kept = torch.zeros(shape, device=conv.weight.device)
            hooks.append(conv.register_forward_pre_hook(lambda _, inputs: self._keep(inputs[0])))

    def _keep(self, x: Tensor) -> None:
        """The input of a whole pass, (B, in, h, w), as the first B rows."""
        pad, (B, _, h, w) = self.pad, x.shape
        self.kept[pad : pad + h, pad : pad + w, :B] = x.permute(2, 3, 0, 1)

    def at(self, row: int, column: int, x: Tensor, first: int) -> Tensor:
        """(n, in) input of rows `first` and after at (row, column) -> (n, out)."""
        if self.kept is None:
            return torch.addmm(self.bias, x, self.weight)
        self.put(row, column, x, first)
        return self.from_kept(row, column, first, len(x))

    def from_kept(self, row: int, column: int, first: int, n: int) -> Tensor:
        """The output of n rows at (row, column), from what is kept: (n, out)."""
        neighbours = [self.kept[row + dy, column + dx, first : first + n] for dy, dx in self.taps]
        return torch.addmm(self.bias, torch.cat(neighbours, -1), self.weight)

    def put(self, row: int, column: int, x: Tensor, first: int) -> None:
        self.kept[row + self.pad, column + self.pad, first : first + len(x)] = x

    def copy(self, parents: Tensor, to: slice, last_row: int) -> None:
        if self.kept is not None:
            rows = self.kept[: last_row + self.pad + 1]
            rows[:, :, to] = rows[:, :, parents]


class _ResidualMemory:
    def __init__(self, block: GatedResidual, rows: int, grid: tuple[int, int], hooks: list) -> None:
        self.conv1, self.conv2 = (_ConvMemory(conv, rows, grid, hooks) for conv in (block.conv1, block.conv2))
        self.context = block.context

    def at(self, row: int, column: int, x: Tensor, first: int, context: Tensor | None = None) -> Tensor:
        hidden = self.conv1.at(row, column, F.elu(x), first)
        if self.context is not None:
            hidden = hidden + F.linear(F.elu(context), self.context.weight[:, :, 0, 0], self.context.bias)
        return x + F.glu(self.conv2.at(row, column, F.elu(hidden), first), dim=-1)

    def copy(self, parents: Tensor, to: slice, last_row: int) -> None:
        self.conv1.copy(parents, to, last_row)
        self.conv2.copy(parents, to, last_row)


class _AttentionMemory:
    def __init__(self, block: CausalAttention, rows: int, grid: tuple[int, int], hooks: list) -> None:
        self.block, self.columns = block, grid[1]
        shape = (2, rows, block.heads, grid[0] * grid[1], block.key_dim)
        self.kept = torch.empty(shape, device=block.to_query.weight.device)
        hooks.append(block.to_key_value.register_forward_hook(lambda _, __, output: self._keep(output)))

    def _keep(self, key_value: Tensor) -> None:
        """Keys and values of a whole pass, (B, 2 * heads * key_dim, h, w), as the first B rows."""
        shape = (len(key_value), 2, self.block.heads, self.block.key_dim, -1)
        self.kept[:, : len(key_value)] = key_value.reshape(shape).movedim(1, 0).transpose(-1, -2)

    def at(self, position: int, query_input: Tensor, key_input: Tensor, first: int) -> Tensor:
        block, n = self.block, len(query_input)
        to_query, to_key_value = block.to_query, block.to_key_value
        query = F.linear(query_input, to_query.weight[:, :, 0, 0], to_query.bias)
        key_value = F.linear(key_input, to_key_value.weight[:, :, 0, 0], to_key_value.bias)
        key_value = key_value.reshape(n, 2, block.heads, block.key_dim).movedim(1, 0)
        self.kept[:, first : first + n, :, position] = key_value
        key, value = self._seen(self.kept[:, first : first + n], position)  # n heads seen key_dim
        query = query.reshape(n, block.heads, 1, block.key_dim)
        return F.scaled_dot_product_attention(query, key, value).flatten(1)

    def _seen(self, kept: Tensor, position: int) -> Tensor:
        if not self.block.half_size:
            return kept[..., : position + 1, :]
        pair = 2 * self.columns  # positions in two rows
        return half_size_cells(kept[..., : position // pair * pair, :], columns=self.columns)

    def copy(self, parents: Tensor, to: slice, position: int) -> None:
        kept = self.kept[:, :, :, : position + 1]
        kept[:, to] = kept[:, parents]


class _BlockMemory:
    def __init__(self, block: PixelBlock, rows: int, grid: tuple[int, int], hooks: list) -> None:
        self.residuals = [_ResidualMemory(residual, rows, grid, hooks) for residual in block.residuals]
        self.attention = _AttentionMemory(block.attention, rows, grid, hooks)
        self.merge = _ResidualMemory(block.merge, rows, grid, hooks)
        self.columns = grid[1]

    def at(self, row: int, column: int, x: Tensor, first: int, place: Tensor) -> Tensor:
        hidden = x
        for residual in self.residuals:
            hidden = residual.at(row, column, hidden, first)
        position = row * self.columns + column
        context = self.attention.at(position, torch.cat([hidden, place], 1), torch.cat([x, hidden, place], 1), first)
        return self.merge.at(row, column, hidden, first, context)

    def copy(self, parents: Tensor, to: slice, position: int) -> None:
        for residual in (*self.residuals, self.merge):
            residual.copy(parents, to, position // self.columns)
        self.attention.copy(parents, to, position)


class PixelSnailWalk(Walk):
    """See `Walk`; made by `PixelSnail.walk`."""

    def __init__(self, prior: PixelSnail, codes: Tensor, capacity: int) -> None:
        self.prior, self.first, self.branches = prior, len(codes), 0
        rows, hooks = len(codes) + capacity, []
        self.shift = _ConvMemory(prior.shift, rows, prior.grid, hooks)
        self.blocks = [_BlockMemory(block, rows, prior.grid, hooks) for block in prior.blocks]
        self.places = prior.position[0].movedim(0, -1).flatten(0, 1)  # hw 2
        try:
            self.logits = prior.logits(codes).flatten(1, 2)
        finally:
            for hook in hooks:
                hook.remove()

    def branch(self, parents: Tensor, position: int) -> None:
        to = slice(self.first + self.branches, self.first + self.branches + len(parents))
        self.branches += len(parents)
        self.shift.copy(parents, to, position // self.prior.grid[1])
        for block in self.blocks:
            block.copy(parents, to, position)

    def step(self, position: int, previous: Tensor) -> Tensor:
        prior, n = self.prior, len(previous)
        before, (row, column) = divmod(position - 1, prior.grid[1]), divmod(position, prior.grid[1])
        embedded = F.embedding(previous, prior.embedding.weight)
        self.shift.put(*before, torch.cat([embedded, self.places[position - 1].expand(n, 2)], 1), self.first)
        x = self.shift.from_kept(row, column, self.first, n)
        for block in self.blocks:
            x = block.at(row, column, x, self.first, self.places[position].expand(n, 2))
        return F.linear(F.elu(x), prior.head.weight[:, :, 0, 0], prior.head.bias).float()
