"""Which frames the figures show: picked by a fixed rule, so that every figure and every run shows the same ones.

Where it is known what a clip shows, the rule takes each kind of anomaly in turn, the one in fewest clips first, and of
a clip the frame in the middle of its anomalous ones. Otherwise frames are spread evenly.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

# What is to be seen in the middle anomalous frame of each test clip of UCSD Ped2, and how many frames the clip has.
# Found by looking: a contact sheet of five frames a clip, spread over its anomalous ones, at full size. The data set
# itself does not say. A bike may be ridden or pushed, a skater stands on a board; there is no wheelchair in Ped2.
PED2_TEST_CLIPS = pd.read_csv(Path(__file__).with_name("ped2_test_clips.csv"), index_col="clip")

# Where it is to be seen, for copies of Ped2 without pixel masks: for clips that figures show, two frames, six before
# and six after the middle anomalous one, and each anomaly's box in both, in px of 360x240. Found by looking.
PED2_BOXES = pd.read_csv(Path(__file__).with_name("ped2_boxes.csv"))
_PED2_SIZE_PX = np.array([360, 240, 360, 240])


def frame_kinds(index: pd.DataFrame) -> np.ndarray:
    """What makes each frame anomalous.

    Args:
        index: one row per frame with clip, frame, part, label, kind (see `FrameSet.index`).

    Returns:
        (len(index),) str: "cart", "bike", "skater", "bike and skater"; "" for normal frames and where nobody knows.
        Clips of Ped2 are recognised by their lengths, for another recording may use the same names.
    """
    anomalous = index["label"].to_numpy() == 1
    known = index["clip"].map(PED2_TEST_CLIPS["kind"]).fillna("") if _is_ped2(index) else index["kind"]
    return np.where(anomalous, known.to_numpy(dtype=str), "")


def anomaly_boxes(index: pd.DataFrame, rows: np.ndarray, *, masks: np.ndarray | None) -> list[list[Box]]:
    """Where the anomalies of frames are, for figures to mark.

    Args:
        index: one row per frame with clip, frame, part, label.
        rows: (n,) row numbers.
        masks: (len(index), H, W) of 0 and 1, see `FrameSet.masks`; None where the source has none.

    Returns:
        n lists of boxes in shares of the width and the height, 0 to 1: around each connected part of the mask, with a
        pixel to spare; without masks what `PED2_BOXES` knows, moved in a straight line between its two frames. Empty
        for normal frames and where nobody knows.
    """
    if masks is not None:
        return [_boxes_of_mask(np.asarray(masks[row])) for row in rows]
    known, picked = _is_ped2(index), index.iloc[rows][["clip", "frame", "label"]]
    return [_known_boxes(clip, frame) if known and label else [] for clip, frame, label in picked.to_numpy()]


def _is_ped2(index: pd.DataFrame) -> bool:
    lengths = index.loc[index["part"] == "test", "clip"].value_counts().to_dict()
    return lengths == PED2_TEST_CLIPS["frames"].to_dict()


def _boxes_of_mask(mask: np.ndarray) -> list[Box]:
    spread = ndimage.binary_dilation(mask, np.ones((3, 3)))  # what all but touches is one
    height, width = mask.shape
    found = ndimage.find_objects(ndimage.label(spread, np.ones((3, 3)))[0])
    return [(x.start / width, y.start / height, x.stop / width, y.stop / height) for y, x in found]


def _known_boxes(clip: str, frame: int) -> list[Box]:
    found = []
    for _, first, last, *ends in PED2_BOXES[PED2_BOXES["clip"] == clip].itertuples(index=False):
        after = (frame - first) / (last - first)
        if 0 <= after <= 1:
            found.append(tuple(((1 - after) * np.array(ends[:4]) + after * np.array(ends[4:])) / _PED2_SIZE_PX))
    return found


def anomalous_examples(index: pd.DataFrame, *, n: int, among: np.ndarray | None = None) -> np.ndarray:
    """Anomalous frames, one a clip: each kind in turn where kinds are known, else clips spread evenly.

    Of a clip, the frame nearest to the middle one of its anomalous frames is taken. A smaller n gives some of the
    same frames. Where there are fewer clips than n (an image folder has one), frames are spread instead.

    Args:
        index: one row per frame with clip, frame, part, label, kind.
        n: how many, at most.
        among: (len(index),) bool, the frames to choose from; all by default.

    Returns:
        (<= n,) int64 row numbers, ascending.
    """
    anomalous = index["label"].to_numpy() == 1
    rows = np.flatnonzero(anomalous)
    found = pd.DataFrame({"row": rows, "clip": index["clip"].to_numpy()[rows], "kind": frame_kinds(index)[rows]})
    middles = found.groupby("clip")["row"].transform(lambda of_clip: of_clip.iloc[len(of_clip) // 2])
    found["away"] = (found["row"] - middles).abs()
    if among is not None:
        found = found[among[rows]]
    nearest = found.sort_values(["clip", "away"], kind="stable").drop_duplicates("clip")  # ties: the earlier frame
    if len(nearest) < n or not (nearest["kind"] != "").any():
        return _spread(index, anomalous, n, among)
    # the first clip of each kind, the rarest kind first, then the second
    of_kind = nearest.groupby("kind")["clip"]
    in_turn = nearest.assign(turn=of_kind.cumcount(), clips=of_kind.transform("size"))
    return np.sort(in_turn.sort_values(["turn", "clips", "kind"])["row"].to_numpy()[:n])


def normal_examples(index: pd.DataFrame, *, n: int, among: np.ndarray | None = None) -> np.ndarray:
    """Normal frames: the middle one of n clips spread evenly; arguments as `anomalous_examples`."""
    return _spread(index, index["label"].to_numpy() == 0, n, among)


def frame_titles(index: pd.DataFrame, rows: np.ndarray) -> list[str]:
    """Names of frames for figures: kind, where it is known, above clip and frame, for example "cart\\nTest004/105"."""
    kinds, names = frame_kinds(index)[rows], index["image_id"].to_numpy()[rows]
    return [f"{kind}\n{name}" if kind else str(name) for kind, name in zip(kinds, names, strict=True)]


def _spread(index: pd.DataFrame, wanted: np.ndarray, n: int, among: np.ndarray | None) -> np.ndarray:
    rows = np.flatnonzero(wanted if among is None else wanted & among)
    by_clip = [group for _, group in pd.Series(rows).groupby(index["clip"].to_numpy()[rows])]
    if len(by_clip) < n:
        return rows[np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int))]
    picked = np.linspace(0, len(by_clip) - 1, n).round().astype(int)
    return np.sort([by_clip[i].iloc[len(by_clip[i]) // 2] for i in picked]).astype(np.int64)
