"""The two schemes by which a data set is divided into training, validation and test images.

`paper` is section 3.8 of the paper. It draws single frames, so neighbouring frames of one clip fall on both sides and
the test frames are nearly known: it leaks, and `nearest` measures by how much. `official` keeps clips whole.
"""

import numpy as np
import pandas as pd

from vqad_lib.errors import VqadError

SCHEMES = ("paper", "official")
_CLASSES = {0: "normal", 1: "anomalous"}
_IF_GENERATED = " (of generated ones: raise the numbers in data.synthetic)"


def split_frames(index: pd.DataFrame, *, scheme: str, seed: int, validation_clips: int) -> np.ndarray:
    """Say for each frame which split it belongs to.

    `paper`: a tenth of the N normal frames for validation and for test, floor(N / 10 + 1/2) each, and the rest for
    training; of the A anomalous frames floor(A / 10 + 1/2) for validation and the rest for test.
    `official`: `validation_clips` training clips are held out for validation, the other training clips are for
    training, the test clips for test; so validation has normal frames only.

    Args:
        index: as `FrameSet.index`; the draw goes by image_id and clip, so the order of the rows does not matter.
        scheme: "paper" or "official".
        seed: >= 0; draws the frames or the held-out clips.
        validation_clips: number of training clips to hold out, >= 1; used by `official` only.

    Returns:
        (n,) array of str: "train", "validation", "test" or "unused".

    Raises:
        VqadError: the scheme is unknown or does not exist for this data set, or a split would have no images of a
            class that it needs.
    """
    if scheme not in SCHEMES:
        raise VqadError(f"scheme {scheme!r} is unknown; choose {' or '.join(SCHEMES)}")
    splits = _paper(index, seed) if scheme == "paper" else _official(index, seed, validation_clips)
    label = index["label"].to_numpy()
    for split, wanted in (("train", 0), ("validation", 0), ("validation", 1), ("test", 0), ("test", 1)):
        spared = (scheme, split, wanted) == ("official", "validation", 1)
        if not spared and not np.any((splits == split) & (label == wanted)):
            raise VqadError(
                f"scheme {scheme}: {split} has no {_CLASSES[wanted]} images ({np.sum(label == 0)} normal and "
                f"{np.sum(label == 1)} anomalous in all); add images or clips of that class{_IF_GENERATED}"
            )
    return splits


def _paper(index: pd.DataFrame, seed: int) -> np.ndarray:
    splits = np.full(len(index), "test", dtype="<U10")
    for label in (0, 1):
        rows = np.flatnonzero(index["label"].to_numpy() == label)
        rows = rows[np.argsort(index["image_id"].to_numpy(dtype=str)[rows], kind="stable")]
        drawn = np.random.default_rng([seed, label]).permutation(rows)
        tenth = (len(rows) + 5) // 10
        splits[drawn[:tenth]] = "validation"
        if label == 0:
            splits[drawn[2 * tenth :]] = "train"
    return splits


def _official(index: pd.DataFrame, seed: int, validation_clips: int) -> np.ndarray:
    part, clip = index["part"].to_numpy(dtype=str), index["clip"].to_numpy(dtype=str)
    if np.any(part == "folder"):
        raise VqadError("scheme official needs clips, which an image folder does not have; use scheme paper")
    training_clips = np.unique(clip[part == "train"])
    if not 1 <= validation_clips < len(training_clips):
        raise VqadError(
            f"data.official_validation_clips: {validation_clips} of {len(training_clips)} training clips cannot be "
            f"held out, for some must be left to train; hold out fewer or use more training clips{_IF_GENERATED}"
        )
    held_out = np.random.default_rng([seed, 2]).choice(training_clips, validation_clips, replace=False)
    normal_training = (part == "train") & (index["label"].to_numpy() == 0)
    splits = np.full(len(index), "unused", dtype="<U10")
    splits[normal_training] = "train"
    splits[normal_training & np.isin(clip, held_out)] = "validation"
    splits[part == "test"] = "test"
    return splits
