"""Figures 1-3, drawn from live networks: a column of boxes for the whole, beside it one of its blocks, opened.

What a diagram says in words and numbers is read off the modules; only the operations between modules (ELU, gates,
sums) are known from the classes drawn here.
"""

from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import nn
from transformers.pytorch_utils import Conv1D

from vqad_lib.models.gpt2 import Gpt2
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.models.pixelsnail_layers import CausalConv2d
from vqad_lib.models.prior import Prior
from vqad_lib.reporting.figures import FOOTER_IN, subplots

# kind of box -> fill and edge: tints of `figures.COLOURS`, light enough for black text, told apart by edges in grey too
_FILLS = {
    "data": ("#F4F4F4", "#777777"),
    "layer": ("#D6EAF8", "#0072B2"),
    "norm": ("#D5F0E6", "#009E73"),
    "attention": ("#FBE3D0", "#D55E00"),
    "activation": ("#FFFFFF", "#777777"),
}
_INK = "#222222"
# inches
_WIDTH_IN, _BOX_IN, _GAP_IN, _TITLE_IN, _LINE_IN, _RAIL_IN = 7.4, 2.85, 0.2, 0.255, 0.125, 0.2


class Box(NamedTuple):
    """A box to be drawn.

    Attributes:
        details: lines of small print.
        kind: a key of `_FILLS`.
        past: where above 0, a line leads from here past so many boxes to the one behind them.
    """

    title: str
    details: tuple[str, ...] = ()
    kind: str = "layer"
    past: int = 0

    @property
    def height_in(self) -> float:
        """As tall as its words need, inches."""
        return _TITLE_IN + _LINE_IN * len(self.details)


def pixelsnail_diagram(prior: PixelSnail) -> Figure:
    """Figure 1: the whole of PixelSNAIL; residual blocks gather the neighbourhood, attention looks at all of it."""
    n = len(prior.blocks)
    whole = [
        box_of(prior.embedding),
        box_of(prior.shift, details=("sees earlier positions only", "from codes and position (row, column)")),
        box_of(prior.blocks, f"{n} × pixel block"),
        box_of(prior.head, f"ELU, {words(prior.head)}"),
    ]
    title = f"one pixel block of {n} · {count(prior.blocks[0]):,} parameters"
    return _draw(f"PixelSNAIL · {count(prior):,} parameters", _between(prior, whole), title, _pixel_block(prior))


def transformer_diagram(prior: Gpt2) -> Figure:
    """Figure 2: the transformer, and one of its blocks."""
    network, block, n = prior.network, prior.network.h[0], len(prior.network.h)
    attn, mlp = block.attn, block.mlp
    whole = [
        Box("start token, then all codes but the last", kind="activation"),
        Box("token + position", (words(network.wte), words(network.wpe), words(network.drop))),
        box_of(network.h, f"{n} × transformer block", kind="attention"),
        box_of(network.ln_f, kind="norm"),
        box_of(prior.head),
    ]
    masked = f"{attn.num_heads} heads of {attn.head_dim}, later positions masked with −∞"
    attend = (words(attn.c_attn), masked, words(attn.c_proj), words(attn.resid_dropout))
    forward = tuple(words(module) for module in (mlp.c_fc, mlp.act, mlp.c_proj, mlp.dropout))
    inner = [
        Box("x", kind="data", past=2),
        box_of(block.ln_1, kind="norm"),
        box_of(attn, "causal self-attention", attend, kind="attention"),
        Box("+", kind="activation", past=2),
        box_of(block.ln_2, kind="norm"),
        box_of(mlp, "feed-forward", forward),
        Box("+", kind="activation"),
    ]
    title = f"one transformer block of {n} · {count(block):,} parameters"
    return _draw(f"Transformer (GPT-2) · {count(prior):,} parameters", _between(prior, whole), title, inner)


def pixel_block_diagram(prior: PixelSnail) -> Figure:
    """Figure 3: one pixel block, and one of its residual blocks."""
    residual = prior.blocks[0].residuals[0]
    inner = [
        Box("x", kind="data", past=3),
        box_of(residual.conv1, f"ELU, {words(residual.conv1)}"),
        box_of(residual.conv2, f"ELU, {words(residual.dropout)}, {words(residual.conv2)}"),
        Box("gate: half × sigmoid(other half)", kind="activation"),
        Box("+", kind="activation"),
    ]
    heading = f"Pixel block, {len(prior.blocks)} of them · {count(prior.blocks[0]):,} parameters each"
    return _draw(heading, _pixel_block(prior), f"one residual block · {count(residual):,} parameters", inner)


def _pixel_block(prior: PixelSnail) -> list[Box]:
    block = prior.blocks[0]
    attention, merge = block.attention, block.merge
    look = (
        f"query from hidden, position: {words(attention.to_query)}",
        f"key, value from x, hidden, position: {words(attention.to_key_value)}",
        "later positions masked with −∞",
    )
    heads = f"causal attention, {attention.heads} heads of {attention.key_dim}"
    join = f"in its middle + {words(merge.context)}, of ELU of the attention"
    residuals = box_of(block.residuals, f"{len(block.residuals)} × residual block", ("the last gives “hidden”",))
    return [
        Box("x", kind="data", past=1),
        residuals._replace(past=1),
        box_of(attention, heads, look, kind="attention"),
        box_of(merge, f"merge: residual block with {words(merge.conv1)}", (join,)),
        Box("to the next block", kind="data"),
    ]


def _between(prior: Prior, boxes: list[Box]) -> list[Box]:
    """A whole prior, from codes to logits."""
    (h, w), size = prior.grid, prior.codebook_size
    ends = (Box(f"codes {h} × {w}, of {size}", kind="data"), Box(f"logits {h} × {w} × {size}", kind="data"))
    return [ends[0], *boxes, ends[1]]


def box_of(module: nn.Module, title: str = "", details: tuple[str, ...] = (), kind: str = "layer") -> Box:
    """The box of a module: its words, then how many parameters it has in small print."""
    return Box(title or words(module), (*details, f"{count(module):,} parameters"), kind)


def count(module: nn.Module) -> int:
    """Parameters in a module and below it, as stored: a masked weight counts."""
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


def _draw(heading: str, whole: list[Box], title: str, inner: list[Box]) -> Figure:
    """The whole on the left beneath its heading, one of its blocks on the right beneath its title."""
    columns = [(1.85, heading, whole), (5.55, title, inner)]
    height_in = 0.45 + max(sum(box.height_in + _GAP_IN for box in boxes) for *_, boxes in columns)
    figure, axes = subplots(figsize=(_WIDTH_IN, height_in + FOOTER_IN))
    axes.set(xlim=(0, _WIDTH_IN), ylim=(0, height_in))
    axes.axis("off")
    axes.axvline(_WIDTH_IN / 2, color="#999999", linewidth=0.9, linestyle=(0, (4, 2)))
    for x, name, boxes in columns:
        axes.text(x, height_in - 0.2, name, fontsize=8, weight="bold", color=_INK, ha="center", va="center")
        _draw_column(axes, x, height_in - 0.45, boxes)
    return figure


def _draw_column(axes: Axes, x: float, top: float, boxes: list[Box]) -> None:
    """Boxes one beneath the other, joined by arrows; lines past some of them lead along the right side and the left."""
    tops, side, style = [], -1, {"ha": "center", "va": "top", "color": _INK}
    for box in boxes:
        fill, edge = _FILLS[box.kind]
        corner, shape = (x - _BOX_IN / 2, top - box.height_in), "round,pad=0,rounding_size=0.05"
        axes.add_patch(FancyBboxPatch(corner, _BOX_IN, box.height_in, shape, facecolor=fill, edgecolor=edge))
        axes.text(x, top - 0.07, box.title, fontsize=8, **style)
        axes.text(x, top - _TITLE_IN + 0.02, "\n".join(box.details), fontsize=6.5, linespacing=1.35, **style)
        if tops:
            _arrow(axes, (x, top + _GAP_IN), (x, top))
        tops.append(top)
        top -= box.height_in + _GAP_IN
    for number, box in enumerate(boxes):
        if box.past:
            side, target = -side, number + box.past + 1
            edge, rail = x + side * _BOX_IN / 2, x + side * (_BOX_IN / 2 + _RAIL_IN)
            leaves, arrives = tops[number] - box.height_in * 0.7, tops[target] - boxes[target].height_in * 0.3
            axes.plot([edge, rail, rail], [leaves, leaves, arrives], color=_INK, linewidth=0.9)
            _arrow(axes, (rail, arrives), (edge, arrives))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "linewidth": 0.9, "color": _INK}
    axes.annotate("", end, start, arrowprops=style)
