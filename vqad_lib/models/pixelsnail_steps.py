"""PixelSNAIL one position at a time: each convolution is evaluated at the newly known position only.

Every layer's input at the positions before i is final once the codes before i are, so it is kept, and position i costs
one matrix product per convolution. The layout is (h, w, R, C): a tap of a kernel is one contiguous block of rows.
Works on the modules of `pixelsnail`; tests hold the two equal.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vqad_lib.models.pixelsnail import CausalAttention, CausalConv2d, GatedResidual, PixelBlock, PixelSnail
from vqad_lib.models.prior import Steps


class _ConvMemory:
    """A causal convolution, with its padded input so far."""

    def __init__(self, conv: CausalConv2d, rows: int, grid: tuple[int, int]) -> None:
        pad, kernel_px = conv.padding[0], conv.kernel_size[0]
        taps = conv.mask[0, 0].nonzero().tolist()
        self.taps = [(dy, dx) for dy, dx in taps]
        weight = torch.stack([conv.weight[:, :, dy, dx] for dy, dx in self.taps], -1)  # out in taps
        self.weight = weight.permute(2, 1, 0).flatten(0, 1).contiguous()  # taps*in out
        self.bias = conv.bias
        self.own = kernel_px // 2
        shape = (grid[0] + 2 * pad, grid[1] + 2 * pad, rows, conv.in_channels)
        self.kept = torch.zeros(shape, device=conv.weight.device) if kernel_px > 1 else None

    def at(self, row: int, column: int, x: Tensor) -> Tensor:
        """(R, in) input at (row, column) -> (R, out)."""
        if self.kept is None:
            return torch.addmm(self.bias, x, self.weight)
        self.put(row, column, x)
        return self.from_kept(row, column)

    def from_kept(self, row: int, column: int) -> Tensor:
        """The output at (row, column) from what is kept: (R, out)."""
        neighbours = [self.kept[row + dy, column + dx] for dy, dx in self.taps]
        return torch.addmm(self.bias, torch.cat(neighbours, -1), self.weight)

    def put(self, row: int, column: int, x: Tensor) -> None:
        self.kept[row + self.own, column + self.own] = x


class _ResidualMemory:
    def __init__(self, block: GatedResidual, rows: int, grid: tuple[int, int]) -> None:
        self.conv1, self.conv2 = _ConvMemory(block.conv1, rows, grid), _ConvMemory(block.conv2, rows, grid)
        self.context = block.context

    def at(self, row: int, column: int, x: Tensor, context: Tensor | None = None) -> Tensor:
        hidden = self.conv1.at(row, column, F.elu(x))
        if self.context is not None:
            hidden = hidden + F.linear(F.elu(context), self.context.weight[:, :, 0, 0], self.context.bias)
        return x + F.glu(self.conv2.at(row, column, F.elu(hidden)), dim=-1)


class _AttentionMemory:
    def __init__(self, block: CausalAttention, rows: int, positions: int) -> None:
        self.block = block
        shape = (2, rows, block.heads, positions, block.key_dim)
        self.kept = torch.empty(shape, device=block.to_query.weight.device)

    def at(self, position: int, query_input: Tensor, key_input: Tensor) -> Tensor:
        block, rows = self.block, len(query_input)
        to_query, to_key_value = block.to_query, block.to_key_value
        query = F.linear(query_input, to_query.weight[:, :, 0, 0], to_query.bias)
        key_value = F.linear(key_input, to_key_value.weight[:, :, 0, 0], to_key_value.bias)
        key_value = key_value.reshape(rows, 2, block.heads, block.key_dim).movedim(1, 0)
        self.kept[:, :, :, position] = key_value
        key, value = self.kept[:, :, :, : position + 1]  # R heads position+1 key_dim
        query = query.reshape(rows, block.heads, 1, block.key_dim)
        return F.scaled_dot_product_attention(query, key, value).flatten(1)


class _BlockMemory:
    def __init__(self, block: PixelBlock, rows: int, grid: tuple[int, int]) -> None:
        self.residuals = [_ResidualMemory(residual, rows, grid) for residual in block.residuals]
        self.attention = _AttentionMemory(block.attention, rows, grid[0] * grid[1])
        self.merge = _ResidualMemory(block.merge, rows, grid)
        self.columns = grid[1]

    def at(self, row: int, column: int, x: Tensor, place: Tensor) -> Tensor:
        hidden = x
        for residual in self.residuals:
            hidden = residual.at(row, column, hidden)
        context = self.attention.at(
            row * self.columns + column, torch.cat([hidden, place], 1), torch.cat([x, hidden, place], 1)
        )
        return self.merge.at(row, column, hidden, context)


class PixelSnailSteps(Steps):
    """See `Steps`; made by `PixelSnail.steps`."""

    def __init__(self, prior: PixelSnail, codes: Tensor, start: int) -> None:
        rows, self.prior = len(codes), prior
        self.shift = _ConvMemory(prior.shift, rows, prior.grid)
        self.blocks = [_BlockMemory(block, rows, prior.grid) for block in prior.blocks]
        h, w = prior.grid
        self.places = prior.position[0].movedim(0, -1).reshape(h * w, 2)
        for i in range(start):
            self.logits_at(i, codes.flatten(1))

    def logits_at(self, position: int, codes: Tensor) -> Tensor:
        prior, (row, column) = self.prior, divmod(position, self.prior.grid[1])
        place = self.places[position].expand(len(codes), 2)
        if position:
            before = divmod(position - 1, prior.grid[1])
            earlier_place = self.places[position - 1].expand(len(codes), 2)
            embedded = F.embedding(codes[:, position - 1], prior.embedding.weight)
            self.shift.put(*before, torch.cat([embedded, earlier_place], 1))
        x = self.shift.from_kept(row, column)
        for block in self.blocks:
            x = block.at(row, column, x, place)
        return F.linear(F.elu(x), prior.head.weight[:, :, 0, 0], prior.head.bias).float()
