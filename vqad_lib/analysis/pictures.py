"""Single frames and what trained combinations make of them: Figures 9-18 (scheme paper), the same frames throughout."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from vqad_lib.data.decode import decode_frame, survey
from vqad_lib.data.samples import Box, anomalous_examples, anomaly_boxes, frame_titles, normal_examples
from vqad_lib.detectors.scoring import Detectors
from vqad_lib.experiment.run import Run
from vqad_lib.models.blocks import to_uint8, to_unit_range
from vqad_lib.models.prior import code_nll

FRAMES = 4  # of each class; figures with five restorations of four models hold no more at a readable size
FROM_TRAINING_CLIPS = (
    "Scheme paper draws test frames from all normal frames, so some are of clips named Train; none was trained on."
)
MARKED = "Boxes mark the anomalies of a frame, at the same places wherever the frame is shown or restored."


@dataclass(frozen=True)
class Frames:
    """Frames that figures show.

    Attributes:
        ids: n image ids, which address the noise.
        titles: n names for figures: kind, clip, frame.
        boxes: n lists of where the anomalies are, see `anomaly_boxes`.
        images: (n, 3, H, W) float in [-1, 1].
        note: what a reader may wonder at, for beneath the figure; "" where there is nothing.
    """

    ids: list[str]
    titles: list[str]
    boxes: list[list[Box]]
    images: Tensor
    note: str

    @property
    def pictures(self) -> np.ndarray:
        """(n, 3, H, W) uint8."""
        return to_uint8(self.images)


def example_frames(run: Run) -> dict[str, Frames]:
    """The test frames of Figures 9-18, scheme paper: "anomalous" and "normal", by the rule in `data/samples.py`."""
    test = run.splits("paper") == "test"
    rules = {"anomalous": anomalous_examples, "normal": normal_examples}
    return {name: frames_of(run, rule(run.frames.index, n=FRAMES, among=test)) for name, rule in rules.items()}


def frames_of(run: Run, rows: np.ndarray) -> Frames:
    """Some frames by row number, with what figures say of them."""
    index = run.frames.index
    boxes = anomaly_boxes(index, rows, masks=run.frames.masks)
    notes = {FROM_TRAINING_CLIPS: (index["part"].iloc[rows] == "train").any(), MARKED: any(boxes)}
    note = " ".join(note for note, applies in notes.items() if applies)
    ids, titles = index["image_id"].iloc[rows].tolist(), frame_titles(index, rows)
    return Frames(ids, titles, boxes, to_unit_range(run.images(rows)), note)


def large_images(run: Run, rows: np.ndarray, *, at_most_px: int = 512) -> np.ndarray:
    """Frames for people to look at: in their own proportions and larger than networks see them.

    Args:
        rows: (m,) row numbers, at least one.
        at_most_px: the longer side; larger files are reduced.

    Returns:
        (m, 3, H, W) uint8 RGB, all as large as the first one. Generated frames are the prepared ones.

    Raises:
        VqadError: as `prepare_frames`.
    """
    paths = run.frames.paths
    if not paths:
        return np.asarray(run.frames.images[rows])
    whites, _ = survey(paths, workers=4)  # white is judged over all files
    shape = decode_frame(paths[rows[0]], 1)[1]  # W H
    size = [max(1, round(side * min(1.0, at_most_px / max(shape)))) for side in shape]
    squares = [decode_frame(paths[row], max(size), white=whites[row])[0] for row in rows]
    pictures = [Image.fromarray(square.transpose(1, 2, 0)).resize(size) for square in squares]  # 3 S S -> H W 3
    return np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in pictures])


@torch.no_grad()
def restored_by_count(scorer: Detectors, frames: Frames, counts: tuple[int, ...]) -> tuple[np.ndarray, pd.DataFrame]:
    """Pixel-wise restorations that change so many codes of each frame, or nearly so many (Figure 10).

    The paper does not say how it came by 10, 20 and 30 replaced codes; at the threshold that validation chose few
    frames have as many. So the NLL of each of a frame's own codes is tried as lambda, and the one taken that comes
    nearest to the number.

    Args:
        counts: how many codes, each >= 0.

    Returns:
        (len(counts), n, 3, H, W) uint8, and a table with image_id, wanted, changed (so many did), threshold_nats.
    """
    first = replace(scorer, config=replace(scorer.config, n_restorations=1))
    grids, rows = [], []
    for codes, image_id in zip(scorer.encode(frames.images), frames.ids, strict=True):
        nll = code_nll(scorer.logits(codes[None]), codes[None]).flatten()
        nats = (nll + 1e-3).tolist()  # above the code's own NLL, however that is rounded
        tried = first.restored_codes(codes[None], [image_id], detector="pixel_wise", thresholds_nats=nats)[0, :, 0]
        changed = (tried != codes).flatten(1).sum(1)
        nearest = [int((changed - count).abs().argmin()) for count in counts]
        grids.append(tried[nearest])
        rows += [(image_id, count, int(changed[at]), nats[at]) for count, at in zip(counts, nearest, strict=True)]
    table = pd.DataFrame(rows, columns=["image_id", "wanted", "changed", "threshold_nats"])
    return to_uint8(scorer.decode(torch.stack(grids, 1))), table
