"""Look at single test frames by hand: pick a frame and a combination, move the threshold, watch the restoration."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

import ipywidgets
import numpy as np
import torch
from IPython.display import clear_output, display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from vqad_lib.data.frames import FrameSet
from vqad_lib.data.samples import anomalous_examples, frame_kinds
from vqad_lib.detectors.chunks import surprise
from vqad_lib.detectors.sample_wise import thresholds_at
from vqad_lib.detectors.scoring import RESTORATIONS, Detectors
from vqad_lib.errors import VqadError
from vqad_lib.reporting.figures import subplots
from vqad_lib.training.batches import to_uint8, to_unit_range
from vqad_lib.workflow import stages
from vqad_lib.workflow.run import Run

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
            percentile: of the surprise of all validation codes, 0..100; lambda stands there.
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
            self._loaded[model] = scorer, surprise(scorer, self.frames.images, rows)
        return self._loaded[model]


def open_explorer(run: Run, *, protocol: str = "paper", train: bool = False) -> Explorer:
    """The trained combinations of a run, on one split.

    Args:
        train: train what is not there, which is quick in profile smoke only; else `load` raises a `VqadError` with the
            command that does.
    """
    by_name = {name: pair for pair, name in stages.COMBINATIONS.items()}

    def load(model: str) -> Detectors:
        autoencoder, prior = by_name[model]
        options = {"autoencoder_kind": autoencoder, "prior_kind": prior, "protocol": protocol}
        if not (train or stages.is_trained(run, **options)):
            raise VqadError(f"the networks of {model} are not there; this makes them: {_make_paper(run)}")
        return stages.detectors(run, **options)

    return Explorer(run.frames, run.subsets(protocol), load)


def _make_paper(run: Run) -> str:
    """The command behind a run, from "--data-root=x" and its like."""
    pairs = (option.removeprefix("--").split("=", 1) for option in run.options)
    given = [f"{key.replace('-', '_').upper()}={shlex.quote(value)}" for key, value in pairs if key != "replicate"]
    return " ".join(["make paper", *given])


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
        "model": ipywidgets.ToggleButtons(options=list(stages.COMBINATIONS.values()), description="model"),
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
        clear_output(wait=True)  # of the progress of a training
        display(draw(look, method=values["method"]))

    return ipywidgets.VBox([*chosen.values(), ipywidgets.interactive_output(show, chosen)])
