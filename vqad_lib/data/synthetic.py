"""The synthetic walkway: generated surveillance footage, so that everything runs without a download.

A camera looks down on a paved path between two lawns, with a railing behind. Pedestrians walk along the path: the
normal class. In each test clip a cart, a bike or a skater crosses once, faster than anybody walks: the anomaly, whose
pixels are known. Clip c of a part draws from its own generator, keyed by (seed, part, c): a longer data set begins
with the same clips. Frames are drawn at twice their size and averaged down.
"""

import dataclasses
import hashlib
import json

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from vqad_lib.config import SyntheticConfig
from vqad_lib.data.walkway_drawing import PATH_BOTTOM, PATH_TOP, Mover, Pen, draw_background, draw_mover
from vqad_lib.progress import progress

GENERATOR_VERSION = 1  # raise it when the same configuration would give other frames
ANOMALIES = ("cart", "bike", "skater")
MIN_ANOMALOUS_FRACTION = 0.001  # of the pixels, and never fewer than 3; below that a frame counts as normal
_NOISE_GREY_LEVELS = 2.0
_PEDESTRIAN_SPEED = (0.006, 0.014)  # of the width per frame
_ANOMALY_SPEED = (0.030, 0.045)


def digest(config: SyntheticConfig) -> str:
    """SHA-256 of what the frames follow from: the configuration and the generator's version."""
    content = json.dumps([GENERATOR_VERSION, dataclasses.asdict(config)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


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
    rows: list[dict] = []
    background = draw_background(np.random.default_rng([config.seed, 0]), 2 * size_px)
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
            rows.append(_row(part, number, frame, movers[-1].kind if anomalous else "normal"))
    return images, pd.DataFrame(rows), masks


def _row(part: str, number: int, frame: int, kind: str) -> dict:
    clip = f"{part}{number:03d}"
    return {
        "image_id": f"{clip}/{frame:03d}",
        "clip": clip,
        "frame": frame,
        "part": part.lower(),
        "label": int(kind != "normal"),
        "kind": kind,
    }


def _pedestrians(rng: np.random.Generator, n_frames: int) -> list[Mover]:
    """Four to eight walkers; some are in the picture from the start, some come in from either side."""
    walkers = []
    for _ in range(int(rng.integers(4, 9))):
        speed = float(rng.uniform(*_PEDESTRIAN_SPEED))
        along = float(rng.uniform(-0.1 - speed * n_frames * 0.6, 0.95))
        direction = int(rng.choice([-1, 1]))
        feet_y = float(rng.uniform(PATH_TOP + 0.08, PATH_BOTTOM))
        walkers.append(
            Mover(
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


def _anomaly(rng: np.random.Generator, kind: str, n_frames: int) -> Mover:
    """It crosses within the clip, so that normal frames come before and after where the clip is long enough."""
    crossing = 1.4 / float(rng.uniform(*_ANOMALY_SPEED))  # frames; 1.4 widths from out of sight to out of sight
    crossing = min(crossing, 0.7 * n_frames)
    first = float(rng.uniform(0.1, 0.9 - crossing / n_frames)) * n_frames
    direction = int(rng.choice([-1, 1]))
    speed = direction * 1.4 / crossing
    feet_y = float(rng.uniform(PATH_TOP + 0.16, PATH_BOTTOM))
    return Mover(
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
    background: Image.Image, movers: list[Mover], frame: int, size_px: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One frame, (3, size, size), and its mask, (size, size): whoever is nearer hides whoever is behind."""
    picture, mask = background.copy(), Image.new("L", background.size)
    picture_draw, mask_draw = ImageDraw.Draw(picture), ImageDraw.Draw(mask)
    for mover in sorted(movers, key=lambda m: m.feet_y):
        visible = 255 if mover.kind != "normal" else 0
        for draw, fixed in ((picture_draw, None), (mask_draw, visible)):
            draw_mover(Pen(draw, background.width, fixed), mover, frame)
    size = (size_px, size_px)
    small = np.asarray(picture.resize(size, Image.Resampling.BOX), dtype=np.float32)
    small = small + rng.normal(0, _NOISE_GREY_LEVELS, (size_px, size_px, 1))  # a grey sensor: one value per pixel
    pixels = np.clip(np.rint(small), 0, 255).astype(np.uint8)
    covered = np.asarray(mask.resize(size, Image.Resampling.BOX)) >= 128
    return pixels.transpose(2, 0, 1), covered.astype(np.uint8)
