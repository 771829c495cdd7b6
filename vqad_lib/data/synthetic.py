"""The synthetic walkway: generated surveillance footage, so that everything runs without a download.

A camera looks down on a paved path between two lawns, with a railing behind. Pedestrians walk along the path: the
normal class. In each test clip a cart, a bike or a skater crosses once, faster than anybody walks: the anomaly, whose
pixels are known. Clip c of a part draws from its own generator, keyed by (seed, part, c): a longer data set begins
with the same clips. Frames are drawn at twice their size and averaged down.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from vqad_lib.config import SyntheticConfig
from vqad_lib.progress import progress

GENERATOR_VERSION = 1  # raise it when the same configuration would give other frames
ANOMALIES = ("cart", "bike", "skater")
MIN_ANOMALOUS_FRACTION = 0.001  # of the pixels, and never fewer than 3; below that a frame counts as normal
PATH_TOP, PATH_BOTTOM = 0.34, 0.86  # of the height; feet stay between them
_NOISE_GREY_LEVELS = 2.0
_PEDESTRIAN_SPEED = (0.006, 0.014)  # of the width per frame
_ANOMALY_SPEED = (0.030, 0.045)


@dataclass(frozen=True)
class _Mover:
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


def digest(config: SyntheticConfig) -> str:
    """SHA-256 of what the frames follow from: the configuration and the generator's version."""
    content = json.dumps([GENERATOR_VERSION, dataclasses.asdict(config)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def store(folder: Path, config: SyntheticConfig, size_px: int) -> list[str]:
    """Write what `generate` draws to a folder, as `cached_frames` wants it; there is nothing to note."""
    images, index, masks = generate(config, size_px)
    np.save(folder / "frames.npy", images)
    np.save(folder / "masks.npy", masks)
    index.to_parquet(folder / "index.parquet")
    return []


def generate(config: SyntheticConfig, size_px: int) -> tuple[np.ndarray, pd.DataFrame, np.ndarray]:
    """Draw all clips.

    A frame is anomalous if at least max(3, 0.1% of the pixels) of its mask are set, so the first sliver of a cart at
    the picture's edge does not count yet; the mask of a frame below that is emptied, so mask and label agree.

    Returns:
        images: (n, 3, size_px, size_px) uint8.
        index: as `FrameSet.index`; `kind` is the anomaly to be seen, or "normal".
        masks: (n, size_px, size_px) uint8, 1 where the anomaly is.
    """
    clips = [("Train", c) for c in range(1, config.train_clips + 1)]
    clips += [("Test", c) for c in range(1, config.test_clips + 1)]
    n = len(clips) * config.frames_per_clip
    images = np.empty((n, 3, size_px, size_px), dtype=np.uint8)
    masks = np.empty((n, size_px, size_px), dtype=np.uint8)
    rows: list[tuple] = []
    background = _draw_background(np.random.default_rng([config.seed, 0]), 2 * size_px)
    for part, number in progress(clips, what="draw synthetic clips", unit="clip"):
        rng = np.random.default_rng([config.seed, 1 if part == "Train" else 2, number])
        movers = _pedestrians(rng, config.frames_per_clip)
        if part == "Test":
            movers.append(_anomaly(rng, ANOMALIES[(number - 1) % len(ANOMALIES)], config.frames_per_clip))
        for frame in range(config.frames_per_clip):
            i = len(rows)
            images[i], masks[i] = _draw_frame(background, movers, frame, size_px, rng)
            anomalous = masks[i].sum() >= max(3, MIN_ANOMALOUS_FRACTION * size_px**2)
            masks[i] *= anomalous
            clip, kind = f"{part}{number:03d}", movers[-1].kind if anomalous else "normal"
            rows.append((f"{clip}/{frame:03d}", clip, frame, part.lower(), int(anomalous), kind))
    return images, pd.DataFrame(rows, columns=["image_id", "clip", "frame", "part", "label", "kind"]), masks


def _pedestrians(rng: np.random.Generator, n_frames: int) -> list[_Mover]:
    """Four to eight walkers; some are in the picture from the start, some come in from either side."""
    walkers = []
    for _ in range(int(rng.integers(4, 9))):
        speed = float(rng.uniform(*_PEDESTRIAN_SPEED))
        along = float(rng.uniform(-0.1 - speed * n_frames * 0.6, 0.95))
        direction = int(rng.choice([-1, 1]))
        feet_y = float(rng.uniform(PATH_TOP + 0.08, PATH_BOTTOM))
        walkers.append(
            _Mover(
                kind="normal",
                start_x=along if direction > 0 else 1 - along,
                speed=speed * direction,
                feet_y=feet_y,
                height=_height_at(feet_y) * float(rng.uniform(0.9, 1.1)),
                shade=int(rng.choice([rng.integers(25, 80), rng.integers(185, 235)])),
                phase=float(rng.uniform(0, 2 * np.pi)),
            )
        )
    return walkers


def _anomaly(rng: np.random.Generator, kind: str, n_frames: int) -> _Mover:
    """It crosses within the clip, so that normal frames come before and after where the clip is long enough."""
    crossing = 1.4 / float(rng.uniform(*_ANOMALY_SPEED))  # frames; 1.4 widths from out of sight to out of sight
    crossing = min(crossing, 0.7 * n_frames)
    first = float(rng.uniform(0.1, 0.9 - crossing / n_frames)) * n_frames
    direction = int(rng.choice([-1, 1]))
    speed = direction * 1.4 / crossing
    feet_y = float(rng.uniform(PATH_TOP + 0.16, PATH_BOTTOM))
    return _Mover(
        kind=kind,
        start_x=(-0.2 if direction > 0 else 1.2) - speed * first,
        speed=speed,
        feet_y=feet_y,
        height=_height_at(feet_y),
        shade=int(rng.integers(195, 240)) if kind == "cart" else int(rng.integers(20, 60)),
        phase=0.0,
    )


def _height_at(feet_y: float) -> float:
    """A person's height: nearer the camera, which is lower in the picture, is larger."""
    return 0.13 + 0.16 * (feet_y - PATH_TOP)


def _draw_frame(
    background: Image.Image, movers: list[_Mover], frame: int, size_px: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One frame, (3, size, size), and its mask, (size, size): whoever is nearer hides whoever is behind."""
    picture, mask = background.copy(), Image.new("L", background.size)
    picture_draw, mask_draw = ImageDraw.Draw(picture), ImageDraw.Draw(mask)
    for mover in sorted(movers, key=lambda m: m.feet_y):
        visible = 255 if mover.kind != "normal" else 0
        for draw, fixed in ((picture_draw, None), (mask_draw, visible)):
            _draw_mover(_Pen(draw, background.width, fixed), mover, frame)
    size = (size_px, size_px)
    small = np.asarray(picture.resize(size, Image.Resampling.BOX), dtype=np.float32)
    small = small + rng.normal(0, _NOISE_GREY_LEVELS, (size_px, size_px, 1))  # a grey sensor: one value per pixel
    pixels = np.clip(np.rint(small), 0, 255).astype(np.uint8)
    covered = np.asarray(mask.resize(size, Image.Resampling.BOX)) >= 128
    return pixels.transpose(2, 0, 1), covered.astype(np.uint8)


def _smooth_noise(rng: np.random.Generator, cells: int, side_px: int) -> np.ndarray:
    grid = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((side_px, side_px), Image.Resampling.BICUBIC))


def _draw_background(rng: np.random.Generator, side_px: int) -> Image.Image:
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


class _Pen:
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


def _draw_mover(pen: _Pen, mover: _Mover, frame: int) -> None:
    """Draw whoever it is, where they are in this frame."""
    x, feet, h, shade = mover.x(frame), mover.feet_y, mover.height, mover.shade
    draw = {"cart": _draw_cart, "bike": _draw_bike, "skater": _draw_skater}.get(mover.kind)
    if draw:
        draw(pen, x, feet, h, shade, 1.0 if mover.speed > 0 else -1.0)
    else:
        # a stride is about half a body height, so the legs swing in step with the ground covered
        swing = np.sin(mover.phase + 2 * np.pi * x / (0.5 * h))
        _draw_walker(pen, x, feet - 0.02 * h * abs(swing), h, shade, swing)


def _draw_walker(pen: _Pen, x: float, feet: float, h: float, shade: int, swing: float) -> None:
    legs = max(15, shade - 30)
    for side in (-1, 1):
        pen.line([(x, feet - 0.48 * h), (x + 0.15 * h * side * swing, feet)], 0.10 * h, legs)
    pen.box(x - 0.13 * h, feet - 0.83 * h, x + 0.13 * h, feet - 0.42 * h, shade, 0.06 * h)
    pen.disc(x, feet - 0.91 * h, 0.085 * h, 115)


def _draw_skater(pen: _Pen, x: float, feet: float, h: float, shade: int, toward: float) -> None:
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


def _draw_bike(pen: _Pen, x: float, feet: float, h: float, shade: int, toward: float) -> None:
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


def _draw_cart(pen: _Pen, x: float, feet: float, h: float, shade: int, toward: float) -> None:
    dark = 45
    pen.box(x - 0.95 * h, feet - 0.62 * h, x + 0.95 * h, feet - 0.14 * h, shade, 0.08 * h)
    pen.box(x - 0.60 * h, feet - 1.10 * h, x + 0.55 * h, feet - 0.60 * h, dark)
    pen.box(x - 0.70 * h, feet - 1.20 * h, x + 0.70 * h, feet - 1.08 * h, shade, 0.04 * h)
    pen.box(x - 0.06 * h, feet - 1.10 * h, x + 0.04 * h, feet - 0.60 * h, shade)
    pen.disc(x + 0.30 * h * toward, feet - 0.86 * h, 0.09 * h, 130)
    for side in (-1, 1):
        pen.disc(x + 0.58 * h * side, feet - 0.16 * h, 0.17 * h, 25)
        pen.disc(x + 0.58 * h * side, feet - 0.16 * h, 0.07 * h, 160)
