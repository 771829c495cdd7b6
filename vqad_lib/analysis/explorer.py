"""The explorer of `make lab`: a person picks a frame and a combination, moves the numbers, and watches the restoration.

`Explorer.look` computes, `draw` draws, `controls` are what is moved.
"""

import io
from dataclasses import dataclass, replace
from functools import partial

import ipywidgets
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vqad_lib.analysis.pictures import Frames, frames_of
from vqad_lib.data.samples import frame_kinds
from vqad_lib.detectors.chunks import nll_of_frames
from vqad_lib.detectors.sample_wise import thresholds_at
from vqad_lib.detectors.scoring import RESTORATIONS, Detectors
from vqad_lib.errors import VqadError
from vqad_lib.experiment.networks import load_detectors
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import Selected, at_selected_threshold, load_scores
from vqad_lib.files import read_json
from vqad_lib.models.blocks import to_uint8
from vqad_lib.models.prior import code_nll
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.reporting.figures import COLOURS, subplots

METHODS = [*RESTORATIONS, "regenerative"]
ORDERS = ("anomalous first", "highest score first", "lowest score first")
LABELS = {"all": (0, 1), "anomalous": (1,), "normal": (0,)}
THUMBNAILS = 12
NO_FRAME = -1


@dataclass(frozen=True)
class Look:
    """A frame, and what a detector makes of it.

    Attributes:
        frame: one frame.
        threshold_nats: lambda.
        nll: (h, w) of the frame's codes, nats.
        heatmap: (H, W) in [0, 1]; its mean is the score.
        restorations: (N, 3, H, W) float in [-1, 1].
        steps: a row per code of the first restoration that was drawn anew, in order: row, column, before, after, nll.
        grids: (steps + 1, h, w) its codes before the first of them and after each.
    """

    frame: Frames
    threshold_nats: float
    nll: np.ndarray
    heatmap: np.ndarray
    restorations: Tensor
    steps: pd.DataFrame
    grids: Tensor

    @property
    def score(self) -> float:
        """Higher is more anomalous."""
        return float(self.heatmap.mean())


class Explorer:
    """Test frames of a run, and its trained combinations, loaded when they are first asked for."""

    def __init__(self, run: Run, *, scheme: str = "paper") -> None:
        """Look at the test frames of a scheme through what was trained on it."""
        self.run, self.scheme, self.splits = run, scheme, run.splits(scheme)
        self._loaded: dict[str, tuple[Detectors, np.ndarray]] = {}
        self._scores: dict[tuple[str, str], Selected | None] = {}

    def choices(
        self,
        *,
        clip: str = "",
        label: str = "all",
        order: str = ORDERS[0],
        model: str = "VP",
        method: str = METHODS[0],
    ) -> dict[str, int]:
        """Test frames: "cart Test004/105" -> row number.

        Args:
            clip: of this one alone; "" for all.
            label: "all", "normal" or "anomalous".
            order: one of `ORDERS`; by the scores of `model` and `method`, where there are any.
        """
        index, kinds = self.run.frames.index, frame_kinds(self.run.frames.index)
        kept = (self.splits == "test") & (index["clip"].isin([clip]) | (clip == ""))
        rows = np.flatnonzero(kept & index["label"].isin(LABELS[label]))
        scores = self.scores(model, method)
        by = -index["label"].to_numpy()[rows]
        if order != ORDERS[0] and scores is not None:
            of_image = scores.test.set_index("image_id")["score"]
            of_rows = of_image.reindex(index["image_id"].iloc[rows]).to_numpy()  # those without one come last
            by = of_rows * (-1 if order == ORDERS[1] else 1)
        rows = rows[np.argsort(by, kind="stable")]
        words = np.where(kinds != "", kinds, np.where(index["label"] == 1, "anomalous", "normal"))
        return {f"{words[row]} {index['image_id'].iloc[row]}": int(row) for row in rows}

    def scores(self, model: str, method: str) -> Selected | None:
        """What `make paper` has scored, at the percentile that validation selects.

        None before that, and where the last run had another seed, other weights of the perceptual network, or other
        images.
        """
        if (model, method) not in self._scores:
            autoencoder, prior = _networks(model)
            try:
                self._check_run()
                tidy = load_scores(self.run, autoencoder=autoencoder, prior=prior, scheme=self.scheme)
                self._scores[model, method] = at_selected_threshold(self.run, tidy, method)
            except VqadError:
                self._scores[model, method] = None
        return self._scores[model, method]

    def _check_run(self) -> None:
        """Raise a VqadError unless the scores that are there are this run's."""
        run, profile = self.run, self.run.profile
        settings = read_json(run.root / "data" / "derived" / run.results / "run.json")
        mine = [str(profile.seed), profile.gan.perceptual_weights, run.frames.digest]
        if [settings.get(key) for key in ("seed", "perceptual", "data_digest")] != mine:
            raise VqadError(f"reports/{run.results} holds scores of another run")

    def detectors(self, model: str) -> tuple[Detectors, np.ndarray]:
        """The networks of a combination, and the NLLs of all validation codes, nats.

        Raises:
            VqadError: it has not been trained yet; the message says which notebook does it.
        """
        if model not in self._loaded:
            autoencoder, prior = _networks(model)
            scorer = load_detectors(self.run, autoencoder=autoencoder, prior=prior, scheme=self.scheme)
            validation = np.flatnonzero(self.splits == "validation")
            self._loaded[model] = scorer, nll_of_frames(scorer, self.run.frames.images, validation)
        return self._loaded[model]

    @torch.no_grad()
    def look(
        self, *, row: int, model: str, method: str, percentile: float, N: int | None = None, k: float | None = None
    ) -> Look:
        """Send a frame through a detector.

        Args:
            row: its row number.
            model: "VP", "VT", "GP" or "GT".
            method: "pixel_wise", "light_pixel_wise" or "regenerative".
            percentile: of the NLL of all validation codes, 0..100; lambda stands there.
            N, k: of eq. 11; the profile's where not given.

        Raises:
            VqadError: see `detectors`.
        """
        scorer, nlls = self.detectors(model)
        own = scorer.config
        config = replace(own, n_restorations=N or own.n_restorations, weight_temperature=k or own.weight_temperature)
        scorer, nats = replace(scorer, config=config), thresholds_at(nlls, (percentile,))[percentile]
        frame = frames_of(self.run, np.array([row]))
        options = {"detector": method, "threshold_nats": nats}
        heatmaps, restorations = scorer.heatmaps(frame.images.to(scorer.device), frame.ids, **options)
        codes = scorer.encode(frame.images.to(scorer.device))
        nll = code_nll(scorer.logits(codes), codes)
        steps, grids = _replay(scorer, codes, nll, frame.ids, method, nats)
        arrays = (tensor[0].double().cpu().numpy() for tensor in (nll, heatmaps))
        return Look(frame, nats, *arrays, restorations[0], steps, grids)


def _networks(model: str) -> tuple[str, str]:
    return next(names for names, name in COMBINATIONS.items() if name == model)


def _replay(
    scorer: Detectors, codes: Tensor, nll: Tensor, ids: list[str], method: str, nats: float
) -> tuple[pd.DataFrame, Tensor]:
    """`steps` and `grids` of a `Look`.

    What pixel-wise detection sees at a code are the codes before it as they have been restored, so one pass over the
    finished restoration tells of every step how unlikely the code was.
    """
    names = ["row", "column", "before", "after", "nll"]
    if method not in RESTORATIONS:
        return pd.DataFrame(columns=names), codes
    restored = scorer.restored_codes(codes, ids, detector=method, thresholds_nats=[nats])[0, 0, :1]  # 1 h w
    seen = nll if RESTORATIONS[method] == "once" else code_nll(scorer.logits(restored), codes)
    places = (seen[0] > nats).nonzero()  # S 2
    at = tuple(places.T)
    columns = [*places.T.tolist(), codes[0][at].tolist(), restored[0][at].tolist(), seen[0][at].tolist()]
    grids = codes.repeat(len(places) + 1, 1, 1)
    for i, (row, column) in enumerate(places.tolist(), start=1):
        grids[i:, row, column] = restored[0, row, column]
    return pd.DataFrame(dict(zip(names, columns, strict=True))), grids


# -- what is seen ----------------------------------------------------------------------------------------------------


def draw(explorer: Explorer, look: Look, *, model: str, method: str, opacity: float = 0.5, step: int = 0) -> Figure:
    """Six panels: the frame beneath the NLL of its codes, its first restoration, the frame beneath the heatmap; the
    restoration after so many steps, the score among those of all test frames, the scores of its clip.

    Args:
        opacity: of what lies over the frame, 0..1.
        step: of the first restoration; beyond the last one it is finished.
    """
    figure, axes = subplots(2, 3, figsize=(9.0, 5.6), layout="constrained")
    picture, side = look.frame.pictures[0].transpose(1, 2, 0), look.heatmap.shape
    extent = (-0.5, side[1] - 0.5, side[0] - 0.5, -0.5)
    lambdas = f", λ {look.threshold_nats:.2f} nats" if method in RESTORATIONS else ""
    restored = f"first of {len(look.restorations)} restorations" if method in RESTORATIONS else "reconstruction"
    over = {"NLL of its codes (nats)": look.nll, "": None, "heatmap (0 to 1)": look.heatmap}
    for axis, (title, values) in zip(axes[0], over.items(), strict=True):
        axis.imshow(picture if values is not None else to_uint8(look.restorations[0]).transpose(1, 2, 0))
        axis.set_title(title or restored, fontsize=8)
        if values is not None:
            drawn = axis.imshow(values, cmap="magma", vmin=0, alpha=opacity, extent=extent)
            figure.colorbar(drawn, ax=axis, fraction=0.046)
    step = min(step, len(look.steps))
    axes[1, 0].imshow(to_uint8(explorer.detectors(model)[0].decode(look.grids[step : step + 1])[0]).transpose(1, 2, 0))
    axes[1, 0].set_title(_step_in_words(look, step), fontsize=8)
    if step:
        h, w = look.nll.shape
        row, column = look.steps.iloc[step - 1][["row", "column"]].astype(int)
        corner, size = (column * side[1] / w - 0.5, row * side[0] / h - 0.5), (side[1] / w, side[0] / h)
        axes[1, 0].add_patch(plt.Rectangle(corner, *size, edgecolor="cyan", fill=False))
    for axis in (*axes[0], axes[1, 0]):
        axis.set_axis_off()
    _draw_scores(axes[1, 1], axes[1, 2], explorer, look, explorer.scores(model, method))
    name = method.replace("_", " ")
    title = look.frame.titles[0].replace("\n", " ")
    figure.suptitle(f"{title} · {model}, {name}: score {look.score:.4f}{lambdas}", fontsize=9)
    plt.close(figure)  # shown where it is returned to, not once more at the end of a cell
    return figure


def _step_in_words(look: Look, step: int) -> str:
    if not len(look.steps):
        return "decoded; no code is drawn anew"
    if not step:
        return f"decoded; {len(look.steps)} codes will be drawn anew"
    at = look.steps.iloc[step - 1]
    return (
        f"step {step} of {len(look.steps)}: code {at['before']:.0f} ({at['nll']:.1f} nats)\n"
        f"at row {at['row']:.0f}, column {at['column']:.0f} becomes {at['after']:.0f}"
    )


def _draw_scores(among: Axes, in_time: Axes, explorer: Explorer, look: Look, scores: Selected | None) -> None:
    """The score in the distributions of both classes, and the scores of the clip, where it is anomalous shaded."""
    if scores is None:
        for axis in (among, in_time):
            axis.set_axis_off()
        among.set_title("no scores of this run; make paper makes them", fontsize=8)
        return
    test, index = scores.test, explorer.run.frames.index
    edges = np.histogram_bin_edges(test["score"], 30)
    for value, word in ((0, "normal"), (1, "anomalous")):
        part = test.loc[test["label"] == value, "score"]
        among.hist(part, edges, density=True, alpha=0.6, color=COLOURS[word], label=word)
    among.axvline(look.score, color="black", linewidth=1)
    at = f", λ at percentile {scores.percentile}" if scores.percentile >= 0 else ""
    among.set_title(f"all test frames{at}; the line: here", fontsize=8)
    among.legend(fontsize=7)
    among.set_yticks([])
    (own,) = index[index["image_id"] == look.frame.ids[0]].itertuples()
    clip = index[index["clip"] == own.clip].assign(at=lambda rows: np.arange(len(rows)))
    clip = clip.merge(test[["image_id", "score"]], on="image_id", how="left")
    in_time.fill_between(
        clip["at"],
        0,
        1,
        where=clip["label"] == 1,
        alpha=0.2,
        color=COLOURS["anomalous"],
        linewidth=0,
        step="mid",
        transform=in_time.get_xaxis_transform(),
    )
    scored = clip.dropna(subset="score")
    in_time.plot(scored["at"], scored["score"], marker=".", markersize=3, linewidth=0.8, color=COLOURS["normal"])
    in_time.axvline(clip.loc[clip["image_id"] == look.frame.ids[0], "at"].item(), color="black", linewidth=1)
    in_time.set_title(f"{own.clip} in time; shaded: anomalous", fontsize=8)
    in_time.set_xlabel("frame", fontsize=7)


# -- what is moved ---------------------------------------------------------------------------------------------------


def controls(explorer: Explorer) -> ipywidgets.Widget:
    """Thumbnails and menus to pick a frame, buttons and sliders, and beneath them the picture, which follows."""
    buttons = partial(ipywidgets.ToggleButtons, style={"button_width": "auto"})
    slider = {"continuous_update": False, "style": {"description_width": "initial"}}
    own = explorer.run.profile.detectors
    clips = sorted(explorer.run.frames.index["clip"][explorer.splits == "test"].unique())
    filters = {
        "clip": ipywidgets.Dropdown(options=[("all clips", ""), *((clip, clip) for clip in clips)], description="clip"),
        "label": buttons(options=list(LABELS), description="frames"),
        "order": ipywidgets.Dropdown(options=ORDERS, description="order"),
    }
    frame = ipywidgets.Dropdown(options=explorer.choices(), description="frame")
    model = buttons(options=list(COMBINATIONS.values()), description="model")
    method = buttons(options=[(name.replace("_", " "), name) for name in METHODS], description="method")
    numbers = {
        "percentile": ipywidgets.FloatSlider(80, max=100, step=1, description="λ, percentile", **slider),
        "N": ipywidgets.IntSlider(own.n_restorations, min=1, max=15, description="N", **slider),
        "k": ipywidgets.FloatSlider(own.weight_temperature, min=0.1, max=10, step=0.1, description="k", **slider),
    }
    shown = {
        "opacity": ipywidgets.FloatSlider(0.5, max=1, step=0.05, description="opacity", **slider),
        "step": ipywidgets.IntSlider(0, max=explorer.run.grid[0] * explorer.run.grid[1], description="step", **slider),
    }
    frame.add_class("vqad-frame")
    row = ipywidgets.IntText(frame.value)  # what is looked at; the menu is empty, or at its first, while it is filled
    sheet, last = ipywidgets.HBox(layout={"flex_flow": "row wrap"}), {"filling": False}

    def filtered(*_: object) -> None:
        given = {key: widget.value for key, widget in filters.items()}
        options = explorer.choices(**given, model=model.value, method=method.value)
        sheet.children = [_thumbnail(explorer, name, at, row) for name, at in [*options.items()][:THUMBNAILS]]
        last["filling"] = True
        frame.options = [*options.items()]
        last["filling"] = False
        row.value = row.value if row.value in options.values() else next(iter(options.values()), NO_FRAME)
        picked()

    def picked(*_: object) -> None:
        """The menu follows the frame, which a thumbnail may have changed."""
        if row.value in dict(frame.options).values():
            frame.value = row.value

    def menu(change: dict) -> None:
        if not last["filling"] and change["new"] is not None:
            row.value = change["new"]

    def show(opacity: float, step: int, **asked: int | str | float) -> None:
        if asked["row"] == NO_FRAME:
            print("no such frames; take another clip, or all frames")
            return
        try:
            if asked != last.get("asked"):  # opacity and step need nothing computed
                last.update(look=explorer.look(**asked), asked=asked)
            by = {"model": asked["model"], "method": asked["method"]}
            display(draw(explorer, last["look"], **by, opacity=opacity, step=step))
        except VqadError as error:
            print(error)

    for widget in (*filters.values(), model, method):
        widget.observe(filtered, "value")
    frame.observe(menu, "value")
    row.observe(picked, "value")
    filtered()
    picture = ipywidgets.interactive_output(show, {"row": row, "model": model, "method": method} | numbers | shown)
    play = ipywidgets.Play(max=shown["step"].max, interval=1000)
    ipywidgets.jslink((play, "value"), (shown["step"], "value"))
    rows = [ipywidgets.HBox([*group.values()]) for group in (filters, numbers, shown)]
    rows[-1].children += (play,)
    return ipywidgets.VBox([rows[0], sheet, frame, model, method, *rows[1:], picture])


def _thumbnail(explorer: Explorer, name: str, at: int, row: ipywidgets.IntText) -> ipywidgets.Widget:
    """The frame, and beneath it a button that picks it."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(explorer.run.frames.images[at]).transpose(1, 2, 0)).resize((96, 96)).save(file, "png")
    button = ipywidgets.Button(description=name.split()[-1], tooltip=name, layout={"width": "100px"})
    button.on_click(lambda _: setattr(row, "value", at))
    return ipywidgets.VBox([ipywidgets.Image(value=file.getvalue(), width=96, height=96), button])
