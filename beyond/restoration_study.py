"""Restoration, studied (section 6.1): how many restorations, at which lambda, by which weights, and on which codes.

One set of restorations serves all: noise is addressed, so the first n of many are those that a run with N = n makes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from beyond.clock import seconds_per_image
from vqad_lib.analysis.detection import paired_row
from vqad_lib.config import DetectorConfig
from vqad_lib.detectors.chunks import nll_of_frames
from vqad_lib.detectors.local import images_and_signals
from vqad_lib.detectors.residuals import anomaly_map, restoration_score
from vqad_lib.detectors.sample_wise import thresholds_at
from vqad_lib.detectors.scoring import DETECTORS, RESTORATIONS, Detectors
from vqad_lib.experiment.networks import load_detectors, train_combination
from vqad_lib.experiment.run import Run
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.progress import progress
from vqad_lib.reporting.figures import legend_beneath

NUMBERS = (1, 2, 5, 10, 20, 50)  # up to ten times the profile's own
TEMPERATURES = (0.0, 1.0, 3.0, 10.0, 30.0)  # k of eq. 11
STUDIED = (("vqvae", "pixelsnail"), ("vqgan", "gpt2"))
CLOCKED = 16  # frames
_SHOWN_N, _LARGE_GRID = 5, 16
SIZES_BY = {"autoencoder": "vqvae", "prior": "pixelsnail"}  # the quickest to train
MOST_EPOCHS = 3  # of the networks of other sizes
_CHUNK = 32  # images whose maps are held at once


def spread(run: Run, scheme: str, n: int = 0) -> NDArray[np.int64]:
    """Row numbers of n test frames, evenly spread; all where there are fewer. n is four times `speed.images` if 0."""
    rows = np.flatnonzero(run.splits(scheme) == "test")
    return rows[np.linspace(0, len(rows) - 1, min(n or 4 * run.profile.speed.images, len(rows))).round().astype(int)]


def numbers_of(run: Run) -> tuple[int, ...]:
    """The N that are tried."""
    return tuple(n for n in NUMBERS if n <= 10 * run.profile.detectors.n_restorations)


def lambdas(run: Run, scorer: Detectors, scheme: str) -> dict[int, float]:
    """The thresholds that stand at the profile's percentiles of validation codes' NLLs: percentile -> nats."""
    rows = np.flatnonzero(run.splits(scheme) == "validation")
    return thresholds_at(nll_of_frames(scorer, run.frames.images, rows), scorer.config.threshold_percentiles)


@torch.no_grad()
def restoration_rows(run: Run, scorer: Detectors, *, scheme: str, numbers: tuple[int, ...]) -> pd.DataFrame:
    """Both restorations at every lambda, N and weight of eq. 11, against regeneration on the same test frames.

    Returns:
        detector, percentile, n, denominator, k, auroc, regenerative (its AUROC), difference (auroc less regenerative)
        and, at the profile's own denominator and k, its 95% bounds (paired; over whole clips on scheme official), and
        pixel_auroc where there are masks; replaced, the mean share of codes that a restoration changes.
    """
    rows = spread(run, scheme)
    index = run.frames.index.iloc[rows]
    images, ids = to_unit_range(run.images(rows)), index["image_id"].tolist()
    codes, labels, own = scorer.encode(images), index["label"].to_numpy(), scorer.config
    many = replace(scorer, config=replace(own, n_restorations=max(numbers)))
    theirs = scorer.residual_sums(images, codes[:, None])[0][:, 0].double().cpu().numpy()
    found, area = [], float(roc_auc_score(labels, theirs))
    for key in RESTORATIONS:
        for percentile, nats in lambdas(run, scorer, scheme).items():
            restored = many.restored_codes(codes, ids, detector=key, thresholds_nats=[nats])[:, 0]  # B N h w
            difference, smoothed = scorer.residual_sums(images, restored)
            replaced = float((restored != codes[:, None]).double().mean())
            of_masks = _pixel_aurocs(run, scorer, rows, images, restored, numbers)
            for n in numbers:
                for denominator, k in _weights(own):
                    config = replace(own, weight_denominator=denominator, weight_temperature=k)
                    of = difference[:, :n], smoothed[:, :n]
                    score = restoration_score(*of, config, values=images[0].numel()).double().cpu().numpy()
                    row = {"detector": key, "percentile": percentile, "n": n, "denominator": denominator, "k": k}
                    row |= {"auroc": float(roc_auc_score(labels, score)), "regenerative": area}
                    row |= {"difference": row["auroc"] - area, "replaced": replaced}
                    if (denominator, k) == (own.weight_denominator, own.weight_temperature):
                        row |= paired_row(run, index, score, theirs, scheme=scheme, what=f"{key}, N = {n}")
                        row["pixel_auroc"] = of_masks[n]
                    found.append(row)
    return pd.DataFrame(found, columns=_COLUMNS)


_COLUMNS = ("detector", "percentile", "n", "denominator", "k", "auroc", "regenerative", "difference")
_COLUMNS += ("difference_low", "difference_high", "pixel_auroc", "replaced")


def _weights(config: DetectorConfig) -> list[tuple[str, float]]:
    own = (config.weight_denominator, config.weight_temperature)
    return sorted({(denominator, k) for denominator in ("mean", "sum") for k in TEMPERATURES} | {own})


def _pixel_aurocs(
    run: Run, scorer: Detectors, rows: NDArray, images: Tensor, restored: Tensor, numbers: tuple[int, ...]
) -> dict[int, float]:
    """How well the map of eq. 12 of the first n restorations meets the masks, for each n."""
    if run.frames.masks is None:
        return dict.fromkeys(numbers, np.nan)
    maps: dict[int, list[Tensor]] = {n: [] for n in numbers}
    for some, grids in zip(images.split(_CHUNK), restored.split(_CHUNK), strict=True):
        restorations = scorer.decode(grids)
        for n in numbers:
            maps[n].append(anomaly_map(some, restorations[:, :n], scorer.config).cpu())
    return {n: pixel_auroc(run, rows, torch.cat(of).numpy()) for n, of in maps.items()}


def pixel_auroc(run: Run, rows: NDArray, maps: NDArray) -> float:
    """Pixel AUROC; NaN where there are no masks, or no pixel or every pixel is anomalous."""
    masks = None if run.frames.masks is None else run.frames.masks[rows].ravel()
    known = masks is not None and masks.any() and not masks.all()
    return float(roc_auc_score(masks, maps.ravel())) if known else np.nan


def combination_rows(run: Run, *, scheme: str) -> pd.DataFrame:
    """`restoration_rows` of two trained combinations, which have each network once, and what restoring an image costs.

    Returns:
        model, the columns above, and seconds_per_image at the profile's own weights and the percentile of
        `evaluation.unsupervised_percentile`, NaN elsewhere: a few test frames at once, encoding included.
    """
    found = []
    for autoencoder, prior in progress(STUDIED, what="restorations", unit="combination"):
        scorer = load_detectors(run, autoencoder=autoencoder, prior=prior, scheme=scheme)
        rows = restoration_rows(run, scorer, scheme=scheme, numbers=numbers_of(run))
        rows.insert(0, "model", COMBINATIONS[autoencoder, prior])
        found.append(rows.merge(_seconds(run, scorer, scheme), how="left"))
    return pd.concat(found, ignore_index=True)


def _seconds(run: Run, scorer: Detectors, scheme: str) -> pd.DataFrame:
    fixed, own, found = run.profile.evaluation.unsupervised_percentile, scorer.config, []
    thresholds = {fixed: lambdas(run, scorer, scheme)[fixed]}
    for key in RESTORATIONS:
        for n in numbers_of(run):
            timed = replace(scorer, config=replace(own, n_restorations=n))
            seconds = seconds_per_image(run, timed, spread(run, scheme, CLOCKED), {key: thresholds})
            row = {"detector": key, "percentile": fixed, "n": n, "denominator": own.weight_denominator}
            found.append(row | {"k": own.weight_temperature, "seconds_per_image": seconds})
    return pd.DataFrame(found)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Another size of the codes, and what it changes in the profile, key -> value."""

    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)


def sizes(run: Run) -> dict[str, Size]:
    """Grids from 4x4 to 32x32, codebooks of 16 to 2048 codes, codes of fewer and more dimensions; and as the profile
    has them, but with an autoencoder that has seen painted defects (`autoencoder.coverage`); by name.

    A grid is made finer by leaving out the last levels of the autoencoder, coarser by repeating the last one.
    """
    config, (side, _) = run.profile.autoencoder, run.grid
    found = {"profile": Size(title=f"{side}x{side} codes, K = {config.codebook_size}, D = {config.latent_dim}")}
    for other in (4, 8, 16, 32):
        levels = len(config.channels) + round(np.log2(side / other))
        if other != side and levels > 1 and other * 2 ** (levels - 1) == run.profile.data.image_size_px:
            channels = (*config.channels, *config.channels[-1:] * levels)[:levels]
            # a prior of a thousand positions takes many times as long
            once = {"training.pixelsnail.max_epochs": 1} if other > _LARGE_GRID else {}
            changes = {"autoencoder.channels": channels} | once
            found[f"grid_{other}"] = Size(title=f"{other}x{other} codes", changes=changes)
    for key, letter, values in (("codebook_size", "K", (16, 512, 2048)), ("latent_dim", "D", (8, 256))):
        for value in values:
            if value != getattr(config, key):
                found[f"{letter}_{value}"] = Size(title=f"{letter} = {value}", changes={f"autoencoder.{key}": value})
    if config.coverage == "none":
        found["coverage"] = Size(title="taught on defects too", changes={"autoencoder.coverage": "defects"})
    return found


def size_rows(run: Run, *, scheme: str, most_epochs: int = MOST_EPOCHS) -> pd.DataFrame:
    """Train a VQ-VAE and a PixelSNAIL for each of `sizes`, briefly, and score the same test frames.

    Returns:
        size, title, side (of the grid), sample_wise, light_pixel_wise, pixel_wise, regenerative (AUROC; the first three
        at the profile's unsupervised percentile), difference of pixel_wise to regenerative with its bounds, pixel_auroc
        of pixel-wise restoration, regenerative_pixel_auroc and nll_pixel_auroc where there are masks, and
        seconds_per_image of pixel-wise restoration.
    """
    return pd.DataFrame(_size_rows(run, scheme, most_epochs))


def _size_rows(run: Run, scheme: str, most_epochs: int) -> Iterator[dict]:
    fixed, own = run.profile.evaluation.unsupervised_percentile, run.profile.detectors
    caps = {
        f"training.{kind}.max_epochs": min(most_epochs, getattr(run.profile.training, kind).max_epochs)
        for kind in SIZES_BY.values()
    }
    for name, size in progress(sizes(run).items(), what="sizes", unit="size"):
        changed = run.changed({**caps, **size.changes, "detectors.threshold_percentiles": (fixed,)})
        train_combination(changed, **SIZES_BY, scheme=scheme)
        scorer = load_detectors(changed, **SIZES_BY, scheme=scheme)
        rows = restoration_rows(changed, scorer, scheme=scheme, numbers=(own.n_restorations,))
        at = rows[(rows["denominator"] == own.weight_denominator) & (rows["k"] == own.weight_temperature)]
        at, thresholds = at.set_index("detector"), lambdas(changed, scorer, scheme)
        some, pixel_wise = spread(run, scheme), at.loc["pixel_wise"]
        images, ids = to_unit_range(run.images(some)), run.frames.index["image_id"].iloc[some].tolist()
        scores = scorer.scores(images, ids, {"sample_wise": thresholds})["sample_wise", fixed]
        maps = scorer.heatmaps(images, ids, detector="regenerative")[0].cpu().numpy()
        with torch.no_grad():
            nll = images_and_signals(scorer.autoencoder, scorer.prior, images, window_px=1)[:, -1].cpu().numpy()
        row = {"size": name, "title": size.title, "side": changed.grid[0]}
        row["sample_wise"] = float(roc_auc_score(run.frames.index["label"].to_numpy()[some], scores))
        row |= at["auroc"].to_dict() | {"regenerative": pixel_wise["regenerative"]}
        row |= pixel_wise[["difference", "difference_low", "difference_high", "pixel_auroc"]].to_dict()
        clocked = spread(run, scheme, CLOCKED)
        seconds = seconds_per_image(changed, scorer, clocked, {"pixel_wise": thresholds})
        row |= {
            f"{name}_pixel_auroc": pixel_auroc(run, some, of) for name, of in (("regenerative", maps), ("nll", nll))
        }
        yield row | {"seconds_per_image": seconds}


def settings_figure(rows: pd.DataFrame, other: pd.DataFrame, config: DetectorConfig) -> Figure:
    """AUROC over N at each lambda, over k for both denominators, of the last model; and of each size of the codes.

    Args:
        rows, other: as `combination_rows` and `size_rows` return them.
        config: whose own weights and percentiles are drawn.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 4.6), width_ratios=[1, 1, 1.2])
    of_model = rows[rows["model"] == rows["model"].iloc[-1]]
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(config.threshold_percentiles)))
    for key, line in (("pixel_wise", "-"), ("light_pixel_wise", "--")):
        of = of_model[of_model["detector"] == key]
        own = of[(of["k"] == config.weight_temperature) & (of["denominator"] == config.weight_denominator)]
        for colour, (percentile, at) in zip(colours, own.groupby("percentile"), strict=True):
            label = f"λ at {percentile}%" if line == "-" else None
            left.plot(at["n"], at["auroc"], line, color=colour, label=label)
        by_weight = of[of["n"] == _SHOWN_N].groupby(["denominator", "k"])["auroc"].mean()
        for colour, (name, by_k) in zip(("#d95f02", "#1b9e77"), by_weight.groupby("denominator"), strict=True):
            k = by_k.index.get_level_values("k")
            middle.plot(k, by_k, line, color=colour, label=f"the {name}" if line == "-" else None)
    model, numbers = of_model["model"].iloc[0], of_model["n"].unique()
    titles = f"{model}: pixel-wise (—), light (- -)", f"{model}: denominator of eq. 11, N = {_SHOWN_N}"
    for axis, title, x in ((left, titles[0], "N"), (middle, titles[1], "k")):
        axis.axhline(of_model["regenerative"].iloc[0], color="#555555", ls=":", label="regeneration")
        axis.set(title=title, xlabel=x, ylabel="AUROC")
        legend_beneath(axis, ncols=3, fontsize=7)
    left.set_xscale("log")
    left.set_xticks(numbers, numbers)
    left.minorticks_off()
    middle.set_xscale("symlog", linthresh=1)
    middle.set_xlim(left=0)
    middle.set_xticks(TEMPERATURES, [f"{k:g}" for k in TEMPERATURES])
    for name, marker in (("sample_wise", "o"), ("pixel_wise", "s"), ("light_pixel_wise", "^"), ("regenerative", "x")):
        right.plot(other[name], np.arange(len(other)), marker, ls="", label=DETECTORS[name].title)
    right.set_yticks(np.arange(len(other)), other["title"], fontsize=7)
    right.set(xlabel="AUROC", title="other codes")
    legend_beneath(right, ncols=2, fontsize=7)
    return figure
