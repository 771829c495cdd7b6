"""The synthetic walkway: generated surveillance footage, so that everything runs without a download.

A camera looks down on a paved path between two lawns, with a railing behind. Pedestrians walk along the path: the
normal class. In each test clip a cart, a bike or a skater crosses once, faster than anybody walks: the anomaly, whose
pixels are known. Clip c of a part draws from its own generator, keyed by (seed, part, c): a longer data set begins
with the same clips. Frames are drawn at twice their size and averaged down.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from vqad_lib.config import SyntheticConfig
from vqad_lib.progress import progress

GENERATOR_VERSION = 2  # raise it when the same configuration would give other frames
_PATH_TOP, _PATH_BOTTOM = 0.34, 0.88  # of the height
_SKIN, _DARK = 115, 30  # grey levels
# What stands on the path, from back to front: strokes of (points, width, grey level), None for the mover's own. Lengths
# are body heights; points are so far ahead of the feet and above them. A stroke is round at its points.
_PICTURES = {
    "normal": [
        ([(-0.15, 0.05), (0.0, 0.48), (0.15, 0.05)], 0.10, _DARK),
        ([(0.0, 0.54), (0.0, 0.72)], 0.24, None),
        ([(0.0, 0.91)], 0.17, _SKIN),
    ],
    "cart": [
        ([(-0.76, 0.36), (0.76, 0.36)], 0.40, None),
        ([(-0.20, 0.82), (0.20, 0.82)], 0.60, 45),
        ([(0.24, 0.86)], 0.18, _SKIN),
        ([(-0.66, 1.16), (0.66, 1.16)], 0.12, None),
        *(([(wheel, 0.16)], 0.34, _DARK) for wheel in (-0.58, 0.58)),
    ],
    "bike": [
        *(([(wheel, 0.24)], *tyre) for wheel in (-0.42, 0.42) for tyre in ((0.48, _DARK), (0.30, 150))),
        ([(-0.42, 0.24), (-0.18, 0.52), (0.0, 0.24), (0.34, 0.58), (0.42, 0.24)], 0.06, 205),
        ([(-0.18, 0.52), (0.08, 0.40), (0.0, 0.24)], 0.11, None),
        ([(-0.15, 0.58), (0.08, 0.82)], 0.22, None),
        ([(0.10, 0.84), (0.34, 0.58)], 0.08, None),
        ([(0.18, 1.01)], 0.18, _SKIN),
    ],
    "skater": [
        *(([(wheel, 0.03)], 0.09, _DARK) for wheel in (-0.24, 0.24)),
        ([(-0.32, 0.08), (0.32, 0.08)], 0.07, 225),
        ([(-0.17, 0.12), (0.0, 0.50), (0.17, 0.12)], 0.10, None),
        ([(0.0, 0.56), (0.08, 0.76)], 0.22, None),
        ([(-0.36, 0.62), (0.08, 0.78), (0.38, 0.70)], 0.08, None),
        ([(0.13, 0.96)], 0.17, _SKIN),
    ],
}
_ANOMALIES = ("cart", "bike", "skater")


class _Mover(NamedTuple):
    """Something that crosses the picture; lengths are fractions of the picture's side."""

    kind: str
    x: np.ndarray  # in each frame
    ahead: int  # 1 goes right, -1 left
    feet: float  # from the picture's top
    grey: int

    def draw(self, drawing: ImageDraw.ImageDraw, frame: int, fill: int | None = None) -> None:
        """Draw it where it is in a frame; `fill` replaces every grey level, which makes a silhouette."""
        x, side_px = self.x[frame], drawing.im.size[0]
        height = 0.13 + 0.16 * (self.feet - _PATH_TOP)  # who is lower in the picture is nearer, so larger
        # legs swing in step with the ground covered
        ahead = self.ahead if self.kind in _ANOMALIES else np.sin(4 * np.pi * x / height)
        for points, width, grey in _PICTURES[self.kind]:
            at = side_px * (np.array([x, self.feet]) + height * np.array(points) * [ahead, -1])
            width_px, colour = max(1.0, side_px * height * width), self.grey if grey is None else grey
            colour = (colour, colour, colour + 4) if fill is None else fill
            drawing.line(at.ravel().tolist(), colour, round(width_px))
            for corners in np.hstack([at - width_px / 2, at + width_px / 2]).tolist():
                drawing.ellipse(corners, colour)


@dataclass(frozen=True)
class Walkway:
    """The walkway as a source of frames (see `FrameSource`): there are no files, and nothing to note."""

    config: SyntheticConfig
    records = notes = ()

    def digest(self) -> str:
        """SHA-256 of what the frames follow from: the configuration and the generator's version."""
        return hashlib.sha256(f"{GENERATOR_VERSION} {self.config}".encode()).hexdigest()

    def store(self, folder: Path, size_px: int) -> list[str]:
        """Write what `generate` draws to a folder; there is nothing to note."""
        images, index, masks = generate(self.config, size_px)
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
    parts = {"Train": config.train_clips, "Test": config.test_clips}
    clips = [(part, number) for part, count in parts.items() for number in range(1, count + 1)]
    n = len(clips) * config.frames_per_clip
    images = np.empty((n, 3, size_px, size_px), dtype=np.uint8)
    masks = np.empty((n, size_px, size_px), dtype=np.uint8)
    rows: list[tuple] = []
    background = _background(np.random.default_rng([config.seed, 0]), 2 * size_px)
    for part, number in progress(clips, what="draw synthetic clips", unit="clip"):
        rng = np.random.default_rng([config.seed, [*parts].index(part) + 1, number])
        movers = [_pedestrian(rng, config.frames_per_clip) for _ in range(rng.integers(4, 9))]
        if part == "Test":
            movers.append(_anomaly(rng, _ANOMALIES[(number - 1) % 3], config.frames_per_clip))
        for frame in range(config.frames_per_clip):
            i = len(rows)
            images[i], masks[i] = _draw_frame(background, movers, frame, rng)
            anomalous = masks[i].sum() >= max(3, 0.001 * size_px**2)
            masks[i] *= anomalous
            clip, kind = f"{part}{number:03d}", movers[-1].kind if anomalous else "normal"
            rows.append((f"{clip}/{frame:03d}", clip, frame, part.lower(), int(anomalous), kind))
    return images, pd.DataFrame(rows, columns=["image_id", "clip", "frame", "part", "label", "kind"]), masks


def _pedestrian(rng: np.random.Generator, n_frames: int) -> _Mover:
    """A walker, 0.6% to 1.4% of the picture's width a frame; who leaves it comes in again on the other side."""
    ahead = int(rng.choice([-1, 1]))
    x = (rng.uniform(0, 1.2) + ahead * rng.uniform(0.006, 0.014) * np.arange(n_frames)) % 1.2 - 0.1
    grey = int(rng.choice([rng.integers(25, 80), rng.integers(185, 235)]))
    return _Mover("normal", x, ahead, rng.uniform(_PATH_TOP + 0.08, _PATH_BOTTOM - 0.02), grey)


def _anomaly(rng: np.random.Generator, kind: str, n_frames: int) -> _Mover:
    """It crosses within the clip, out of sight before and after, at 3% to 4.5% of the width a frame or faster."""
    lasts = min(1.4 / rng.uniform(0.030, 0.045), 0.7 * n_frames)  # frames
    first = rng.uniform(0.1 * n_frames, 0.9 * n_frames - lasts)
    ahead = int(rng.choice([-1, 1]))
    x = 0.5 + ahead * 1.4 * ((np.arange(n_frames) - first) / lasts - 0.5)
    grey = int(rng.integers(195, 240) if kind == "cart" else rng.integers(20, 60))
    return _Mover(kind, x, ahead, rng.uniform(_PATH_TOP + 0.16, _PATH_BOTTOM - 0.02), grey)


def _draw_frame(
    background: Image.Image, movers: list[_Mover], frame: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One frame, (3, size, size), and its mask, (size, size): whoever is nearer hides whoever is behind."""
    picture, mask = background.copy(), Image.new("L", background.size)
    for mover in sorted(movers, key=lambda mover: mover.feet):
        mover.draw(ImageDraw.Draw(picture), frame)
        mover.draw(ImageDraw.Draw(mask), frame, fill=255 * (mover.kind != "normal"))
    covered = np.asarray(mask.reduce(2)) >= 128
    small = picture.reduce(2) + rng.normal(0, 2.0, (*covered.shape, 1))  # a grey sensor: one value per pixel
    return np.clip(np.rint(small), 0, 255).astype(np.uint8).transpose(2, 0, 1), covered.astype(np.uint8)


def _background(rng: np.random.Generator, side_px: int) -> Image.Image:
    """Lawn, railing, paved path, lawn: (side, side) RGB, the same for every clip."""
    grids = (Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32)) for cells in (7, 40))
    coarse, fine = (np.asarray(grid.resize((side_px, side_px))) for grid in grids)
    y = (np.arange(side_px)[:, None] + 0.5) / side_px
    on_path = (y > _PATH_TOP) & (y < _PATH_BOTTOM)
    grey = np.where(on_path, 146 + 5 * coarse + 4 * fine + 16 * y, 96 + 9 * coarse + 13 * fine + 12 * y)
    tint = np.where(on_path[..., None], [1.0, 0.995, 0.97], [0.96, 1.03, 0.92])
    picture = Image.fromarray((grey[..., None] * tint).astype(np.uint8))
    lines = [((0, edge, 1, edge), 118) for edge in (_PATH_TOP, _PATH_BOTTOM)]
    lines += [((joint, _PATH_TOP, joint - 0.12, _PATH_BOTTOM), 136) for joint in np.arange(0.05, 1.3, 0.16)]
    lines += [((post, 0.17, post, 0.31), 64) for post in np.arange(0.04, 1.0, 0.115)]
    lines += [((0, rail, 1, rail), 72) for rail in (0.18, 0.25)]
    for ends, level in lines:
        ImageDraw.Draw(picture).line([side_px * end for end in ends], (level,) * 3, max(1, round(side_px / 128)))
    return picture
