"""What the synthetic walkway looks like: its background, its pedestrians, and a cart, a bike and a skater."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

PATH_TOP, PATH_BOTTOM = 0.34, 0.86  # of the height; feet stay between them


@dataclass(frozen=True)
class Mover:
    """Something that crosses the picture; lengths are fractions of the picture's side, times are frames."""

    kind: str
    start_x: float
    speed: float
    feet_y: float
    height: float
    shade: int
    phase: float

    def x(self, frame: int) -> float:
        return self.start_x + self.speed * frame


def _smooth_noise(rng: np.random.Generator, cells: int, side_px: int) -> np.ndarray:
    grid = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((side_px, side_px), Image.Resampling.BICUBIC))


def draw_background(rng: np.random.Generator, side_px: int) -> Image.Image:
    """Lawn, railing, paved path, lawn: (side, side) RGB, the same for every clip."""
    y = (np.arange(side_px) + 0.5)[:, None] / side_px
    coarse, fine = _smooth_noise(rng, 7, side_px), _smooth_noise(rng, 40, side_px)
    lawn = 96 + 9 * coarse + 13 * fine + 12 * y
    paving = 146 + 5 * coarse + 4 * fine + 16 * y
    on_path = (y > PATH_TOP) & (y < PATH_BOTTOM + 0.02)
    grey = np.where(on_path, paving, lawn)
    tint = np.where(on_path[..., None], [1.0, 0.995, 0.97], [0.96, 1.03, 0.92])
    picture = Image.fromarray(np.clip(grey[..., None] * tint, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    line = max(1, round(side_px / 128))
    for edge in (PATH_TOP, PATH_BOTTOM + 0.02):
        draw.line([(0, edge * side_px), (side_px, edge * side_px)], fill=(118, 118, 114), width=2 * line)
    for joint in np.arange(0.05, 1.3, 0.16):  # paving joints lean, as seen from the side
        ends = [(joint * side_px, PATH_TOP * side_px), ((joint - 0.12) * side_px, (PATH_BOTTOM + 0.02) * side_px)]
        draw.line(ends, fill=(138, 138, 133), width=line)
    for post in np.arange(0.04, 1.0, 0.115):
        draw.line([(post * side_px, 0.17 * side_px), (post * side_px, 0.31 * side_px)], fill=(62, 64, 66), width=line)
    for rail in (0.18, 0.25):
        draw.line([(0, rail * side_px), (side_px, rail * side_px)], fill=(70, 72, 74), width=line)
    return picture


class Pen:
    """Draws in fractions of the side; `fixed` replaces every colour, which makes a silhouette."""

    def __init__(self, draw: ImageDraw.ImageDraw, side_px: int, fixed: int | None) -> None:
        self.draw, self.side_px, self.fixed = draw, side_px, fixed

    def _fill(self, shade: int) -> int | tuple[int, int, int]:
        return (shade, shade, min(255, shade + 4)) if self.fixed is None else self.fixed

    def box(self, x0: float, y0: float, x1: float, y1: float, shade: int, round_: float = 0.0) -> None:
        corners = [v * self.side_px for v in (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))]
        self.draw.rounded_rectangle(corners, radius=round_ * self.side_px, fill=self._fill(shade))

    def disc(self, x: float, y: float, radius: float, shade: int) -> None:
        r, x, y = radius * self.side_px, x * self.side_px, y * self.side_px
        self.draw.ellipse([x - r, y - r, x + r, y + r], fill=self._fill(shade))

    def line(self, points: list[tuple[float, float]], width: float, shade: int) -> None:
        scaled = [(x * self.side_px, y * self.side_px) for x, y in points]
        self.draw.line(scaled, fill=self._fill(shade), width=max(1, round(width * self.side_px)), joint="curve")


def draw_mover(pen: Pen, mover: Mover, frame: int) -> None:
    """Draw whoever it is, where they are in this frame."""
    x, feet, h, shade = mover.x(frame), mover.feet_y, mover.height, mover.shade
    toward = 1.0 if mover.speed > 0 else -1.0
    if mover.kind == "cart":
        _draw_cart(pen, x, feet, h, shade, toward)
    elif mover.kind == "bike":
        _draw_bike(pen, x, feet, h, shade, toward)
    elif mover.kind == "skater":
        _draw_skater(pen, x, feet, h, shade, toward)
    else:
        # a stride is about half a body height, so the legs swing in step with the ground covered
        swing = np.sin(mover.phase + 2 * np.pi * x / (0.5 * h))
        _draw_walker(pen, x, feet - 0.02 * h * abs(swing), h, shade, swing)


def _draw_walker(pen: Pen, x: float, feet: float, h: float, shade: int, swing: float) -> None:
    legs = max(15, shade - 30)
    for side in (-1, 1):
        pen.line([(x, feet - 0.48 * h), (x + 0.15 * h * side * swing, feet)], 0.10 * h, legs)
    pen.box(x - 0.13 * h, feet - 0.83 * h, x + 0.13 * h, feet - 0.42 * h, shade, 0.06 * h)
    pen.disc(x, feet - 0.91 * h, 0.085 * h, 115)


def _draw_skater(pen: Pen, x: float, feet: float, h: float, shade: int, toward: float) -> None:
    lean = 0.10 * h * toward
    pen.line([(x - 0.34 * h, feet - 0.07 * h), (x + 0.34 * h, feet - 0.07 * h)], 0.07 * h, 225)
    for side in (-1, 1):
        pen.disc(x + 0.24 * h * side, feet - 0.02 * h, 0.045 * h, 30)
        pen.line([(x, feet - 0.52 * h), (x + 0.17 * h * side, feet - 0.10 * h)], 0.10 * h, shade)
    pen.line([(x, feet - 0.50 * h), (x + lean, feet - 0.84 * h)], 0.24 * h, shade)
    pen.line(
        [(x - 0.36 * h, feet - 0.62 * h), (x + lean, feet - 0.78 * h), (x + 0.38 * h, feet - 0.70 * h)], 0.08 * h, shade
    )
    pen.disc(x + 1.3 * lean, feet - 0.95 * h, 0.085 * h, 115)


def _draw_bike(pen: Pen, x: float, feet: float, h: float, shade: int, toward: float) -> None:
    hub = feet - 0.24 * h
    for side in (-1, 1):
        pen.disc(x + 0.42 * h * side, hub, 0.24 * h, 25)
        pen.disc(x + 0.42 * h * side, hub, 0.15 * h, 150)
    saddle, bars = (x - 0.18 * h * toward, feet - 0.52 * h), (x + 0.34 * h * toward, feet - 0.58 * h)
    rear, front, pedals = (x - 0.42 * h * toward, hub), (x + 0.42 * h * toward, hub), (x, hub)
    pen.line([rear, saddle, pedals, bars, front], 0.06 * h, 205)
    pen.line([saddle, (x + 0.08 * h * toward, feet - 0.40 * h), pedals], 0.11 * h, shade)
    shoulder = (x + 0.10 * h * toward, feet - 0.88 * h)
    pen.line([saddle, shoulder], 0.22 * h, shade)
    pen.line([shoulder, bars], 0.08 * h, shade)
    pen.disc(x + 0.17 * h * toward, feet - 1.00 * h, 0.09 * h, 115)


def _draw_cart(pen: Pen, x: float, feet: float, h: float, shade: int, toward: float) -> None:
    dark = 45
    pen.box(x - 0.95 * h, feet - 0.62 * h, x + 0.95 * h, feet - 0.14 * h, shade, 0.08 * h)
    pen.box(x - 0.60 * h, feet - 1.10 * h, x + 0.55 * h, feet - 0.60 * h, dark)
    pen.box(x - 0.70 * h, feet - 1.20 * h, x + 0.70 * h, feet - 1.08 * h, shade, 0.04 * h)
    pen.box(x - 0.06 * h, feet - 1.10 * h, x + 0.04 * h, feet - 0.60 * h, shade)
    pen.disc(x + 0.30 * h * toward, feet - 0.86 * h, 0.09 * h, 130)
    for side in (-1, 1):
        pen.disc(x + 0.58 * h * side, feet - 0.16 * h, 0.17 * h, 25)
        pen.disc(x + 0.58 * h * side, feet - 0.16 * h, 0.07 * h, 160)
