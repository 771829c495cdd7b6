"""Single frames and what trained combinations make of them: Figures 9-18 (scheme paper), and the explorer.

Figures show the same frames throughout. In the explorer a person picks a frame and a combination, moves the threshold,
and watches the restoration.
"""

from dataclasses import dataclass, replace

import ipywidgets
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vqad_lib.data.decode import decode_frame, survey
from vqad_lib.data.samples import Box, anomalous_examples, anomaly_boxes, frame_kinds, frame_titles, normal_examples
from vqad_lib.detectors.chunks import nll_of_frames
from vqad_lib.detectors.sample_wise import thresholds_at
from vqad_lib.detectors.scoring import RESTORATIONS, Detectors
from vqad_lib.errors import VqadError
from vqad_lib.experiment.networks import load_detectors
from vqad_lib.experiment.run import Run
from vqad_lib.models.blocks import to_uint8, to_unit_range
from vqad_lib.models.prior import code_nll
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.reporting.figures import subplots

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


# -- the explorer ----------------------------------------------------------------------------------------------------


class Explorer:
    """Frames of a run, and its trained combinations, loaded when they are first asked for."""

    def __init__(self, run: Run, *, scheme: str = "paper") -> None:
        """Look at the test frames of a scheme through what was trained on it."""
        self.run, self.scheme, self.splits = run, scheme, run.splits(scheme)
        self._loaded: dict[str, tuple[Detectors, np.ndarray]] = {}

    @property
    def choices(self) -> dict[str, int]:
        """Test frames, anomalous ones first: "cart Test004/105" -> row number."""
        index, kinds = self.run.frames.index, frame_kinds(self.run.frames.index)
        rows = np.flatnonzero(self.splits == "test")
        rows = rows[np.argsort(-index["label"].to_numpy()[rows], kind="stable")]
        words = np.where(kinds != "", kinds, np.where(index["label"] == 1, "anomalous", "normal"))
        return {f"{words[row]} {index['image_id'].iloc[row]}": int(row) for row in rows}

    def look(self, *, row: int, model: str, method: str, percentile: float) -> Figure:
        """Send a frame through a detector: the frame, its first restoration and its heatmap, with the score above.

        Args:
            row: its row number.
            model: "VP", "VT", "GP" or "GT".
            method: "pixel_wise", "light_pixel_wise" or "regenerative".
            percentile: of the NLL of all validation codes, 0..100; lambda stands there.

        Raises:
            VqadError: the combination has not been trained yet; the message says which notebook does it.
        """
        if model not in self._loaded:
            autoencoder, prior = next(names for names, name in COMBINATIONS.items() if name == model)
            scorer = load_detectors(self.run, autoencoder=autoencoder, prior=prior, scheme=self.scheme)
            validation = np.flatnonzero(self.splits == "validation")
            self._loaded[model] = scorer, nll_of_frames(scorer, self.run.frames.images, validation)
        scorer, nll = self._loaded[model]
        nats = thresholds_at(nll, (percentile,))[percentile]
        frame = frames_of(self.run, np.array([row]))
        heatmaps, restored = scorer.heatmaps(frame.images, frame.ids, detector=method, threshold_nats=nats)
        heatmap = heatmaps[0].double().cpu().numpy()
        title, at = "reconstruction", ""
        if method in RESTORATIONS:
            title, at = f"first of {restored.shape[1]} restorations", f", λ {nats:.2f} nats"
        figure, axes = subplots(1, 3, figsize=(8.2, 3.1), layout="constrained")
        axes[0].imshow(frame.pictures[0].transpose(1, 2, 0))  # 3 H W -> H W 3
        axes[1].imshow(to_uint8(restored[0, 0]).transpose(1, 2, 0))
        figure.colorbar(axes[2].imshow(heatmap, cmap="magma", vmin=0), ax=axes[2], fraction=0.046)
        for axis, name in zip(axes, ("original", title, "heatmap (0 to 1)"), strict=True):
            axis.set_title(name, fontsize=8)
            axis.set_axis_off()
        figure.suptitle(f"{method.replace('_', ' ')}: score {heatmap.mean():.4f}{at}", fontsize=9)
        plt.close(figure)  # shown where it is returned to, not once more at the end of a cell
        return figure


def controls(explorer: Explorer) -> ipywidgets.Widget:
    """A menu of frames, buttons for combination and method, a slider for the percentile, and the picture beneath."""
    buttons, methods = ipywidgets.ToggleButtons, [*RESTORATIONS, "regenerative"]
    chosen = {
        "row": ipywidgets.Dropdown(options=explorer.choices, description="frame"),
        "model": buttons(options=list(COMBINATIONS.values()), description="model"),
        "method": buttons(options=[(name.replace("_", " "), name) for name in methods], description="method"),
        "percentile": ipywidgets.FloatSlider(80, max=100, step=1, description="percentile", continuous_update=False),
    }

    def show(**values: int | str | float) -> None:
        try:
            display(explorer.look(**values))
        except VqadError as error:
            print(error)

    return ipywidgets.VBox([*chosen.values(), ipywidgets.interactive_output(show, chosen)])
