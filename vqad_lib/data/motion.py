"""What networks see in place of a frame: three grey frames, or optical flow, as the three channels of an image.

A single frame shows what there is, not how fast it moves, and on Ped2's scheme `official` speed is most of what is
abnormal.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vqad_lib.config import DataConfig
from vqad_lib.data.decode import decode_grey, survey
from vqad_lib.data.frames import FrameSet, array_file, readable
from vqad_lib.errors import VqadError, printable
from vqad_lib.files import atomic_folder, usable_cores
from vqad_lib.progress import progress

TITLES = {"stack": "three frames as one", "flow": "optical flow"}
_VERSION = 1  # to be raised with what is made here


def with_motion(frames: FrameSet, config: DataConfig, cache_dir: Path) -> FrameSet:
    """The same frames as `data.input` has them, from the cache if they were made before.

    "stack": grey, 2 and 1 times `data.stack_step` frames earlier, and now; a clip's first frame stands for those before
    it. "flow": how far each pixel came in the last `data.flow_step` frames, rightwards, downwards and in all, by
    OpenCV's DIS (medium preset) on files at their own size, averaged over windows of `data.flow_window_share` of the
    shorter side; `data.flow_limit_px` and more are the end of the scale, no motion is its middle, of the third channel
    its beginning. A clip's first frames have the first flow there is.

    Returns:
        `frames` itself for "frame"; else with other images, title and digest.

    Raises:
        VqadError: the data set has no clips, or as `cached_frames`.
    """
    if config.input == "frame":
        return frames
    if (frames.index["part"] == "folder").any():
        raise VqadError(f"data.input {config.input} takes clips, and an image folder has none; set it to frame")
    settings = config.input, config.stack_step, config.flow_step, config.flow_window_share, config.flow_limit_px
    digest = hashlib.sha256(repr((frames.digest, frames.images.shape, settings, _VERSION)).encode()).hexdigest()
    folder = Path(cache_dir) / f"{frames.dataset}_{frames.images.shape[-1]}_{config.input}_{digest[:12]}"
    if not folder.is_dir():
        made = _stacks(frames, config.stack_step) if config.input == "stack" else flows(frames, config)
        with (
            atomic_folder(folder, first_wins=True) as place,
            array_file(place / "frames.npy", frames.images.shape) as file,
        ):
            for image in progress(made, what=TITLES[config.input], total=len(frames.images), unit="image"):
                file.write(image.tobytes())
    with readable(folder):
        images = np.load(folder / "frames.npy", mmap_mode="r")
    return replace(frames, images=images, title=f"{frames.title}, {TITLES[config.input]}", digest=digest)


def _ends(frames: FrameSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of the first and of the last frame of each frame's clip."""
    rows = pd.Series(np.arange(len(frames.index))).groupby(frames.index["clip"].to_numpy(), sort=False)
    return rows.transform("min").to_numpy(), rows.transform("max").to_numpy()


def _stacks(frames: FrameSet, step: int) -> Iterator[NDArray[np.uint8]]:
    now, (first, _) = np.arange(len(frames.index)), _ends(frames)
    for rows in zip(*(np.maximum(now - by, first) for by in (2 * step, step, 0)), strict=True):
        yield np.stack([frames.images[row].mean(0).round().astype(np.uint8) for row in rows])


def flows(frames: FrameSet, config: DataConfig) -> Iterator[NDArray[np.uint8]]:
    """Optical flow of each frame, (3, size, size), see `with_motion`, which keeps it.

    Raises:
        VqadError: a clip's frames differ in size.
    """
    import cv2  # a fifth of a second, which a run on frames does without

    size, step, (first, last) = frames.images.shape[-1], config.flow_step, _ends(frames)
    after = np.minimum(np.maximum(np.arange(len(first)), first + step), last)
    before = np.maximum(after - step, first)  # a clip of one frame stands still
    whites = survey(frames.paths, workers=usable_cores())[0] if frames.paths else []

    def grey(row: int) -> NDArray[np.uint8]:
        if not frames.paths:
            return frames.images[row].mean(0).round().astype(np.uint8)
        return decode_grey(frames.paths[row], white=whites[row])

    def flow(first: int, second: int) -> NDArray[np.uint8]:
        estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        pair = grey(first), grey(second)
        if pair[0].shape != pair[1].shape:
            sizes = [f"{width} x {height}" for height, width in (image.shape for image in pair)]
            one, other = (printable(frames.paths[row].name) for row in (first, second))
            raise VqadError(
                f"{frames.paths[second].parent}: {other} is {sizes[1]} px, but {one} before it {sizes[0]}; "
                "frames of a clip must have one size for optical flow"
            )
        moved = estimator.calc(*pair, None)
        moved = np.concatenate([moved, np.linalg.norm(moved, axis=2, keepdims=True)], 2)
        window = max(round(config.flow_window_share * min(pair[0].shape)), 1)
        moved = cv2.blur(moved, (window, window))
        moved = cv2.resize(moved, (size, size), interpolation=cv2.INTER_AREA) / config.flow_limit_px
        moved[..., :2] = (moved[..., :2] + 1) / 2
        return (255 * moved.clip(0, 1)).round().astype(np.uint8).transpose(2, 0, 1)

    tasks = map(joblib.delayed(flow), before.tolist(), after.tolist())
    yield from joblib.Parallel(usable_cores(), prefer="threads", return_as="generator")(tasks)
