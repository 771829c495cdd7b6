"""PixelSNAIL over code grids (section 3.4): causal convolutions that feed causal attention.

References:
    [24] Chen et al. 2017, PixelSNAIL: An Improved Autoregressive Generative Model.
    [25] van den Oord et al. 2016, Pixel Recurrent Neural Networks: masked convolutions.

Differences from [24]: one masked convolution sees all earlier neighbours, above right included, where [24] adds a
downward and a rightward stream; codes are embedded instead of entering as intensities; the attention is multi-head.
The published code of the paper attends on a half-size grid and has two residual blocks; the text's whole grid and
four blocks are the defaults, `attention_grid` and `residual_blocks` switch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqad_lib.config import PixelSnailConfig
from vqad_lib.models.pixelsnail_cache import PixelSnailCache
from vqad_lib.models.pixelsnail_layers import CausalAttention, CausalConv2d, PixelBlock
from vqad_lib.models.prior import PrefixCache, Prior


class PixelSnail(Prior):
    """The PixelSNAIL prior; see `Prior` for the interface."""

    def __init__(self, config: PixelSnailConfig, *, codebook_size: int, grid: tuple[int, int]) -> None:
        super().__init__()
        if config.attention_grid == "half" and (grid[0] % 2 or grid[1] % 2):
            raise ValueError(f"attention_grid half needs an even grid of codes, got {grid[0]}x{grid[1]}")
        self.codebook_size, self.grid = codebook_size, grid
        width = config.channels
        self.embedding = nn.Embedding(codebook_size, width)
        # only the first layer must not see its own position; from there on, "itself" means "the codes before it"
        self.shift = CausalConv2d(width + 2, width, config.kernel_px, sees_itself=False)
        self.blocks = nn.ModuleList(PixelBlock(config) for _ in range(config.blocks))
        self.head = nn.Conv2d(width, codebook_size, 1)
        rows, columns = (torch.linspace(-1, 1, n) for n in grid)
        position = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]
        self.register_buffer("position", position, persistent=False)  # 1 2 h w

    def logits(self, codes: Tensor) -> Tensor:
        self.check(codes)
        position = self.position.expand(len(codes), -1, -1, -1)
        x = self.embedding(codes).movedim(-1, 1)  # B width h w
        x = self.shift(torch.cat([x, position.to(x.dtype)], 1))
        for block in self.blocks:
            x = block(x, position.to(x.dtype))
        return self.head(F.elu(x)).movedim(1, -1).float()  # B h w K

    def prefix_cache(self, codes: Tensor, *, capacity: int) -> PrefixCache:
        return PixelSnailCache(self, codes, capacity)

    @property
    def cache_bytes_per_row(self) -> int:
        h, w = self.grid
        convolutions = [m for m in self.modules() if isinstance(m, CausalConv2d) and m.padding[0]]
        inputs = sum(c.in_channels * (h + 2 * c.padding[0]) * (w + 2 * c.padding[0]) for c in convolutions)
        attention = sum(m.to_key_value.out_channels * h * w for m in self.modules() if isinstance(m, CausalAttention))
        return 4 * (inputs + attention)
