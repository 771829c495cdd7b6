"""Layers of PixelSNAIL: masked convolutions, gated residual blocks, causal attention, and the block of Fig. 3."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqad_lib.config import PixelSnailConfig


class CausalConv2d(nn.Conv2d):
    """A convolution that sees only earlier positions in raster order, and its own if `sees_itself`.

    (B, in_channels, h, w) -> (B, out_channels, h, w). The mask zeroes weights, so the output at position i is a sum
    in which later positions take part with weight exactly 0.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_px: int, *, sees_itself: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_px, padding=kernel_px // 2)
        earlier = torch.ones(kernel_px * kernel_px)
        earlier[kernel_px * kernel_px // 2 + sees_itself :] = 0
        self.register_buffer("mask", earlier.reshape(1, 1, kernel_px, kernel_px), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class GatedResidual(nn.Module):
    """ELU, convolution, ELU, dropout, gated convolution, beside a shortcut; `context` joins in the middle.

    (B, channels, h, w) [, (B, context_channels, h, w)] -> (B, channels, h, w).
    """

    def __init__(self, channels: int, kernel_px: int, *, dropout: float, context_channels: int = 0) -> None:
        super().__init__()
        self.conv1 = CausalConv2d(channels, channels, kernel_px)
        self.conv2 = CausalConv2d(channels, 2 * channels, kernel_px)
        self.context = nn.Conv2d(context_channels, channels, 1) if context_channels else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        hidden = self.conv1(F.elu(x))
        if self.context is not None:
            hidden = hidden + self.context(F.elu(context))
        hidden = self.conv2(self.dropout(F.elu(hidden)))
        return x + F.glu(hidden, dim=1)


class CausalAttention(nn.Module):
    """Attention of each position over itself and all earlier ones (eq. 8, with -inf on later positions).

    Queries (B, query_channels, h, w), keys and values from (B, key_channels, h, w) -> (B, heads * key_dim, h, w).
    With `half_size`, keys and values are averaged over cells of 2x2 positions, and a position attends to the cells that
    are complete before it in raster order, those of earlier pairs of rows, and to a cell of zeros, so that the first
    rows have one too.
    """

    def __init__(
        self, query_channels: int, key_channels: int, *, heads: int, key_dim: int, half_size: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.key_dim, self.half_size = heads, key_dim, half_size
        self.to_query = nn.Conv2d(query_channels, heads * key_dim, 1)
        self.to_key_value = nn.Conv2d(key_channels, 2 * heads * key_dim, 1)

    def forward(self, query_input: Tensor, key_input: Tensor) -> Tensor:
        B, _, h, w = query_input.shape
        shape = (B, -1, self.heads, self.key_dim, h * w)
        query = self.to_query(query_input).reshape(shape)[:, 0].transpose(-1, -2)  # B heads hw key_dim
        key_value = self.to_key_value(key_input).reshape(shape).transpose(-1, -2)  # B 2 heads hw key_dim
        if self.half_size:
            key, value = half_size_cells(key_value, columns=w).unbind(1)
            cells = torch.arange(key.shape[-2], device=key.device)
            complete = torch.arange(h, device=key.device).repeat_interleave(w) // 2 * (w // 2)  # before each position
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=cells <= complete[:, None])
        else:
            key, value = key_value.unbind(1)
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return mixed.transpose(-1, -2).reshape(B, self.heads * self.key_dim, h, w)


def half_size_cells(x: Tensor, *, columns: int) -> Tensor:
    """A cell of zeros, then means over cells of 2x2 positions, in raster order.

    (..., rows * columns, D) -> (..., 1 + rows // 2 * columns // 2, D); rows and columns are even.
    """
    grid = x.unflatten(-2, (-1, 2, columns // 2, 2))  # ... rows/2 2 columns/2 2 D
    cells = grid.mean((-4, -2)).flatten(-3, -2)
    return F.pad(cells, (0, 0, 1, 0))


class PixelBlock(nn.Module):
    """Residual blocks that gather the neighbourhood, then attention over all that came before (Fig. 3)."""

    def __init__(self, config: PixelSnailConfig) -> None:
        super().__init__()
        width, position = config.channels, 2
        self.residuals = nn.ModuleList(
            GatedResidual(width, config.kernel_px, dropout=config.dropout) for _ in range(config.residual_blocks)
        )
        self.attention = CausalAttention(
            width + position,
            2 * width + position,
            heads=config.heads,
            key_dim=config.key_dim,
            half_size=config.attention_grid == "half",
        )
        self.merge = GatedResidual(width, 1, dropout=config.dropout, context_channels=config.heads * config.key_dim)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        hidden = x
        for residual in self.residuals:
            hidden = residual(hidden)
        context = self.attention(torch.cat([hidden, position], 1), torch.cat([x, hidden, position], 1))
        return self.merge(hidden, context)
