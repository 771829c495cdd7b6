"""The two ways to divide a data set into training, validation and test images.

`paper` is section 3.8 of the paper. It draws single frames, so neighbouring frames of one clip fall on both sides and
the test frames are nearly known: it leaks, and `leak` measures by how much. `official` keeps clips whole.
"""

import numpy as np
import pandas as pd

from vqad_lib.errors import VqadError

PROTOCOLS = ("paper", "official")
# what each split needs to be of use: (split, label)
_NEEDED = {
    "paper": (("train", 0), ("validation", 0), ("validation", 1), ("test", 0), ("test", 1)),
    "official": (("train", 0), ("validation", 0), ("test", 0), ("test", 1)),
}
_CLASS_NAMES = ("normal", "anomalous")


def available_protocols(dataset: str) -> tuple[str, ...]:
    """The protocols that a data set allows: an image folder has no clips, so it has no official split.

    Raises:
        VqadError: the data set is unknown.
    """
    if dataset not in ("ucsd_ped2", "synthetic", "folder"):
        raise VqadError(f"data set {dataset!r} is unknown; choose ucsd_ped2, synthetic or folder")
    return ("paper",) if dataset == "folder" else PROTOCOLS


def split_frames(index: pd.DataFrame, *, protocol: str, seed: int, validation_clips: int) -> np.ndarray:
    """Say for each frame which split it belongs to.

    `paper`: a tenth of the N normal frames for validation and for test, floor(N / 10 + 1/2) each, and the rest for
    training; of the A anomalous frames floor(A / 10 + 1/2) for validation and the rest for test.
    `official`: `validation_clips` training clips are held out for validation, the other training clips are for
    training, the test clips for test; so validation has normal frames only.

    Args:
        index: as `FrameSet.index`; the draw goes by image_id and clip, so the order of the rows does not matter.
        protocol: "paper" or "official".
        seed: >= 0; draws the frames or the held-out clips.
        validation_clips: number of training clips to hold out, >= 1; used by `official` only.

    Returns:
        (n,) array of str: "train", "validation", "test" or "unused".

    Raises:
        VqadError: the protocol is unknown or does not exist for this data set, or a split would have no images of a
            class that it needs.
    """
    if protocol == "paper":
        subsets = _split_paper(index, seed)
    elif protocol == "official":
        subsets = _split_official(index, seed, validation_clips)
    else:
        raise VqadError(f"protocol {protocol!r} is unknown; choose {' or '.join(PROTOCOLS)}")
    label = index["label"].to_numpy()
    more = "add images or clips of that class"
    if _is_generated(index):
        more = "raise data.synthetic.frames_per_clip or data.synthetic.test_clips"
    for subset, wanted in _NEEDED[protocol]:
        if not np.any((subsets == subset) & (label == wanted)):
            raise VqadError(
                f"split {protocol}: {subset} has no {_CLASS_NAMES[wanted]} images ({np.sum(label == 0)} normal and "
                f"{np.sum(label == 1)} anomalous in all); {more}"
            )
    return subsets


def _is_generated(index: pd.DataFrame) -> bool:
    return bool(np.any(index.get("kind", "") != ""))


def _split_paper(index: pd.DataFrame, seed: int) -> np.ndarray:
    subsets = np.full(len(index), "test", dtype="<U10")
    for label in (0, 1):
        rows = np.flatnonzero(index["label"].to_numpy() == label)
        rows = rows[np.argsort(index["image_id"].to_numpy(dtype=str)[rows], kind="stable")]
        drawn = np.random.default_rng([seed, label]).permutation(rows)
        tenth = (len(rows) + 5) // 10
        subsets[drawn[:tenth]] = "validation"
        if label == 0:
            subsets[drawn[2 * tenth :]] = "train"
    return subsets


def _split_official(index: pd.DataFrame, seed: int, validation_clips: int) -> np.ndarray:
    part, clip = index["part"].to_numpy(dtype=str), index["clip"].to_numpy(dtype=str)
    if np.any(part == "folder"):
        raise VqadError("split official needs clips, which an image folder does not have; use protocol paper")
    training_clips = np.unique(clip[part == "train"])
    if not 1 <= validation_clips < len(training_clips):
        more = "raise data.synthetic.train_clips" if _is_generated(index) else "use more training clips"
        choose = f"choose 1 to {len(training_clips) - 1}, or " if len(training_clips) > 1 else ""
        raise VqadError(
            f"data.official_validation_clips: {validation_clips} of {len(training_clips)} training clips cannot be "
            f"held out; {choose}{more}"
        )
    held_out = np.random.default_rng([seed, 2]).choice(training_clips, validation_clips, replace=False)
    subsets = np.full(len(index), "unused", dtype="<U10")
    normal_training = (part == "train") & (index["label"].to_numpy() == 0)
    subsets[normal_training] = "train"
    subsets[normal_training & np.isin(clip, held_out)] = "validation"
    subsets[part == "test"] = "test"
    return subsets
