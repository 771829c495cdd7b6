"""Boxes and arrows on a sheet measured in inches, for diagrams (Figures 1-3)."""

from dataclasses import dataclass
from typing import Literal

from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from vqad_lib.reporting.figures import FOOTER_IN, hand_laid_figure

Kind = Literal["data", "layer", "norm", "attention", "activation"]

# tints of the colours of `figures.COLOURS`, light enough for black text, and told apart by their edges in grey too
_FILLS: dict[Kind, tuple[str, str]] = {
    "data": ("#F4F4F4", "#777777"),
    "layer": ("#D6EAF8", "#0072B2"),
    "norm": ("#D5F0E6", "#009E73"),
    "attention": ("#FBE3D0", "#D55E00"),
    "activation": ("#FFFFFF", "#777777"),
}
_LINE_IN = {8.0: 0.155, 6.5: 0.125}
_INK = "#222222"


@dataclass(frozen=True)
class Box:
    """Where a box stands: its centre and size, inches."""

    x: float
    y: float
    width: float
    height: float

    @property
    def top(self) -> tuple[float, float]:
        """The middle of the upper edge."""
        return self.x, self.y + self.height / 2

    @property
    def bottom(self) -> tuple[float, float]:
        """The middle of the lower edge."""
        return self.x, self.y - self.height / 2

    @property
    def left(self) -> tuple[float, float]:
        """The middle of the left edge."""
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> tuple[float, float]:
        """The middle of the right edge."""
        return self.x + self.width / 2, self.y


class Sheet:
    """A blank figure with the origin at the lower left, above the strip for the footer; y points up."""

    def __init__(self, width_in: float, height_in: float) -> None:
        self.height_in = height_in
        total_in = height_in + FOOTER_IN
        self.figure = hand_laid_figure(width_in, height_in)
        self.axes = self.figure.add_axes((0, FOOTER_IN / total_in, 1, height_in / total_in))
        self.axes.set(xlim=(0, width_in), ylim=(0, height_in))
        self.axes.axis("off")

    def box(self, x: float, y: float, title: str, *details: str, width: float, kind: Kind = "layer") -> Box:
        """A box around a title and lines of small print, centred on (x, y), as tall as they need."""
        made = Box(x, y, width, height_of(*details))
        fill, edge = _FILLS[kind]
        self._rounded(made, 0.05, facecolor=fill, edgecolor=edge, zorder=2)
        at = made.top[1] - 0.05
        for text, size in [(title, 8.0), *((detail, 6.5) for detail in details)]:
            at -= _LINE_IN[size] / 2
            self.axes.text(x, at, text, ha="center", va="center", fontsize=size, color=_INK, zorder=3)
            at -= _LINE_IN[size] / 2
        return made

    def arrow(self, *points: tuple[float, float]) -> None:
        """A line through the points, with a head at the last one."""
        self.axes.plot(*zip(*points[:-1], strict=True), color=_INK, linewidth=0.9, solid_capstyle="round", zorder=1)
        style = {"arrowstyle": "-|>,head_length=3.2,head_width=1.6", "shrinkA": 0, "shrinkB": 0}
        self.axes.add_patch(FancyArrowPatch(points[-2], points[-1], color=_INK, linewidth=0.9, zorder=1, **style))

    def plus(self, x: float, y: float) -> Box:
        """The sign of an addition."""
        made = Box(x, y, 0.19, 0.19)
        self.axes.add_patch(Circle((x, y), 0.095, facecolor="white", edgecolor=_INK, linewidth=0.9, zorder=2))
        across, down = ([x - 0.05, x + 0.05], [y, y]), ([x, x], [y - 0.05, y + 0.05])
        self.axes.plot(*across, *down, color=_INK, linewidth=0.9, zorder=3)
        return made

    def frame(self, left: float, bottom: float, right: float, top: float, title: str) -> None:
        """A dashed frame around what belongs together, its title in the upper right corner."""
        place = Box((left + right) / 2, (bottom + top) / 2, right - left, top - bottom)
        self._rounded(place, 0.08, facecolor="none", edgecolor="#999999", linestyle=(0, (4, 2)), zorder=0)
        self.text(right - 0.1, top - 0.07, title, va="top", ha="right", weight="bold")

    def _rounded(self, place: Box, rounding_in: float, **style: object) -> None:
        shape = f"round,pad=0,rounding_size={rounding_in}"
        corner = (place.left[0], place.bottom[1])
        patch = FancyBboxPatch(corner, place.width, place.height, boxstyle=shape, linewidth=0.9, **style)
        self.axes.add_patch(patch)

    def heading(self, text: str) -> None:
        """The sheet's title, in its upper left corner."""
        self.text(0.1, self.height_in - 0.16, text, weight="bold", size=8.5)

    def text(self, x: float, y: float, text: str, *, size: float = 7.5, ha: str = "left", **style: str | float) -> None:
        """Words on the sheet."""
        self.axes.text(x, y, text, fontsize=size, ha=ha, color=_INK, zorder=3, **{"va": "center", **style})


def height_of(*details: str) -> float:
    """How tall a box with a title and this small print is, inches."""
    return 0.1 + _LINE_IN[8.0] + _LINE_IN[6.5] * len(details)
