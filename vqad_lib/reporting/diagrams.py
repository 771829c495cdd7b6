"""Figures 1-3, drawn from live networks: one pass with hooks gives the parts, their order, shapes and parameters.

What a diagram says in words and numbers is read off the modules, and there is a box for each module that ran; only the
operations between modules (ELU, gates, sums) are known from the classes drawn here. Another network, another drawing.
"""

import copy
from dataclasses import dataclass
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from vqad_lib.models.gpt2 import Gpt2
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.models.pixelsnail_layers import CausalConv2d, GatedResidual, PixelBlock
from vqad_lib.models.prior import Prior
from vqad_lib.reporting.drawing import Box, Kind, Sheet, height_of

_BLOCKS_AT_MOST = 4  # drawn one by one; of more, the first and the last
_GAP_IN = 0.2

Entry = tuple[str, tuple[str, ...], Kind]
"""A box to be: title, small print, kind."""


@dataclass(frozen=True)
class Part:
    """A module that ran.

    Attributes:
        module: the module itself.
        shape: of its output, without the batch.
        parameters: numbers in it and below it, as stored: a masked weight counts.
    """

    module: nn.Module
    shape: tuple[int, ...]
    parameters: int

    @property
    def size(self) -> str:
        """Shape and parameters in words."""
        shape = " × ".join(map(str, self.shape))
        return f"{shape} · {self.parameters:,} parameters" if self.parameters else shape


def pixelsnail_diagram(prior: PixelSnail) -> Figure:
    """Figure 1: the whole of PixelSNAIL; residual blocks gather the neighbourhood, attention looks at all of it."""
    parts, (h, w), n = measure(prior), prior.grid, len(prior.blocks)
    begin: list[Entry] = [
        (f"codes {h} × {w}, of {prior.codebook_size}", (), "data"),
        (words(prior.embedding), (parts["embedding"].size,), "layer"),
        (words(prior.shift), ("sees earlier positions only", parts["shift"].size), "layer"),
    ]
    end: list[Entry] = [
        (f"ELU, {words(prior.head)}", (parts["head"].size,), "layer"),
        (f"logits {h} × {w} × {prior.codebook_size}", (), "data"),
    ]
    shown, tall, x, left = _shown(n), 0.98, 4.5, 1.7
    sheet = Sheet(7.4, 0.4 + _tall(begin) + len(shown) * (tall + _GAP_IN) + _tall(end))
    sheet.heading(f"PixelSNAIL · {count(prior):,} parameters")
    *_, before = chain(sheet, x, sheet.height_in - 0.35, begin, width=2.7)
    size = " × ".join(map(str, prior.position.shape[1:]))
    position = sheet.box(0.8, before.y, "position", f"row, column: {size}", width=1.4, kind="data")
    sheet.arrow(position.right, before.left)
    y = before.bottom[1] - _GAP_IN
    for i in shown:
        title = f"pixel block {_of(i, n)} · {parts[f'blocks.{i}'].parameters:,} parameters"
        sheet.frame(left, y - tall, 7.3, y, title)
        first, last = _pixel_block_in_brief(sheet, parts, f"blocks.{i}", left, y)
        between = y + _GAP_IN / 2
        sheet.arrow(before.bottom, (before.x, between), (first.x, between), first.top)
        sheet.arrow(position.bottom, (position.x, first.y), (left, first.y))
        before, y = last, y - tall - _GAP_IN
    head, _ = chain(sheet, x, y, end, width=2.7)
    sheet.arrow(before.bottom, (before.x, y + _GAP_IN / 2), (x, y + _GAP_IN / 2), head.top)
    return sheet.figure


def _pixel_block_in_brief(sheet: Sheet, parts: dict[str, Part], name: str, left: float, top: float) -> tuple[Box, Box]:
    """Residual blocks, attention and merge, side by side; the first and the last box."""
    block: PixelBlock = parts[name].module
    attention, merge = parts[f"{name}.attention"], parts[f"{name}.merge"]
    rows: list[tuple[str, Part, int, Kind]] = [
        (f"residual block × {len(block.residuals)}", parts[f"{name}.residuals.0"], count(block.residuals), "layer"),
        (f"causal attention, {block.attention.heads} heads", attention, attention.parameters, "attention"),
        ("merge", merge, merge.parameters, "layer"),
    ]
    boxes: list[Box] = []
    for i, (title, part, parameters, kind) in enumerate(rows):
        details = (" × ".join(map(str, part.shape)), f"{parameters:,} parameters")
        boxes.append(sheet.box(left + 0.98 + 1.82 * i, top - 0.6, title, *details, width=1.62, kind=kind))
        if i:
            sheet.arrow(boxes[-2].right, boxes[-1].left)
    return boxes[0], boxes[-1]


def pixel_block_diagram(prior: PixelSnail) -> Figure:
    """Figure 3: one pixel block, and on the right one of its residual blocks."""
    parts, block = measure(prior), prior.blocks[0]
    n, size = len(block.residuals), " × ".join(map(str, parts["blocks.0"].shape))
    attention, merge = block.attention, block.merge
    look = (
        f"query from hidden, position: {words(attention.to_query)}",
        f"key, value from x, hidden, position: {words(attention.to_key_value)}",
        "later positions masked with −∞",
        parts["blocks.0.attention"].size,
    )
    join = f"in its middle + {words(merge.context)}, of ELU of the attention"
    entries: list[Entry] = [
        (f"x · {size}", (), "data"),
        *_alike("residual block", [parts[f"blocks.0.residuals.{i}"].size for i in range(n)], "layer"),
        (f"causal attention, {attention.heads} heads of {attention.key_dim}", look, "attention"),
        (f"merge: residual block with {words(merge.conv1)}", (join, parts["blocks.0.merge"].size), "layer"),
        (f"to the next block · {size}", (), "data"),
    ]
    inner = _residual_entries(parts, "blocks.0.residuals.0", block.residuals[0])
    sheet = Sheet(7.4, 0.4 + max(_tall(entries), _tall(inner) + 0.95))
    sheet.heading(f"Pixel block, {len(prior.blocks)} of them · {parts['blocks.0'].parameters:,} parameters each")
    x, *_, last, looks, joins, _out = chain(sheet, 2.65, sheet.height_in - 0.35, entries, width=2.85)
    upper, lower = looks.y + looks.height / 4, looks.y - looks.height / 4
    sheet.arrow(x.left, (0.95, x.y), (0.95, upper), (looks.left[0], upper))
    where = " × ".join(map(str, prior.position.shape[1:]))
    position = sheet.box(0.5, lower, "position", where, width=0.85, kind="data")
    sheet.arrow(position.right, (looks.left[0], lower))
    hidden_y = (last.bottom[1] + looks.top[1]) / 2
    sheet.arrow((last.x, hidden_y), (4.2, hidden_y), (4.2, joins.y), joins.right)
    sheet.text(0.83, (x.y + upper) / 2, "x", size=7, rotation=90)
    sheet.text(4.32, looks.y, "hidden", size=7, ha="center", rotation=90)
    _residual_in_full(sheet, inner, left=4.6)
    return sheet.figure


def _residual_entries(parts: dict[str, Part], name: str, block: GatedResidual) -> list[Entry]:
    return [
        ("ELU", (), "activation"),
        (words(block.conv1), (parts[f"{name}.conv1"].size,), "layer"),
        (f"ELU, {words(block.dropout)}", (), "activation"),
        (words(block.conv2), (parts[f"{name}.conv2"].size,), "layer"),
        ("gate: half × sigmoid(other half)", (), "activation"),
    ]


def _residual_in_full(sheet: Sheet, entries: list[Entry], *, left: float) -> None:
    top, right = sheet.height_in - 0.35, 7.3
    sheet.frame(left, top - _tall(entries) - 0.9, right, top, "one residual block")
    x = (left + right) / 2 - 0.1
    end = _with_shortcut(sheet, entries, x, top - 0.3, width=2.25, rail=right - 0.1)
    sheet.arrow((x, end), (x, end - 0.2))


def _with_shortcut(sheet: Sheet, entries: list[Entry], x: float, y: float, *, width: float, rail: float) -> float:
    """A chain from y downwards, and a line past it to a sum at its end; how far down it reaches."""
    boxes = chain(sheet, x, y - 0.22, entries, width=width)
    plus = sheet.plus(x, boxes[-1].bottom[1] - _GAP_IN - 0.05)
    sheet.arrow((x, y), boxes[0].top)
    sheet.arrow(boxes[-1].bottom, plus.top)
    sheet.arrow((x, y - 0.07), (rail, y - 0.07), (rail, plus.y), plus.right)
    return plus.bottom[1]


def transformer_diagram(prior: Gpt2) -> Figure:
    """Figure 2: the transformer on the left, one of its blocks on the right."""
    parts, network, (h, w) = measure(prior), prior.network, prior.grid
    n, block = len(network.h), network.h[0]
    entries: list[Entry] = [
        (f"start token, then {h * w - 1} codes", (), "data"),
        ("token + position", (words(network.wte), words(network.wpe), words(network.drop)), "layer"),
        *_alike("transformer block", [parts[f"network.h.{i}"].size for i in range(n)], "attention"),
        (words(network.ln_f), (parts["network.ln_f"].size,), "norm"),
        (words(prior.head), (parts["head"].size,), "layer"),
        (f"logits {h} × {w} × {prior.codebook_size}", (), "data"),
    ]
    attn, mlp = block.attn, block.mlp
    masked = f"{attn.num_heads} heads of {attn.head_dim}, later positions masked with −∞"
    attend = (words(attn.c_attn), masked, words(attn.c_proj), words(attn.resid_dropout))
    forward = (words(mlp.c_fc), words(mlp.act), words(mlp.c_proj), words(mlp.dropout))
    inner: list[list[Entry]] = [
        [
            (words(block.ln_1), (parts["network.h.0.ln_1"].size,), "norm"),
            ("causal self-attention", (*attend, parts["network.h.0.attn"].size), "attention"),
        ],
        [
            (words(block.ln_2), (parts["network.h.0.ln_2"].size,), "norm"),
            ("feed-forward", (*forward, parts["network.h.0.mlp"].size), "layer"),
        ],
    ]
    in_frame = sum(_tall(part) + 0.47 for part in inner) + 0.4
    sheet = Sheet(7.4, 0.4 + max(_tall(entries), in_frame))
    sheet.heading(f"Transformer (GPT-2) · {count(prior):,} parameters")
    top = sheet.height_in - 0.35
    chain(sheet, 1.55, top, entries, width=2.75)
    title = f"one transformer block of {n} · {parts['network.h.0'].parameters:,} parameters"
    sheet.frame(3.35, top - in_frame, 7.3, top, title)
    y = top - 0.3
    for part in inner:
        y = _with_shortcut(sheet, part, 5.2, y, width=3.1, rail=7.1)
    sheet.arrow((5.2, y), (5.2, y - 0.2))
    return sheet.figure


def _shown(n: int) -> list[int]:
    """Which of n equal blocks are drawn."""
    return list(range(n)) if n <= _BLOCKS_AT_MOST else [0, n - 1]


def _of(i: int, n: int) -> str:
    """A block's number, and of how many where some are left out."""
    return str(i + 1) if n <= _BLOCKS_AT_MOST else f"{i + 1} of {n}"


def _alike(name: str, sizes: list[str], kind: Kind) -> list[Entry]:
    """Equal blocks, one by one; of many, the first and the last and how many lie between."""
    n = len(sizes)
    entries: list[Entry] = [(f"{name} {_of(i, n)}", (sizes[i],), kind) for i in _shown(n)]
    return entries if n <= _BLOCKS_AT_MOST else [entries[0], (f"… {n - 2} more …", (), "activation"), entries[1]]


def _tall(entries: list[Entry]) -> float:
    """Height of a chain with the gap behind it, inches."""
    return sum(height_of(*details) + _GAP_IN for _, details, _ in entries)


def chain(sheet: Sheet, x: float, top: float, entries: list[Entry], *, width: float) -> list[Box]:
    """Boxes one beneath the other, joined by arrows; the first hangs from `top`."""
    boxes: list[Box] = []
    for title, details, kind in entries:
        height = height_of(*details)
        boxes.append(sheet.box(x, top - height / 2, title, *details, width=width, kind=kind))
        if len(boxes) > 1:
            sheet.arrow(boxes[-2].bottom, boxes[-1].top)
        top -= height + _GAP_IN
    return boxes


def measure(prior: Prior) -> dict[str, Part]:
    """Send one grid of codes through a copy of a prior.

    Returns:
        Name in the network ("" is the network) -> part, in the order in which the modules ended.
    """
    found: dict[str, Part] = {}

    def note(name: str, module: nn.Module, _inputs: object, output: Tensor | tuple) -> None:
        first = output if isinstance(output, Tensor) else output[0]
        found[name] = Part(module, tuple(first.shape[1:]), count(module))

    probe = copy.deepcopy(prior).eval()
    for name, module in probe.named_modules():
        module.register_forward_hook(partial(note, name))
    with torch.no_grad():
        probe(torch.zeros((1, *prior.grid), dtype=torch.int64, device=next(probe.parameters()).device))
    return found


def count(module: nn.Module) -> int:
    """Parameters in a module and below it."""
    return sum(p.numel() for p in module.parameters())


def words(module: nn.Module) -> str:
    """What a layer is, with its sizes: "causal conv 3×3, 48 → 96"."""
    if isinstance(module, nn.Conv2d):
        name = "causal conv" if isinstance(module, CausalConv2d) and module.kernel_size[0] > 1 else "conv"
        return f"{name} {module.kernel_size[0]}×{module.kernel_size[1]}, {module.in_channels} → {module.out_channels}"
    if isinstance(module, nn.Embedding):
        return f"embedding, {module.num_embeddings} → {module.embedding_dim}"
    if isinstance(module, (nn.Linear, Conv1D)):  # transformers keeps the weight of its Conv1D as (in, out)
        sizes = module.weight.shape if isinstance(module, Conv1D) else module.weight.shape[::-1]
        return f"linear, {sizes[0]} → {sizes[1]}"
    if isinstance(module, nn.Dropout):
        return f"dropout {module.p:g}"
    return {"LayerNorm": "layer norm", "NewGELUActivation": "GELU"}.get(type(module).__name__, type(module).__name__)
