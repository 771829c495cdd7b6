"""Single frames and what trained combinations make of them: Figures 9-18 (split paper), and the explorer.

Figures show the same frames throughout. In the explorer a person picks a frame and a combination, moves the threshold,
and watches the restoration.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import ipywidgets
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vqad_lib.data.decode import decode_frame, survey
from vqad_lib.data.frames import FrameSet
from vqad_lib.data.samples import (
    Box,
    anomalous_examples,
    anomaly_boxes,
    frame_kinds,
    frame_titles,
    normal_examples,
)
from vqad_lib.detectors.chunks import nll_of_frames
from vqad_lib.detectors.restoration import restore
from vqad_lib.detectors.sample_wise import thresholds_at
from vqad_lib.detectors.scoring import RESTORATIONS, Detectors
from vqad_lib.errors import VqadError
from vqad_lib.experiment.networks import load_detectors
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import at_selected_threshold, combination_scores
from vqad_lib.models.blocks import to_uint8, to_unit_range
from vqad_lib.models.prior import Prior, code_nll
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.reporting.figures import subplots
from vqad_lib.seeds import addressed_uniforms

_THREADS = 4
FRAMES = 4  # of each class; figures with five restorations of four models hold no more at a readable size
FROM_TRAINING_CLIPS = (
    "Split paper draws test frames from all normal frames, so some are of clips named Train; none was trained on."
)
MARKED = "Boxes mark the anomalies of a frame, at the same places wherever the frame is shown or restored."
N_RESTORATIONS = 5  # N of the paper's figures; a profile may score with fewer


@dataclass(frozen=True)
class Frames:
    """Test frames of split paper that figures show.

    Attributes:
        rows: (n,) row numbers in the index.
        ids: n image ids, which address the noise.
        titles: n names for figures: kind, clip, frame.
        boxes: n lists of where the anomalies are, see `anomaly_boxes`.
        images: (n, 3, H, W) float in [-1, 1].
        note: what a reader may wonder at, for beneath the figure; "" where there is nothing.
    """

    rows: np.ndarray
    ids: list[str]
    titles: list[str]
    boxes: list[list[Box]]
    images: Tensor
    note: str

    @property
    def pictures(self) -> np.ndarray:
        """(n, 3, H, W) uint8."""
        return to_uint8(self.images)


def example_frames(run: Run, *, n: int = FRAMES) -> dict[str, Frames]:
    """The frames of Figures 9-18: "anomalous" and "normal", by the rule in `data/samples.py`."""
    index, test = run.frames.index, run.subsets("paper") == "test"
    picked = {"anomalous": anomalous_examples, "normal": normal_examples}
    return {name: frames_of(run, rule(index, n=n, among=test)) for name, rule in picked.items()}


def frames_of(run: Run, rows: np.ndarray) -> Frames:
    """Some frames by row number, with what figures say of them."""
    index = run.frames.index
    boxes = anomaly_boxes(index, rows, masks=run.frames.masks)
    notes = {FROM_TRAINING_CLIPS: (index["part"].iloc[rows] == "train").any(), MARKED: any(boxes)}
    return Frames(
        rows=rows,
        ids=index["image_id"].iloc[rows].tolist(),
        titles=frame_titles(index, rows),
        boxes=boxes,
        images=to_unit_range(run.images(rows)),
        note=" ".join(note for note, applies in notes.items() if applies),
    )


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
    whites, _ = survey(paths, workers=_THREADS)  # white is judged over all files
    width, height = decode_frame(paths[rows[0]], 1)[1]
    scale = min(1.0, at_most_px / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    squares = [decode_frame(paths[row], max(size), white=whites[row])[0] for row in rows]
    pictures = [Image.fromarray(square.transpose(1, 2, 0)).resize(size) for square in squares]  # 3 S S -> H W 3
    return np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in pictures])


def picture_detectors(run: Run, *, n_restorations: int = N_RESTORATIONS) -> dict[str, Detectors]:
    """The trained combinations "VP", "VT", "GP", "GT", with as many restorations as the paper's figures show.

    More restorations leave the earlier ones as they were, so the first are those of the scores.
    """
    run = run.changed({"detectors.n_restorations": n_restorations})
    return {
        model: load_detectors(run, autoencoder=autoencoder, prior=prior, scheme="paper")
        for (autoencoder, prior), model in COMBINATIONS.items()
    }


def chosen_thresholds(run: Run) -> pd.DataFrame:
    """The lambda of each combination and restoration method that validation selects, by the paper's metrics.

    Returns:
        Columns model, detector, percentile, nats; the values of Tables 7 and 8.
    """
    rows = []
    for model, tidy in combination_scores(run, "paper").items():
        for detector in RESTORATIONS:
            at = at_selected_threshold(run, tidy, detector, metrics="paper")
            rows.append({"model": model, "detector": detector, "percentile": at.percentile, "nats": at.nats})
    return pd.DataFrame(rows)


def restorations_of(scorer: Detectors, frames: Frames, *, detector: str, threshold_nats: float) -> np.ndarray:
    """What a combination restores the frames to: (N, n, 3, H, W) uint8."""
    _, restored = scorer.heatmaps(frames.images, frames.ids, detector=detector, threshold_nats=threshold_nats)
    return to_uint8(restored.transpose(0, 1))


def residuals_of(
    scorer: Detectors, frames: Frames, *, detector: str, threshold_nats: float, n_restorations: int
) -> np.ndarray:
    """The map of eq. 12, whose mean is the score of so many restorations: (n, H, W) float64 in [0, 1]."""
    scorer = replace(scorer, config=replace(scorer.config, n_restorations=n_restorations))
    maps, _ = scorer.heatmaps(frames.images, frames.ids, detector=detector, threshold_nats=threshold_nats)
    return maps.double().cpu().numpy()


def restored_by_count(scorer: Detectors, frames: Frames, counts: tuple[int, ...]) -> tuple[np.ndarray, pd.DataFrame]:
    """Pixel-wise restorations in which so many codes were replaced (Figure 10).

    Args:
        counts: how many codes, each >= 0.

    Returns:
        (len(counts), n, 3, H, W) uint8, and a table with image_id, wanted, replaced, changed, threshold_nats; a
        replaced code may be drawn as it was before, so fewer may have changed.
    """
    grids, rows = [], []
    for codes, image_id in zip(scorer.encode(frames.images), frames.ids, strict=True):
        noise = addressed_uniforms(seed=scorer.seed, image_ids=[image_id], n_restorations=1, grid=tuple(codes.shape))
        first = noise[0, 0].to(codes.device)
        restored, nats, replaced = restore_counts(scorer.prior, codes, noise=first, counts=counts)
        grids.append(restored)
        changed = (restored != codes).flatten(1).sum(1).tolist()
        rows += [(image_id, *found) for found in zip(counts, replaced, changed, nats, strict=True)]
    table = pd.DataFrame(rows, columns=["image_id", "wanted", "replaced", "changed", "threshold_nats"])
    return to_uint8(scorer.decode(torch.stack(grids, 1))), table


@torch.no_grad()
def restore_counts(
    prior: Prior, codes: Tensor, *, noise: Tensor, counts: tuple[int, ...]
) -> tuple[Tensor, list[float], list[int]]:
    """Restore one grid pixel-wise so that a wanted number of codes is replaced.

    The paper does not say how it came by 10, 20 and 30 replaced codes. At the threshold that validation chose few
    frames have as many; stopping early at a low threshold would restore the top of the picture only. So for each
    number the threshold is the highest one at which at least as many codes are replaced, and the replacements beyond
    are left out. Thresholds half-way between the NLLs of the frame's own codes are tried.

    Args:
        codes: (h, w) int64.
        noise: (h, w) float64 in [0, 1), the same for all numbers.
        counts: how many codes; more than h * w counts as h * w.

    Returns:
        (len(counts), h, w) int64; the threshold of each in nats; how many codes were replaced in each.
    """
    nll_of_codes = code_nll(prior.logits(codes[None]), codes[None]).flatten().double().sort(descending=True).values
    ends = (
        nll_of_codes.new_tensor([nll_of_codes[0] + 1.0]),
        nll_of_codes.new_tensor([-1.0]),
    )  # replaces none; replaces all
    thresholds = torch.cat([ends[0], (nll_of_codes[:-1] + nll_of_codes[1:]) / 2, ends[1]])

    def restored(at: Tensor, limit: int | None) -> Tensor:
        options = {"recompute": "after_every_replacement", "max_replacements": limit}
        noises = noise.expand(1, len(at), -1, -1)
        return restore(prior, codes[None], threshold_nats=at, noise=noises, **options)[0]

    # a code was replaced where the original one exceeds, given the restored codes before it
    tried = restored(thresholds, None)
    logits = prior.logits(tried).movedim(-1, 1)  # T K h w
    nll = F.cross_entropy(logits, codes.expand_as(tried), reduction="none")
    replaced = (nll > thresholds[:, None, None]).flatten(1).sum(1)  # T
    found, nats, numbers = [], [], []
    for count in counts:
        first = int((replaced >= min(count, codes.numel())).int().argmax())  # thresholds fall, the first is the highest
        found.append(restored(thresholds[first, None], count)[0])
        nats.append(float(thresholds[first]))
        numbers.append(min(count, int(replaced[first])))
    return torch.stack(found), nats, numbers


# -- the explorer ----------------------------------------------------------------------------------------------------

METHODS = [*RESTORATIONS, "regenerative"]


@dataclass(frozen=True)
class Look:
    """One frame through one detector.

    Attributes:
        original: (3, H, W) uint8.
        restorations: (N, 3, H, W) uint8.
        heatmap: (H, W) float64 in [0, 1]; its mean is the score.
        score: as in the score files.
        threshold_nats: lambda.
        replaced: of each restoration, how many of its codes differ from the frame's.
        codes: how many there are.
    """

    original: np.ndarray
    restorations: np.ndarray
    heatmap: np.ndarray
    score: float
    threshold_nats: float
    replaced: list[int]
    codes: int


@dataclass
class Explorer:
    """Frames, and combinations that are loaded when they are first asked for.

    Attributes:
        frames: the data set.
        subsets: (n,) str, see `Run.subsets`.
        load: "VP", "VT", "GP" or "GT" -> its detectors.
    """

    frames: FrameSet
    subsets: np.ndarray
    load: Callable[[str], Detectors]
    _loaded: dict[str, tuple[Detectors, np.ndarray]] = field(default_factory=dict, repr=False)

    @property
    def choices(self) -> dict[str, int]:
        """Test frames, anomalous ones first: "cart Test004/105" -> row number."""
        index = self.frames.index
        rows = np.flatnonzero(self.subsets == "test")
        rows = rows[np.argsort(-index["label"].to_numpy()[rows], kind="stable")]
        words = np.where(index["label"] == 1, "anomalous", "normal")
        kinds = np.where(frame_kinds(index) != "", frame_kinds(index), words)
        return {f"{kinds[row]} {index['image_id'].iloc[row]}": int(row) for row in rows}

    @property
    def first(self) -> int:
        """The row number of the frame to begin with: the anomalous one that every figure shows first."""
        picked = anomalous_examples(self.frames.index, n=1, among=self.subsets == "test")
        return int(picked[0]) if len(picked) else next(iter(self.choices.values()))

    def look(self, *, row: int, model: str, method: str, percentile: float) -> Look:
        """Send a frame through a detector.

        Args:
            row: its row number.
            model: "VP", "VT", "GP" or "GT".
            method: "pixel_wise", "light_pixel_wise" or "regenerative".
            percentile: of the NLL of all validation codes, 0..100; lambda stands there.
        """
        scorer, validation = self._of(model)
        nats = thresholds_at(validation, (percentile,))[percentile]
        image = to_unit_range(torch.from_numpy(self.frames.images[[row]].copy()).to(scorer.device))
        names = [self.frames.index["image_id"].iloc[row]]
        heatmap, restored = scorer.heatmaps(image, names, detector=method, threshold_nats=nats)
        codes, replaced = scorer.encode(image), [0]
        if method in RESTORATIONS:
            grids = scorer.restored_codes(codes, names, detector=method, thresholds_nats=[nats])[0, 0]
            replaced = (grids != codes).flatten(1).sum(1).tolist()
        return Look(
            original=np.asarray(self.frames.images[row]),
            restorations=to_uint8(restored[0]),
            heatmap=heatmap[0].double().cpu().numpy(),
            score=float(heatmap.mean()),
            threshold_nats=nats,
            replaced=replaced,
            codes=codes[0].numel(),
        )

    def _of(self, model: str) -> tuple[Detectors, np.ndarray]:
        if model not in self._loaded:
            scorer = self.load(model)
            rows = np.flatnonzero(self.subsets == "validation")
            self._loaded[model] = scorer, nll_of_frames(scorer, self.frames.images, rows)
        return self._loaded[model]


def open_explorer(run: Run, *, scheme: str = "paper") -> Explorer:
    """The trained combinations of a run, on one split; `load` says which notebook to run where one is missing."""
    by_name = {
        name: {"autoencoder": autoencoder, "prior": prior} for (autoencoder, prior), name in COMBINATIONS.items()
    }
    return Explorer(run.frames, run.subsets(scheme), lambda name: load_detectors(run, **by_name[name], scheme=scheme))


def draw(look: Look, *, method: str) -> Figure:
    """The frame, its first restoration and its heatmap, with the numbers above."""
    figure, axes = subplots(1, 3, figsize=(8.2, 3.1), layout="constrained")
    changed = ", ".join(map(str, look.replaced))
    titles = ["original", "reconstruction", "heatmap (0 to 1)"]
    if method in RESTORATIONS:
        titles[1] = f"first of {len(look.restorations)} restorations\ncodes changed in each: {changed} of {look.codes}"
    axes[0].imshow(look.original.transpose(1, 2, 0))  # 3 H W -> H W 3
    axes[1].imshow(look.restorations[0].transpose(1, 2, 0))
    shown = axes[2].imshow(look.heatmap, cmap="magma", vmin=0)
    figure.colorbar(shown, ax=axes[2], fraction=0.046)
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=8)
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
    at = f", λ {look.threshold_nats:.2f} nats" if method in RESTORATIONS else ""
    figure.suptitle(f"{method.replace('_', ' ')}: score {look.score:.4f}{at}", fontsize=9)
    plt.close(figure)  # shown where it is returned to, not once more at the end of a cell
    return figure


def controls(explorer: Explorer) -> ipywidgets.Widget:
    """A menu of frames, buttons for combination and method, a slider for the percentile, and the picture beneath."""
    chosen = {
        "row": ipywidgets.Dropdown(options=explorer.choices, value=explorer.first, description="frame"),
        "model": ipywidgets.ToggleButtons(options=list(COMBINATIONS.values()), description="model"),
        "method": ipywidgets.ToggleButtons(
            options=[(name.replace("_", " "), name) for name in METHODS], description="method"
        ),
        "percentile": ipywidgets.FloatSlider(
            value=80, min=0, max=100, step=1, description="percentile", continuous_update=False
        ),
    }

    def show(**values: int | str | float) -> None:
        try:
            look = explorer.look(**values)
        except VqadError as error:
            print(error)
            return
        display(draw(look, method=values["method"]))

    return ipywidgets.VBox([*chosen.values(), ipywidgets.interactive_output(show, chosen)])
